"""Warming up: a changed pipeline's state, as if it had run all along."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.dsp.engine import Engine
from app.dsp.pipeline import Pipeline
from app.dsp.pipeline_file import parse_pipeline
from app.dsp.snapshot import Header, read_header
from app.dsp.warmup import USELESS, Choice, RetainedBlock, choose, warm_up
from app.pipelines import shipped_pipelines
from tests.feeding import Block, Partition, two_channels
from tests.system import noise

OLD = shipped_pipelines()["ecg"]


def changed(*, text: str = OLD.text, **policies: object) -> Pipeline:
    """Give `ecg` with other parameters; fast to settle, so that the examples stay small."""
    text = text.replace("cutoff = [0.5, 100.0]", "cutoff = [10.0, 40.0]")
    text = text.replace("window = 50", "window = 60").replace("window = 256", "window = 100")
    return replace(parse_pipeline(text, "changed.toml"), **policies)


NEW = changed()
SETTLE = NEW.settle_samples


def test_what_the_changed_pipeline_needs_is_more_than_its_windows():
    assert 160 < SETTLE < 2000


def at_index(begin: int, length: int, *, seq: bool = True, stream: str | None = None, clock: int = 0) -> Block:
    samples = SIGNAL[begin : begin + length]
    return Block("s", samples, begin if seq else None, 1_700_000_000_000 + clock + begin * 4, stream=stream)


SIGNAL = noise(40_000, 5)


def ran(pipeline: Pipeline, blocks: list[Block]) -> Partition:
    partition = Partition(Engine(pipeline))
    partition.feed(*blocks)
    return partition


def header_of(partition: Partition) -> Header:
    return read_header(partition.engine.snapshots([partition.engine.sensors["s"]])[0])


def retained(blocks: list[Block]) -> list[RetainedBlock]:
    return [
        RetainedBlock(number, block.timestamp, block.seq, block.stream, block.samples)
        for number, block in enumerate(blocks)
    ]


def from_there(snapshot: bytes, pipeline: Pipeline, blocks: list[Block], offset: int):
    partition = Partition(Engine(pipeline))
    partition.engine.restore({"s": snapshot})
    partition.end = offset
    return partition.feed(*blocks)


def same(ours, theirs, rtol: float) -> None:
    assert (ours.seq, ours.gap, ours.events) == (theirs.seq, theirs.gap, theirs.events)
    assert np.array_equal(ours.full, theirs.full)
    np.testing.assert_allclose(ours.values[ours.full], theirs.values[theirs.full], rtol=rtol, atol=0)


@st.composite
def streams(draw: st.DrawFn) -> tuple[list[Block], bool]:
    """Draw a device's blocks: some lost, some sent again, and the device begun anew now and then."""
    seq = draw(st.booleans())
    begin = draw(st.integers(0, 500))
    sent: list[Block] = []
    clock, stream = 0, "a" if draw(st.booleans()) else None
    count = draw(st.integers(10, 60))
    kinds = draw(st.lists(st.sampled_from(["next"] * 12 + ["lost", "again", "anew"]), min_size=count, max_size=count))
    for number, kind in enumerate(kinds):
        length = draw(st.integers(20, 300))
        if kind == "lost":
            begin += draw(st.sampled_from([1, 40, 200, 700]))
        elif kind == "again" and sent:
            sent += sent[-draw(st.integers(1, 6)) :]
        elif kind == "anew" and stream is not None:
            clock += begin * 4
            begin, stream = 0, f"stream {number}"
        sent.append(at_index(begin, length, seq=seq, stream=stream, clock=clock))
        begin += length
    return sent, seq


@pytest.mark.parametrize("gap", ["reset", "hold", "interpolate"])
@given(drawn=streams(), data=st.data())
def test_as_if_it_had_run_all_along(gap, drawn, data):
    blocks, _ = drawn
    new, old = changed(gap=gap), replace(OLD, gap=gap)
    cut = data.draw(st.integers(1, len(blocks)), label="cut")
    first = data.draw(st.integers(0, cut - 1), label="first retained")
    always = ran(new, blocks[:cut])
    header = header_of(ran(old, blocks[:cut]))
    choice = choose(new, header, retained(blocks[:cut])[first:], whole=first == 0)
    assert first or choice.settled, "the whole stream is enough"
    warmed = warm_up(new, {"s": header}, {"s": choice})["s"]
    assert (warmed.samples, warmed.settled) == (choice.samples, choice.settled)
    own = read_header(warmed.snapshot)
    assert stands(own) == stands(header)
    assert own.fingerprint == new.fingerprint
    if not choice.settled:
        return
    theirs = always.feed(*blocks[cut:]) if blocks[cut:] else None
    if theirs is not None:
        same(from_there(warmed.snapshot, new, blocks[cut:], cut), theirs, 1e-6)
    elif len(choice.blocks) == cut:
        assert always.engine.snapshots([always.engine.sensors["s"]]) == [warmed.snapshot], "bit for bit"


def stands(header: Header) -> list[object]:
    """Give where a snapshot stands in its stream."""
    return [getattr(header, name) for name in Header.__struct_fields__ if name != "fingerprint"]


def test_of_many_blocks_the_last_that_are_enough_are_chosen_however_many_there_are():
    blocks = [at_index(begin, 100) for begin in range(0, 30_000, 100)]
    header = header_of(ran(OLD, blocks))
    choices = [choose(NEW, header, retained(blocks)[first:], whole=False) for first in (0, 100, 270)]
    assert all(choice.settled for choice in choices)
    assert len({choice.blocks[0].offset for choice in choices}) == 1
    assert SETTLE <= choices[0].samples < SETTLE + 100
    one_less = retained(blocks)[choices[0].blocks[0].offset + 1 :]
    assert not choose(NEW, header, one_less, whole=False).settled


def test_too_little_is_used_and_said():
    blocks = [at_index(begin, 100) for begin in range(0, 5_000, 100)]
    header = header_of(ran(OLD, blocks))
    choice = choose(NEW, header, retained(blocks)[-1:], whole=False)
    assert (choice.samples, choice.settled) == (100, False)
    warmed = warm_up(NEW, {"s": header}, {"s": choice})["s"]
    features = from_there(warmed.snapshot, NEW, [at_index(5_000, 30), at_index(5_030, 30)], 50)
    assert features.full[:, 0].tolist() == [True, True]
    assert features.full[:, 1].tolist() == [True, True]
    choice = choose(NEW, header, [], whole=False)
    warmed = warm_up(NEW, {"s": header}, {"s": choice})["s"]
    features = from_there(warmed.snapshot, NEW, [at_index(5_000, 30), at_index(5_030, 30), at_index(5_060, 40)], 50)
    assert features.full.tolist() == [[False] * 4, [True] + [False] * 3, [True] * 4]
    assert features.seq == [5_000, 5_030, 5_060]
    assert features.gap == [0, 0, 0]


def test_a_resent_block_at_the_beginning_is_not_taken_for_the_stream():
    """What is retained begins with blocks sent again, and the samples after them came before: no gap was there."""
    new, old = changed(gap="hold"), replace(OLD, gap="hold")
    blocks = [at_index(begin, 100) for begin in range(0, 5_000, 100)]
    blocks += blocks[-8:-4]  # 4,200 to 4,600
    blocks += [at_index(begin, 100) for begin in range(5_000, 5_000 + SETTLE - 200, 100)]
    header = header_of(ran(old, blocks))
    assert not choose(new, header, retained(blocks)[50:], whole=False).settled
    enough = choose(new, header, retained(blocks)[40:], whole=False)
    assert enough.settled
    assert enough.blocks[0].seq < 5_000


def test_a_resent_block_before_a_gap_that_was_one():
    """The gap bears the blocks out that follow it, and not those that were retained before it."""
    new, old = changed(gap="hold"), replace(OLD, gap="hold")
    half, quarter = SETTLE // 200 * 100, SETTLE // 400 * 100
    blocks = [at_index(begin, 100) for begin in range(0, 5_000, 100)]
    first = len(blocks)
    blocks += blocks[-5:-2]  # 4,500 to 4,800
    blocks += [at_index(begin, 100) for begin in range(5_000, 5_000 + half, 100)]
    blocks += [at_index(begin, 100) for begin in range(5_100 + half, 5_100 + half + quarter, 100)]
    header = header_of(ran(old, blocks))
    assert SETTLE < sum(len(block.samples) for block in blocks[first:]) < 2 * SETTLE
    assert not choose(new, header, retained(blocks)[first:], whole=False).settled
    always = ran(new, blocks)
    choice = choose(new, header, retained(blocks)[first - 30 :], whole=False)
    assert choice.settled
    snapshot = warm_up(new, {"s": header}, {"s": choice})["s"].snapshot
    following = at_index(5_100 + half + quarter, 100)
    same(from_there(snapshot, new, [following], len(blocks)), always.feed(following), 1e-6)


def test_blocks_that_do_not_bear_the_snapshot_out_do_not_settle():
    """Something was missing, says the snapshot, and the blocks do not show it: then it was not they that were run."""
    blocks = [at_index(begin, 100) for begin in range(0, 5_000, 100)]
    header = header_of(ran(OLD, blocks))
    choice = choose(NEW, msgspec.structs.replace(header, since=4_900), retained(blocks), whole=True)
    assert (choice.samples, choice.settled) == (5_000, False)
    # Those of the first format version say nothing.
    choice = choose(NEW, msgspec.structs.replace(header, since=header.next), retained(blocks), whole=False)
    assert choice.settled


@pytest.mark.parametrize("seq", [True, False])
def test_blocks_of_another_rate_or_of_other_channels_are_not_used(seq):
    blocks = [at_index(begin, 100, seq=seq) for begin in range(0, 5_000, 100)]
    header = header_of(ran(OLD, blocks))
    faster = changed(text=OLD.text.replace("sample_rate = 250.0", "sample_rate = 251.0"))
    for other in (faster, two_channels()):
        assert choose(other, header, retained(blocks), whole=True) == USELESS
        # Nor where they are chosen all the same.
        forced = warm_up(other, {"s": header}, {"s": Choice(retained(blocks), 5_000, settled=True)})["s"]
        assert (forced.samples, forced.settled) == (0, False)
        (sensor,) = Engine(other).restore({"s": forced.snapshot})
        assert (sensor.next_index, sensor.next_time) == (header.next, header.time)


def test_blocks_that_end_elsewhere_are_not_used():
    blocks = [at_index(begin, 100) for begin in range(0, 5_000, 100)]
    header = header_of(ran(OLD, blocks))
    assert choose(NEW, header, retained(blocks[:-1]), whole=True) == USELESS
    assert choose(NEW, header, retained([*blocks, at_index(5_000, 1)]), whole=True) == USELESS


def test_a_young_stream_has_all_it_needs():
    """From its beginning on, without reading whatever else came before it in the log."""
    blocks = [at_index(begin, 100) for begin in range(0, 300, 100)]
    header = header_of(ran(OLD, blocks))
    assert choose(NEW, header, retained(blocks), whole=False).settled
    assert not choose(NEW, header, retained(blocks)[1:], whole=False).settled


def test_many_sensors_at_once_are_each_as_alone():
    choices, headers = {}, {}
    for number in range(20):
        blocks = [at_index(begin, 50 + number) for begin in range(0, 100 * (50 + number), 50 + number)]
        headers[f"s{number}"] = header_of(ran(OLD, blocks))
        choices[f"s{number}"] = choose(NEW, headers[f"s{number}"], retained(blocks)[number * 3 :], whole=False)
    together = warm_up(NEW, headers, choices)
    for sensor, choice in choices.items():
        assert warm_up(NEW, headers, {sensor: choice})[sensor] == together[sensor]


# --- One value in so many ---------------------------------------------------------------------------------------------

SPARSE = parse_pipeline(
    """
name = "changed"
sample_rate = 250.0
[[stages]]
name = "slow"
type = "decimate"
factor = 25
taps = 51
[[stages]]
type = "moving_rms"
window = 6
hop = 2
[features]
slow = "slow"
rms = "moving_rms"
""",
    "sparse.toml",
)


def test_values_are_at_the_same_place_again_after_a_period():
    assert SPARSE.period == 50
    assert OLD.period == 1
    assert parse_pipeline(SPARSE.text.replace("hop = 2", "hop = 3"), "t").period == 75


@pytest.mark.parametrize("length", [256, 40, 7])
@pytest.mark.parametrize("seq", [True, False], ids=["seq", "timestamps"])
@pytest.mark.parametrize("first", [0, 11])
def test_the_values_kept_are_those_that_would_have_been_kept_all_along(length, seq, first):
    """Of a stream whose state began at its first sample, or after a gap: the middle of it is retained."""
    count = 9000 // length
    blocks = [at_index(first + n * length, length, seq=seq) for n in range(count)]
    before = ran(OLD, blocks)
    header = header_of(before)
    follow = [at_index(first + (count + n) * length, length, seq=seq) for n in range(3)]
    theirs = ran(SPARSE, blocks).feed(*follow)
    choice = choose(SPARSE, header, retained(blocks)[5:], whole=False)
    assert choice.settled
    assert 0 < choice.samples < 2 * SPARSE.settle_samples + SPARSE.period + 2 * length
    warmed = warm_up(SPARSE, {"s": header}, {"s": choice})["s"]
    same(from_there(warmed.snapshot, SPARSE, follow, count), theirs, rtol=1e-9)


def test_after_a_gap_that_was_filled_in_nobody_knows_which_values_would_have_been_kept():
    holding = replace(SPARSE, gap="hold")
    blocks = [at_index(n * 256 + (100 if n > 20 else 0), 256) for n in range(60)]
    header = header_of(ran(replace(OLD, gap="hold"), blocks))
    assert header.since > 0
    assert not choose(holding, header, retained(blocks)[5:], whole=False).settled
