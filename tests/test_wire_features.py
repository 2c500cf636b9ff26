"""Feature records: typed, exact, null where a window is not full yet."""

from __future__ import annotations

import json

import msgspec
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.dsp.engine import Engine, Features
from app.dsp.pipeline import Pipeline
from app.offline import FEATURES
from app.pipelines import shipped_pipelines
from app.records import EcgFeatures, features_record
from app.sources import builtin_ecg
from app.wire.decode import BlockColumns
from app.wire.features import FeatureEncoder
from tests.feeding import Partition, blocks, two_channels

ECG = shipped_pipelines()["ecg"]
FIELDS = ("sensorId", "timestamp", *FEATURES, "seq", "tier", "pipeline", "gap", "quality")


def features(values: np.ndarray, full: np.ndarray, gap: int = 0, quality: float = 1.0) -> Features:
    count = len(values)
    return Features(
        np.arange(count), list(range(count)), [gap] * count, values, full, np.full(count, quality), {}, {}, []
    )


def encoded(pipeline: Pipeline, of: Features, sensor: str = "s", timestamp: int = 5) -> list[bytes]:
    count = len(of.seq)
    columns = BlockColumns(pipeline, sensor_ids=[sensor] * count, timestamps=[timestamp] * count)
    return FeatureEncoder(pipeline, "rt").encode(columns, of)


@given(
    sensor=st.text(st.characters(codec="utf-8"), min_size=1),
    timestamp=st.integers(0, 2**53),
    rows=st.lists(
        st.tuples(*[st.tuples(st.floats(allow_nan=False, allow_infinity=False), st.booleans())] * 4),
        min_size=1,
        max_size=5,
    ),
    gap=st.integers(0, 2**53),
    quality=st.floats(0, 1),
)
@example(
    sensor="s", timestamp=0, rows=[tuple((value, True) for value in (5e-324, -0.0, 0.1, 1e308))], gap=0, quality=1 / 3
)
def test_records_are_the_typed_record_and_exact(sensor, timestamp, rows, gap, quality):
    values, full = np.array(rows, dtype=float).transpose(2, 0, 1)
    records = encoded(ECG, features(values, full.astype(bool), gap, quality), sensor, timestamp)
    for seq, (record, row) in enumerate(zip(records, rows, strict=True)):
        expected = [value if shown else None for value, shown in row]
        typed = EcgFeatures.loads(record)
        assert isinstance(typed, EcgFeatures)
        assert [getattr(typed, name) for name in FEATURES] == expected
        assert (typed.sensorId, typed.timestamp, typed.seq, typed.gap) == (sensor, timestamp, seq, gap)
        assert typed.quality == quality
        assert (typed.tier, typed.pipeline) == ("rt", "ecg")
        plain = json.loads(record)
        assert tuple(plain) == FIELDS
        assert EcgFeatures(**plain) == typed
        assert EcgFeatures.from_data(plain) == typed
        assert json.loads(typed.dumps()) == plain


def test_records_of_a_real_stream():
    """What the engine gives goes out exactly, block by block, with null until each window is full."""
    partition = Partition(Engine(ECG))
    sent = blocks("bed-1", builtin_ecg().channel(0), [10, 39, 1, 205, 1, 256])
    of = partition.feed(*sent)
    records = [EcgFeatures.loads(record) for record in encoded(ECG, of, "bed-1")]
    for row, record in enumerate(records):
        values = [getattr(record, name) for name in FEATURES]
        ends = [10, 49, 50, 255, 256, 512][row]
        assert [value is not None for value in values] == [ends >= 50, ends >= 256, ends >= 256, ends >= 256]
        assert all(value in (None, exact) for value, exact in zip(values, of.values[row].tolist(), strict=True))


def test_a_record_names_the_block_it_is_of():
    """Blocks that were late have no record, and the others keep their own id and timestamp."""
    of = features(np.ones((2, 4)), np.ones((2, 4), dtype=bool))._replace(block=np.array([1, 3]))
    columns = BlockColumns(ECG, sensor_ids=["a", "b", "c", "d"], timestamps=[10, 11, 12, 13])
    records = [EcgFeatures.loads(record) for record in FeatureEncoder(ECG, "nrt").encode(columns, of)]
    assert [(record.sensorId, record.timestamp, record.tier) for record in records] == [
        ("b", 11, "nrt"),
        ("d", 13, "nrt"),
    ]


@pytest.mark.parametrize("name", sorted(shipped_pipelines()))
def test_the_records_of_every_shipped_pipeline_are_typed(name):
    """From the first block, of which no window is full, on; whatever a feature is, one value or a list of them."""
    pipeline = shipped_pipelines()[name]
    record_type = features_record(pipeline)
    second = max(1, round(pipeline.signal.sample_rate))
    lengths = [1, *[second] * 3]
    x = np.random.default_rng(1).normal(size=sum(lengths) * pipeline.signal.channels)
    of = Partition(Engine(pipeline)).feed(*blocks("s", x, lengths, pipeline.signal.channels))
    records = encoded(pipeline, of)
    assert len(records) == len(lengths)
    for record in records:
        plain = json.loads(record)
        typed = record_type.loads(record)
        assert type(typed) is record_type
        assert list(record_type._options.fields) == list(plain)
        assert {field: getattr(typed, field) for field in plain} == plain
        assert json.loads(typed.dumps()) == plain


def test_the_written_record_is_the_made_one():
    made = features_record(ECG)
    assert list(made._options.fields.items()) == list(EcgFeatures._options.fields.items())


def test_several_channels_have_a_field_each():
    pipeline = two_channels()
    values = np.arange(8.0)[np.newaxis]
    (record,) = encoded(pipeline, features(values, values % 2 == 0))
    plain = msgspec.json.decode(record)
    names = [f"{name}_{channel}" for name in FEATURES for channel in (0, 1)]
    assert list(plain) == ["sensorId", "timestamp", *names, "seq", "tier", "pipeline", "gap", "quality"]
    assert [plain[name] for name in names] == [0, None, 2, None, 4, None, 6, None]


def test_no_blocks_give_no_records():
    assert encoded(ECG, features(np.empty((0, 4)), np.empty((0, 4), dtype=bool))) == []
