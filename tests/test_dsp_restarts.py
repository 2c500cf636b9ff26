"""Devices that begin anew, with or without saying so, and clocks that jump: none is dropped for ever, none twice."""

from __future__ import annotations

import dataclasses
from itertools import accumulate

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.dsp.engine import Engine, Features
from app.offline import ecg_features
from app.pipelines import shipped_pipelines
from app.sources import builtin_ecg
from tests.feeding import Block, Partition, move

ECG = builtin_ecg().channel(0)
PIPELINE = shipped_pipelines()["ecg"]
BEGIN = 1_700_000_000_000
LENGTH = 256
BLOCK_MS = 1024
#: Blocks behind that are dropped before the next one begins anew: 10 s of them.
DROPPED = 10


def partition() -> Partition:
    return Partition(Engine(PIPELINE))


def at(number: int, *, seq: bool = True, by: int = 0, back: int = 0, stream: str | None = None) -> Block:
    """Give a block of a stream: its clock off by some ms, its count behind by some blocks."""
    samples = ECG[number * LENGTH : (number + 1) * LENGTH]
    index = (number - back) * LENGTH if seq else None
    return Block("s", samples, index, BEGIN + number * BLOCK_MS + by, stream=stream)


def ordinary(features: Features) -> bool:
    return not sum(features.events.values()) and not features.deferred


def happened(features: Features) -> dict[str, int]:
    return {event: count for event, count in features.events.items() if count}


def assert_anew(features: Features, row: int, first: int, last: int) -> None:
    """Check that a row has the features of blocks from the first to the last, from fresh state."""
    ends = [(last - first + 1) * LENGTH]
    expected = ecg_features(ECG[first * LENGTH :], ends)[0]
    np.testing.assert_allclose(np.where(features.full[row], features.values[row], np.nan), expected, rtol=1e-9, atol=0)


# --- Stream ids ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seq", [True, False])
@pytest.mark.parametrize("by", [0, -10_000_000, 10_000_000])
@pytest.mark.parametrize("confirmed", [True, False])
def test_a_new_stream_id_begins_anew_whatever_its_time(seq, by, confirmed):
    feed = partition()
    assert ordinary(feed.feed(at(0, stream="a"), at(1, stream="a")))
    sent = [at(n, seq=seq, by=by, back=2, stream="b") for n in (2, 3)]
    features = feed.feed(*sent, confirmed=confirmed)
    assert (features.seq, features.gap, happened(features)) == ([0, 256], [0, 0], {"restart": 1})
    assert_anew(features, 1, 2, 3)
    sensor = feed.engine.sensors["s"]
    assert (sensor.age, sensor.stream, sensor.previous, sensor.since) == ((1, 512), "b", "a", 0)


def test_a_new_stream_may_begin_at_any_index():
    feed = partition()
    feed.feed(at(0, stream="a"), at(1, stream="a"))
    features = feed.feed(at(2, stream="b"))
    assert (features.seq, features.gap, happened(features)) == ([512], [0], {"restart": 1})
    assert_anew(features, 0, 2, 2)


def test_a_late_block_of_the_stream_before_is_dropped():
    feed = partition()
    feed.feed(at(0, stream="a"), at(2, back=2, stream="b"))
    features = feed.feed(at(1, stream="a"), at(3, back=2, stream="b"))
    assert (features.seq, happened(features)) == ([256], {"late": 1})
    assert_anew(features, 0, 2, 3)


def test_a_device_that_goes_back_to_its_stream_is_dropped_for_seconds_only():
    feed = partition()
    feed.feed(at(0, stream="a"), at(1, back=1, stream="b"))
    features = feed.feed(*(at(2 + n, stream="a") for n in range(DROPPED + 3)))
    assert happened(features) == {"late": DROPPED, "restart": 1}
    assert features.seq == [(12 + n) * LENGTH for n in range(3)]
    assert features.gap == [DROPPED * LENGTH, 0, 0]
    assert (feed.engine.sensors["s"].stream, feed.engine.sensors["s"].previous) == ("a", "b")


def test_blocks_without_an_id_belong_to_the_stream_in_hand():
    feed = partition()
    features = feed.feed(at(0, stream="a"), at(1), at(2, stream="a"))
    assert ordinary(features)
    assert feed.engine.sensors["s"].stream == "a"


def test_a_device_that_begins_to_send_ids_begins_anew():
    features = partition().feed(at(0), at(1, stream="a"))
    assert happened(features) == {"restart": 1}
    assert_anew(features, 1, 1, 1)


# --- Counting anew ------------------------------------------------------------------------------------------------


def test_a_device_whose_first_block_was_lost_is_dropped_for_seconds_only():
    """It counts from 0 again, but the block that says so never came."""
    feed = partition()
    feed.feed(*(at(n) for n in range(40)))
    features = feed.feed(*(at(n, back=40) for n in range(41, 41 + DROPPED + 2)))
    assert happened(features) == {"duplicate": DROPPED, "restart": 1}
    assert features.seq == [11 * LENGTH, 12 * LENGTH]
    assert features.gap == [DROPPED * LENGTH, 0]
    assert_anew(features, 1, 51, 52)
    assert feed.engine.sensors["s"].age == (1, 13 * LENGTH)


@pytest.mark.parametrize("count", [5, 40, 280])
def test_blocks_that_are_sent_again_never_begin_anew(count):
    """However many: they are of the time that they were of."""
    feed = partition()
    sent = [at(n) for n in range(count)]
    feed.feed(*sent)
    features = feed.feed(*sent, *sent, at(count))
    assert (features.seq, happened(features)) == ([count * LENGTH], {"duplicate": 2 * count})


def test_few_blocks_behind_are_dropped():
    feed = partition()
    feed.feed(*(at(n) for n in range(40)))
    features = feed.feed(*(at(n, back=30) for n in range(40, 40 + DROPPED)), at(40), at(41))
    assert (features.seq, happened(features)) == ([40 * LENGTH, 41 * LENGTH], {"duplicate": DROPPED})


def test_blocks_behind_that_do_not_follow_one_another_are_dropped():
    feed = partition()
    feed.feed(*(at(n) for n in range(60)))
    features = feed.feed(*(at(n, back=30 + 2 * (n % 2)) for n in range(60, 90)))
    assert (features.seq, happened(features)) == ([], {"duplicate": 30})


# --- Clocks, where blocks have an index ---------------------------------------------------------------------------


@given(jumps=st.lists(st.integers(-(10**9), 10**9), min_size=1, max_size=12))
@settings(max_examples=50)
def test_a_clock_that_jumps_changes_nothing_where_blocks_have_an_index(jumps):
    """Each jump of over half a block is counted."""
    offsets = [0, *accumulate(jumps)]
    features = partition().feed(*(at(n, by=by) for n, by in enumerate(offsets)))
    steady = partition().feed(*(at(n) for n in range(len(offsets))))
    assert features.values.tobytes() == steady.values.tobytes()
    assert (features.seq, features.gap) == (steady.seq, steady.gap)
    assert features.events["clock_jump"] == sum(abs(jump) > BLOCK_MS / 2 for jump in jumps)
    assert sum(features.events.values()) == features.events["clock_jump"]


def test_a_gap_is_no_clock_jump_and_a_jump_in_a_gap_is_one():
    features = partition().feed(at(0), at(5), at(9, by=600))
    assert happened(features) == {"gap_reset": 2, "clock_jump": 1}


# --- Clocks alone -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("back", [11_000, 60_000, 10**9])
def test_a_device_whose_clock_is_set_back_is_dropped_for_seconds_only(back):
    feed = partition()
    feed.feed(*(at(n, seq=False) for n in range(20)))
    features = feed.feed(*(at(n, seq=False, by=-back) for n in range(20, 20 + DROPPED + 3)))
    kind = "duplicate" if back < 20 * BLOCK_MS else "late"
    assert happened(features) == {kind: DROPPED, "restart": 1}
    assert features.seq == [(20 + DROPPED + n) * LENGTH for n in range(3)], "(sensorId, seq) still names one record"
    assert features.gap == [DROPPED * LENGTH, 0, 0]
    assert_anew(features, 2, 20 + DROPPED, 22 + DROPPED)


def test_a_clock_that_was_once_far_ahead_is_believed_for_seconds_only():
    feed = partition()
    feed.feed(*(at(n, seq=False) for n in range(5)), at(5, seq=False, by=10**9))
    features = feed.feed(*(at(n, seq=False) for n in range(6, 6 + DROPPED + 1)))
    assert (features.events["late"], features.events["restart"], len(features.seq)) == (DROPPED, 1, 1)


@pytest.mark.parametrize("back", [1, 5, 9])
def test_what_a_device_sends_again_after_a_lost_reply_is_dropped(back):
    feed = partition()
    feed.feed(*(at(n, seq=False) for n in range(20)))
    features = feed.feed(*(at(n, seq=False) for n in range(20 - back, 23)))
    assert (features.seq, happened(features)) == ([n * LENGTH for n in (20, 21, 22)], {"duplicate": back})


def test_what_is_sent_again_time_and_again_adds_up_to_nothing():
    """Each time it catches up with the stream, and each time goes on where it had left off."""
    feed = partition()
    feed.feed(*(at(n, seq=False) for n in range(20)))
    features = feed.feed(*(at(n, seq=False) for n in (*range(11, 25), *range(20, 30))))
    assert (features.seq, happened(features)) == ([n * LENGTH for n in range(20, 30)], {"duplicate": 9 + 5})


def test_a_clock_set_back_by_less_catches_up():
    feed = partition()
    feed.feed(*(at(n, seq=False) for n in range(20)))
    features = feed.feed(*(at(n, seq=False, by=-5 * BLOCK_MS) for n in range(20, 30)))
    assert happened(features) == {"duplicate": 5}
    assert (features.seq, features.gap) == ([n * LENGTH for n in range(20, 25)], [0] * 5)


def test_one_message_read_again_proves_nothing():
    """A frame of half a minute of one sensor, whose first blocks had been consumed when the rest was deferred."""
    feed = partition()
    framed = [*(at(n, seq=False) for n in range(30)), at(50, seq=False)]
    framed = [dataclasses.replace(one, offset=7) for one in framed]
    features = feed.feed(*framed, confirmed=False)
    assert len(features.seq) == 30
    assert feed.engine.sensors["s"].position.offset == 7
    move(feed.engine, ["s"])
    features = feed.feed(*framed, confirmed=False)
    assert (features.seq, happened(features)) == ([], {"duplicate": 30})
    assert [deferral.blocks for deferral in features.deferred.values()] == [[30]]


# --- In any batches -----------------------------------------------------------------------------------------------

blocks_of_all_kinds = st.builds(
    at,
    st.integers(0, 60),
    seq=st.booleans(),
    by=st.sampled_from([0, 0, 400, -60_000, 10**7]),
    back=st.sampled_from([0, 0, 0, 30]),
    stream=st.sampled_from([None, None, "a", "b", "c"]),
)


@st.composite
def streams(draw: st.DrawFn) -> list[Block]:
    """Pieces of streams, each of blocks that follow one another."""
    sent: list[Block] = []
    for _ in range(draw(st.integers(1, 5))):
        first, count, seq = draw(st.integers(0, 60)), draw(st.integers(1, 16)), draw(st.booleans())
        by, back = draw(st.sampled_from([0, 0, -60_000, 10**7])), draw(st.sampled_from([0, 0, 30]))
        stream = draw(st.sampled_from([None, None, "a", "b"]))
        sent += [at(n, seq=seq, by=by, back=min(back, first), stream=stream) for n in range(first, first + count)]
    return sent + draw(st.lists(blocks_of_all_kinds, max_size=3))


@given(sent=streams(), data=st.data())
@settings(max_examples=150)
def test_the_same_happens_in_any_batches_and_after_any_crash(sent, data):
    """Whatever comes: cut into batches, saved and restored, or read again from the last snapshot's beginning."""
    sent = [
        dataclasses.replace(one, seq=None if one.seq is None else max(one.seq, 0), offset=n)
        for n, one in enumerate(sent)
    ]
    whole = partition().feed(*sent)
    feed = partition()
    records, events, start = [], dict.fromkeys(whole.events, 0), 0
    while start < len(sent):
        end = data.draw(st.integers(start + 1, len(sent)))
        features = feed.feed(*sent[start:end])
        records += list(
            zip(features.seq, features.gap, map(bytes, features.values), map(bytes, features.full), strict=True)
        )
        events = {event: events[event] + count for event, count in features.events.items()}
        move(feed.engine, ["s"])
        start = end
        if data.draw(st.booleans()):  # a crash: what was committed may be older than the snapshot
            again = data.draw(st.integers(0, start))
            replayed = feed.feed(*sent[again:start]) if again < start else None
            assert replayed is None or (
                not replayed.seq and happened(replayed).keys() <= {"replayed", "duplicate", "late"}
            )
    expected = zip(whole.seq, whole.gap, map(bytes, whole.values), map(bytes, whole.full), strict=True)
    assert records == list(expected)
    assert events == whole.events


@given(sent=streams())
@settings(max_examples=100)
def test_every_block_is_consumed_or_counted_as_dropped(sent):
    sent = [dataclasses.replace(one, seq=None if one.seq is None else max(one.seq, 0)) for one in sent]
    feed = partition()
    last = (0, -1)
    for one in sent:
        features = feed.feed(one)
        dropped = features.events["late"] + features.events["duplicate"]
        assert len(features.seq) + dropped == 1
        age = feed.engine.sensors["s"].age
        assert age == last if dropped else age > last, "a state that goes on is a newer one"
        last = age
