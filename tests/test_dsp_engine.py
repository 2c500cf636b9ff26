"""The engine: whoever shares a batch, however blocks are cut, whenever a sensor moves, its features are its own."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.dsp.engine import Engine, Features
from app.dsp.pipeline import Pipeline
from app.offline import ecg_features
from app.pipelines import shipped_pipelines
from app.sources import builtin_ecg
from tests.feeding import Block, Partition, blocks, move, two_channels

ECG = builtin_ecg().channel(0)
PIPELINES = {name: shipped_pipelines()[name] for name in ("ecg", "ecg-branched")} | {"two-channels": two_channels()}

pytestmark = pytest.mark.usefixtures("way")


class Story(NamedTuple):
    """What several sensors send, and how it falls into batches."""

    lengths: list[list[int]]
    """Lengths of each sensor's blocks."""
    order: list[int]
    """Sensor of each block, in the partition's order."""
    cuts: list[bool]
    """Whether a batch ends with each block."""
    moves: list[list[int]]
    """Sensors that are saved, evicted and restored after each block that ends a batch."""


@st.composite
def stories(draw: st.DrawFn) -> Story:
    length = st.one_of(st.sampled_from([1, 7, 256, 1000]), st.integers(1, 400))
    lengths = draw(st.lists(st.lists(length, min_size=1, max_size=6), min_size=1, max_size=4))
    order = draw(st.permutations([sensor for sensor, own in enumerate(lengths) for _ in own]))
    cuts = draw(st.lists(st.booleans(), min_size=len(order), max_size=len(order)))
    moved = st.lists(st.integers(0, len(lengths) - 1), unique=True, max_size=len(lengths))
    moves = draw(st.lists(moved, min_size=len(order), max_size=len(order)))
    return Story(lengths, order, cuts, moves)


def signal(sensor: int, channels: int, samples: int) -> np.ndarray:
    """Give a sensor's samples (samples, channels)."""
    start = 3000 * sensor
    return np.stack([ECG[start + 800 * c : start + 800 * c + samples] * (c + 1) for c in range(channels)], axis=-1)


def told(story: Story, pipeline: Pipeline) -> list[list[Own]]:
    """Run a story; gives each sensor's features block by block."""
    channels = pipeline.signal.channels
    waiting = [
        iter(blocks(f"s{sensor}", signal(sensor, channels, sum(lengths)).ravel(), lengths, channels))
        for sensor, lengths in enumerate(story.lengths)
    ]
    engine = Engine(pipeline)
    partition = Partition(engine)
    results: list[list[Own]] = [[] for _ in waiting]
    batch: list[Block] = []
    owners: list[int] = []
    for place, sensor in enumerate(story.order):
        batch.append(next(waiting[sensor]))
        owners.append(sensor)
        if story.cuts[place] or place == len(story.order) - 1:
            features = partition.feed(*batch)
            assert features.block.tolist() == list(range(len(batch)))
            for number, owner in enumerate(owners):
                results[owner].append(own(features, number))
            batch, owners = [], []
            move(engine, [f"s{other}" for other in story.moves[place]])
    return results


class Own(NamedTuple):
    """The features of one block."""

    seq: int
    gap: int
    values: np.ndarray
    full: np.ndarray


def own(features: Features, number: int = 0) -> Own:
    return Own(features.seq[number], features.gap[number], features.values[number], features.full[number])


def alone(pipeline: Pipeline, sensor: int, lengths: list[int]) -> list[Own]:
    """Run one sensor by itself, a block a batch."""
    channels = pipeline.signal.channels
    partition = Partition(Engine(pipeline))
    samples = signal(sensor, channels, sum(lengths)).ravel()
    return [own(partition.feed(block)) for block in blocks("alone", samples, lengths, channels)]


def assert_same(one: Own, other: Own) -> None:
    assert (one.seq, one.gap) == (other.seq, other.gap)
    assert one.values.tobytes() == other.values.tobytes(), "to the last bit"
    assert one.full.tobytes() == other.full.tobytes()


@pytest.mark.parametrize("name", PIPELINES)
@given(story=stories())
@settings(max_examples=50)
@example(Story([[256]], [0], [True], [[]]))
@example(Story([[1000, 7], [256, 256, 1]], [0, 1, 1, 0, 1], [False] * 5, [[]] * 5))
def test_any_interleaving_gives_what_each_sensor_gives_alone(name, story):
    pipeline = PIPELINES[name]
    for sensor, features in enumerate(told(story, pipeline)):
        for one, expected in zip(features, alone(pipeline, sensor, story.lengths[sensor]), strict=True):
            assert_same(one, expected)


@pytest.mark.parametrize("name", PIPELINES)
@given(story=stories())
@settings(max_examples=25)
def test_features_equal_an_offline_pass(name, story):
    pipeline = PIPELINES[name]
    channels = pipeline.signal.channels
    for sensor, features in enumerate(told(story, pipeline)):
        lengths = story.lengths[sensor]
        ends = np.cumsum(lengths)
        values = np.stack([one.values for one in features])
        full = np.stack([one.full for one in features])
        for channel in range(channels):
            x = signal(sensor, channels, int(ends[-1]))[:, channel]
            expected = ecg_features(x, ends, branched=name == "ecg-branched")
            np.testing.assert_array_equal(full[:, channel::channels], ~np.isnan(expected))
            shown = np.where(full, values, np.nan)[:, channel::channels]
            np.testing.assert_allclose(shown, expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize("length", [1, 7, 256, 1000])
def test_minutes_of_ecg_equal_an_offline_pass(length):
    samples = len(ECG) if length >= 256 else 15_000
    count = samples // length
    signals = {f"s{n}": np.roll(ECG, -7919 * n) for n in range(3)}
    sent = [blocks(name, x, [length] * count) for name, x in signals.items()]
    partition = Partition(Engine(PIPELINES["ecg"]))
    results: dict[str, list[np.ndarray]] = {name: [] for name in signals}
    for start in range(0, count, 40):
        batch = [block for stream in sent for block in stream[start : start + 40]]
        features = partition.feed(*batch)
        for block, values in zip(batch, np.where(features.full, features.values, np.nan), strict=True):
            results[block.sensor].append(values)
    for name, x in signals.items():
        expected = ecg_features(x, np.arange(1, count + 1) * length)
        np.testing.assert_allclose(results[name], expected, rtol=1e-9, atol=0)


# --- Rows ---------------------------------------------------------------------------------------------------------


def test_growth_changes_nothing():
    """Sensors come one after another, far beyond the first capacity, and all keep their state."""
    pipeline = PIPELINES["ecg"]
    partition = Partition(Engine(pipeline))
    count = 300
    lengths = [300, 50]
    sent = [blocks(f"s{n}", np.roll(ECG, -100 * n), lengths) for n in range(count)]
    first = [own(partition.feed(stream[0])) for stream in sent]
    second = partition.feed(*(stream[1] for stream in sent))
    rows = {sensor.row for sensor in partition.engine.sensors.values()}
    assert len(rows) == count, "a row each"
    for n in range(count):
        reference = Partition(Engine(pipeline))
        assert_same(first[n], own(reference.feed(sent[n][0])))
        assert_same(own(second, n), own(reference.feed(sent[n][1])))


def test_rows_are_used_again_and_start_fresh():
    pipeline = PIPELINES["ecg"]
    engine = Engine(pipeline)
    partition = Partition(engine)
    (block,) = blocks("s", ECG, [700])
    fresh = own(partition.feed(block))
    engine.evict(list(engine.sensors.values()))
    assert not engine.sensors
    rows = set()
    for turn in range(200):
        names = [f"t{turn}-{n}" for n in range(3)]
        features = partition.feed(*(Block(name, block.samples, 0) for name in names))
        for n in range(3):
            assert_same(own(features, n), fresh)
        rows |= {engine.sensors[name].row for name in names}
        engine.evict([engine.sensors[name] for name in names])
    assert len(rows) <= 6, "the rows of those that left"


def test_restored_sensors_overwrite_all_of_a_row():
    pipeline = PIPELINES["ecg"]
    engine = Engine(pipeline)
    partition = Partition(engine)
    first, second = blocks("s", ECG, [700, 256])
    partition.feed(first)
    snapshots = engine.snapshots([engine.sensors["s"]])
    expected = own(partition.feed(second))
    engine.evict([engine.sensors["s"]])
    partition.feed(Block("other", np.full(999, 1e9), 0))
    engine.evict([engine.sensors["other"]])
    engine.restore({"s": snapshots[0]})
    assert_same(own(partition.feed(second)), expected)


def test_blocks_are_counted_since_the_last_snapshot():
    engine = Engine(PIPELINES["ecg"])
    partition = Partition(engine)
    partition.feed(*blocks("s", ECG, [10, 20, 30]))
    sensor = engine.sensors["s"]
    assert (sensor.blocks, sensor.next_index) == (3, 60)
    engine.snapshots([sensor])
    assert sensor.blocks == 0


def test_a_sensor_that_has_consumed_nothing_has_no_snapshot():
    engine = Engine(PIPELINES["ecg"])
    sensors = engine.admit(["s"])
    with pytest.raises(ValueError, match="sensor 's' has consumed nothing: expected one with a position"):
        engine.snapshots(sensors)
