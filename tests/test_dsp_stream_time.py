"""Stream time: gaps, late and repeated blocks, devices that start anew, replays after a crash, and timestamps alone."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.dsp.engine import Engine, Features
from app.dsp.pipeline import Pipeline
from app.dsp.pipeline_file import parse_pipeline
from app.dsp.stream import Deferral
from app.offline import ecg_features
from app.pipelines import shipped_pipelines
from app.sources import builtin_ecg
from tests.feeding import Block, Partition, blocks, move

ECG = builtin_ecg().channel(0)
PIPELINE = shipped_pipelines()["ecg"]
BEGIN = 1_700_000_000_000


def partition(pipeline: Pipeline = PIPELINE) -> Partition:
    return Partition(Engine(pipeline))


def at_rate(rate: float) -> Pipeline:
    return parse_pipeline(
        f'name="rms"\nsample_rate={rate}\n[[stages]]\ntype="moving_rms"\nwindow=5\n[features]\nrms="moving_rms"',
        "rms.toml",
    )


def dropped(features: Features) -> int:
    return features.events["duplicate"] + features.events["late"]


def assert_features(features: Features, numbers: list[int], expected: np.ndarray) -> None:
    """Check that the blocks of these numbers gave these values, NaN where not full."""
    assert features.block.tolist() == numbers
    np.testing.assert_allclose(np.where(features.full, features.values, np.nan), expected, rtol=1e-9, atol=0)


# --- By index -----------------------------------------------------------------------------------------------------


def test_a_gap_starts_state_anew_and_is_counted():
    one, _, three, four = blocks("s", ECG, [300, 256, 300, 256])
    features = partition().feed(one, three, four)
    assert (features.seq, features.gap) == ([0, 556, 856], [0, 256, 0])
    expected = np.concatenate([ecg_features(ECG[:300], [300]), ecg_features(ECG[556:1112], [300, 556])])
    assert_features(features, [0, 1, 2], expected)


def test_late_and_repeated_blocks_are_dropped_and_counted():
    one, two, three = blocks("s", ECG, [256, 256, 256])
    features = partition().feed(one, one, three, two, three, one)
    assert (features.seq, features.gap, dropped(features)) == ([0, 512], [0, 256], 4)
    assert features.block.tolist() == [0, 2]


def test_a_block_that_overlaps_what_was_consumed_is_late():
    feed = partition()
    feed.feed(Block("s", ECG[:256], 0))
    features = feed.feed(Block("s", ECG[200:456], 200))
    assert (features.events["late"], features.block.tolist()) == (1, [])


class Sent(NamedTuple):
    sensor: int
    block: int


@st.composite
def losses(draw: st.DrawFn) -> tuple[int, list[Sent], list[bool], list[list[int]]]:
    """Blocks of some sensors of which some come late, twice or never; batch cuts; sensors that move."""
    sensors, count = draw(st.integers(1, 3)), 8
    sent = []
    for sensor in range(sensors):
        numbers = draw(st.lists(st.integers(0, count - 1), min_size=1, max_size=10))
        sent.append([Sent(sensor, number) for number in numbers])
    order = draw(st.permutations([sensor for sensor, own in enumerate(sent) for _ in own]))
    streams = [iter(own) for own in sent]
    merged = [next(streams[sensor]) for sensor in order]
    cuts = draw(st.lists(st.booleans(), min_size=len(merged), max_size=len(merged)))
    moved = st.lists(st.integers(0, sensors - 1), unique=True)
    return sensors, merged, cuts, draw(st.lists(moved, min_size=len(merged), max_size=len(merged)))


@given(losses())
@settings(max_examples=60)
def test_any_losses_and_repeats(drawn):
    """Each block is late, or follows, or begins a stretch anew: as a list of indices tells, in any batches."""
    sensors, merged, cuts, moves = drawn
    length = 300
    sent = [blocks(f"s{n}", ECG[n * 5000 :], [length] * 8) for n in range(sensors)]
    feed = partition()
    got: dict[int, list[tuple[int, int, np.ndarray]]] = {n: [] for n in range(sensors)}
    late, batch = 0, []
    for place, one in enumerate(merged):
        batch.append(one)
        if not (cuts[place] or place == len(merged) - 1):
            continue
        features = feed.feed(*(sent[sensor][number] for sensor, number in batch))
        late += dropped(features)
        shown = np.where(features.full, features.values, np.nan)
        for number, seq, gap, values in zip(features.block.tolist(), features.seq, features.gap, shown, strict=True):
            got[batch[number].sensor].append((seq, gap, values))
        batch = []
        move(feed.engine, [f"s{n}" for n in moves[place]])
    behind = 0
    for sensor in range(sensors):
        x = ECG[sensor * 5000 :]
        expected, begin, following = [], 0, None
        for number in [one.block for one in merged if one.sensor == sensor]:
            start = number * length
            if following is not None and start < following:
                behind += 1
                continue
            gap = 0 if following is None else start - following
            if following is None or gap:
                begin = start
            following = start + length
            expected.append((start, gap, ecg_features(x[begin:following], [following - begin])[0]))
        assert [one[:2] for one in got[sensor]] == [one[:2] for one in expected]
        for (_, _, values), (_, _, wanted) in zip(got[sensor], expected, strict=True):
            np.testing.assert_allclose(values, wanted, rtol=1e-9, atol=0)
    assert late == behind


def test_a_device_that_counts_from_zero_again_starts_a_new_stream():
    feed = partition()
    one, two = blocks("s", ECG, [300, 300])
    feed.feed(one, two)
    again = Block("s", ECG[5000:5300], 0, two.timestamp + 60_000)
    features = feed.feed(again)
    assert (features.seq, features.gap, dropped(features)) == ([0], [0], 0)
    assert_features(features, [0], ecg_features(ECG[5000:5300], [300]))
    sensor = feed.engine.sensors["s"]
    assert (sensor.age, sensor.epoch) == ((1, 300), 0), "a lower index is not an older state"
    following = feed.feed(Block("s", ECG[5300:5600], 300, two.timestamp + 61_200))
    assert_features(following, [0], ecg_features(ECG[5000:5600], [600]))


def test_the_first_block_repeated_is_no_restart():
    feed = partition()
    one, two = blocks("s", ECG, [300, 300])
    feed.feed(one, two)
    features = feed.feed(one)
    assert (features.events["duplicate"], feed.engine.sensors["s"].age) == (1, (0, 600))


def test_a_restart_within_a_batch_keeps_what_was_before():
    one, two = blocks("s", ECG, [300, 300])
    again = Block("s", ECG[5000:5300], 0, two.timestamp + 1200)
    features = partition().feed(one, two, again)
    expected = [ecg_features(ECG[:600], [300, 600]), ecg_features(ECG[5000:5300], [300])]
    assert_features(features, [0, 1, 2], np.concatenate(expected))
    assert features.seq == [0, 300, 0]


# --- Gaps not believed yet ----------------------------------------------------------------------------------------


def test_blocks_after_a_gap_are_given_back_until_it_is_confirmed():
    feed = partition()
    mine, others = blocks("s", ECG, [300, 256, 300, 256]), blocks("t", ECG[9000:], [300, 256])
    features = feed.feed(mine[0], others[0], mine[2], others[1], mine[3], confirmed=False)
    sensor, other = feed.engine.sensors["s"], feed.engine.sensors["t"]
    assert features.block.tolist() == [0, 1, 3]
    assert features.deferred == {sensor: Deferral(556, [2, 4])}
    assert (sensor.next_index, sensor.position.offset, other.position.offset) == (300, 2, 5)
    assert sum(features.events.values()) == 0
    move(feed.engine, ["s"])  # a snapshot now does not cover what was given back
    features = feed.feed(*(Block("s", one.samples, one.seq, offset=at) for at, one in ((2, mine[2]), (4, mine[3]))))
    assert (features.seq, features.gap, features.deferred) == ([556, 856], [256, 0], {})
    assert_features(features, [0, 1], ecg_features(ECG[556:1112], [300, 556]))
    assert feed.engine.sensors["s"].position.offset == 5


def test_the_missing_block_makes_what_was_given_back_follow():
    """As a state does that comes from another tier."""
    feed = partition()
    one, two, three = blocks("s", ECG, [300, 256, 300])
    feed.feed(one)
    deferred = feed.feed(three, confirmed=False).deferred
    assert deferred == {feed.engine.sensors["s"]: Deferral(556, [0])}
    feed.end = 1
    features = feed.feed(two, three, confirmed=False)
    assert (features.seq, features.gap, features.deferred) == ([300, 556], [0, 0], {})
    assert_features(features, [0, 1], ecg_features(ECG[:856], [556, 856]))


def test_a_restart_needs_no_confirmation():
    feed = partition()
    one, two = blocks("s", ECG, [300, 300])
    again = Block("s", ECG[5000:5300], 0, two.timestamp + 60_000)
    other = Block("s", ECG[5000:5300], 99, two.timestamp, stream="boot-2")
    features = feed.feed(one, two, again, other, confirmed=False)
    assert (features.seq, features.deferred, features.events["restart"]) == ([0, 300, 0, 99], {}, 2)


# --- Replays ------------------------------------------------------------------------------------------------------


def test_blocks_before_the_snapshots_position_are_skipped_in_its_partition_alone():
    feed = partition()
    mine, others = blocks("s", ECG, [300] * 4), blocks("t", ECG[9000:], [300] * 4)
    feed.feed(mine[0], others[0], mine[1])
    snapshot = feed.engine.snapshots([feed.engine.sensors["s"]])
    expected = feed.feed(mine[2], others[1]).values[0]
    # A crash: the partition is read from its beginning, where only the one sensor has a snapshot.
    feed = partition()
    feed.engine.restore({"s": snapshot[0]})
    features = feed.feed(mine[0], others[0], mine[1], mine[2], others[1])
    assert features.events["replayed"] == 2
    assert features.block.tolist() == [1, 3, 4]
    np.testing.assert_array_equal(features.values[1], expected)
    # The sensor has moved to another partition, whose offsets say nothing about this position.
    elsewhere = Partition(Engine(PIPELINE), number=1)
    elsewhere.engine.restore({"s": snapshot[0]})
    features = elsewhere.feed(mine[2])
    assert (features.events["replayed"], features.block.tolist()) == (0, [0])
    np.testing.assert_array_equal(features.values[0], expected)


def test_a_batch_read_again_gives_the_same_records_as_before():
    """The table lags behind the records sent, so that what is read again repeats them bit for bit."""
    lengths = [300, 7, 256, 1000, 1]
    mine, others = blocks("s", ECG, lengths), blocks("t", ECG[9000:], lengths)
    feed = partition()
    feed.feed(mine[0], others[0])
    snapshots = feed.engine.snapshots(list(feed.engine.sensors.values()))
    first = feed.feed(*mine[1:], *others[1:])
    again = Partition(Engine(PIPELINE))
    again.engine.restore(dict(zip(("s", "t"), snapshots, strict=True)))
    again.end = 2
    second = [again.feed(one) for one in (*mine[1:], *others[1:])]
    assert np.concatenate([one.values for one in second]).tobytes() == first.values.tobytes()


def test_a_frame_holds_several_blocks_of_a_sensor_at_one_offset():
    one, two, three = blocks("s", ECG, [300, 300, 300])
    framed = [Block("s", block.samples, block.seq, offset=17) for block in (one, two)]
    feed = partition()
    feed.end = 17
    features = feed.feed(*framed)
    assert_features(features, [0, 1], ecg_features(ECG[:600], [300, 600]))
    assert feed.engine.sensors["s"].position.offset == 18
    move(feed.engine, ["s"])
    assert feed.feed(*framed).events["replayed"] == 2
    assert_features(feed.feed(three), [0], ecg_features(ECG[:900], [900]))


# --- By timestamp -------------------------------------------------------------------------------------------------


def by_time(times: np.ndarray, length: int) -> list[Block]:
    return [
        Block("s", ECG[n * length : (n + 1) * length], None, BEGIN + int(time)) for n, time in enumerate(times.tolist())
    ]


def indices(features: Features) -> tuple[list[int], int, int]:
    return features.seq, sum(features.gap), dropped(features)


@given(seed=st.integers(0, 10**6), length=st.sampled_from([1, 10, 256]), share=st.floats(0, 0.24))
@settings(max_examples=40)
def test_jitter_of_a_quarter_block_is_contiguous(seed, length, share):
    block = length * 4.0
    jitter = np.random.default_rng(seed).uniform(-share, share, 40) * block
    times = np.trunc(10_000 + np.arange(40) * block + jitter)
    features = partition().feed(*by_time(times, length))
    assert indices(features) == ([n * length for n in range(40)], 0, 0)


@given(late=st.integers(1, 20), share=st.floats(0, 0.49))
@settings(max_examples=40)
def test_a_clock_that_is_set_by_half_a_block_is_contiguous(late, share):
    times = np.arange(30) * 1024.0
    times[late:] += np.trunc(share * 1024)
    assert indices(partition().feed(*by_time(times, 256))) == ([n * 256 for n in range(30)], 0, 0)


@pytest.mark.parametrize("drift", [-0.01, -1e-4, 1e-4, 0.01])
def test_a_drifting_clock_makes_no_gaps_over_hours(drift):
    count = 4 * 3600 * 250 // 256
    feed = partition()
    for start in range(0, count, 500):
        numbers = np.arange(start, min(start + 500, count))
        sent = [
            Block("s", ECG[:256], None, BEGIN + int(time)) for time in np.floor(numbers * 1024 * (1 + drift)).tolist()
        ]
        assert indices(feed.feed(*sent)) == ([int(n) * 256 for n in numbers], 0, 0)


@pytest.mark.parametrize("rate", [360.0, 1000.0, 3000.0, 8000.0, 44_100.0])
@pytest.mark.parametrize("rounding", [np.floor, np.rint, np.ceil])
def test_single_samples_with_whole_milliseconds_are_contiguous(rate, rounding):
    times = rounding(np.arange(5000) * 1000 / rate).astype(int)
    features = partition(at_rate(rate)).feed(
        *(Block("s", ECG[n : n + 1], None, BEGIN + time) for n, time in enumerate(times.tolist()))
    )
    assert indices(features) == (list(range(5000)), 0, 0)


@pytest.mark.parametrize("rate", [10.0, 250.0, 1000.0])
def test_a_single_sample_lost_or_repeated_is_noticed(rate):
    def sample(n: int) -> Block:
        return Block("s", ECG[n : n + 1], None, BEGIN + round(n * 1000 / rate))

    features = partition(at_rate(rate)).feed(sample(0), sample(1), sample(1), sample(2), sample(4), sample(5))
    assert (features.seq, features.gap, dropped(features)) == ([0, 1, 2, 4, 5], [0, 0, 0, 1, 0], 1)


def test_missing_late_and_repeated_blocks_by_timestamp():
    one, two, three, four = by_time(np.arange(4) * 1024, 256)
    features = partition().feed(one, one, three, two, four)
    assert (features.seq, features.gap, dropped(features)) == ([0, 512, 768], [0, 256, 0], 2)
    expected = np.concatenate([ecg_features(ECG[:256], [256]), ecg_features(ECG[512:1024], [256, 512])])
    assert_features(features, [0, 2, 4], expected)


def test_an_index_goes_before_a_timestamp():
    feed = partition()
    feed.feed(Block("s", ECG[:256], 1000, BEGIN))
    features = feed.feed(
        Block("s", ECG[256:512], 1256, BEGIN + 999_999), Block("s", ECG[512:768], None, BEGIN + 999_999 + 1024)
    )
    assert indices(features) == ([1256, 1512], 0, 0)


def test_stream_time_goes_on_after_a_snapshot():
    feed = partition()
    sent = by_time(np.arange(6) * 1024, 256)
    feed.feed(*sent[:2])
    move(feed.engine, ["s"])
    features = feed.feed(*sent[2:4], sent[5])
    assert (features.seq, features.gap) == ([512, 768, 1280], [0, 0, 256])
