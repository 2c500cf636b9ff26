"""Feature records by arrays: the encoder's own bytes, in the batches that aiokafka would build of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from aiokafka.partitioner import DefaultPartitioner
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import example, given
from hypothesis import strategies as st

from app.dsp.engine import Features
from app.dsp.pipeline import Pipeline
from app.pipelines import shipped_pipelines
from app.runtime.outbox import partition_of
from app.wire.decode import BlockColumns
from app.wire.features import FeatureEncoder
from tests.conftest import NO_KERNEL
from tests.feeding import two_channels

pytest.importorskip("numba", reason=NO_KERNEL, exc_type=ImportError)
from app.compiled.batches import HEADER, INVALID, write_batches
from app.compiled.features import FeatureBatches, Rows
from app.compiled.partitions import partitions_of

PIPELINES = {name: shipped_pipelines()[name] for name in ("ecg", "audio-mfcc")} | {"two channels": two_channels()}
LARGEST = 512 << 10
INT64 = st.integers(-(2**63), 2**63 - 1)
IDS = st.text(st.characters(codec="utf-8"), min_size=1).map(lambda text: text.encode()[:256].decode(errors="ignore"))
AWKWARD = "".join(map(chr, range(0x80))) + "é\u2028\U0001f600"


def rows_of(ids: list[str], timestamps: list[int], seqs: list[int], values: Any, full: Any, gap: bytes = b"") -> Rows:
    """Rows of which the texts lie apart, last first."""
    raw = [sensor.encode() for sensor in ids]
    arena, begins = bytearray(gap), np.empty(len(raw), np.int64)
    for row in reversed(range(len(raw))):
        begins[row] = len(arena)
        arena += raw[row] + gap
    ends = begins + np.array([len(one) for one in raw], np.int64)
    return Rows(
        np.frombuffer(arena, np.uint8), begins, ends, np.array(timestamps, np.int64), np.array(seqs, np.int64),
        np.array(values, float), np.array(full, bool),
    )  # fmt: skip


def plain(pipeline: Pipeline, ids: list[str]) -> Rows:
    count, width = len(ids), sum(pipeline.widths)
    values = np.random.default_rng(count).normal(size=(count, width))
    return rows_of(ids, [1_700_000_000_000] * count, [256] * count, values, np.ones((count, width)))


def by_encoder(pipeline: Pipeline, ids: list[str], rows: Rows) -> list[bytes]:
    count = len(ids)
    columns = BlockColumns(pipeline, sensor_ids=ids, timestamps=rows.timestamps.tolist())
    features = Features(
        np.arange(count), rows.seqs.tolist(), [0] * count, rows.values, rows.full, np.ones(count), {}, {}, []
    )
    return FeatureEncoder(pipeline, "rt").encode(columns, features)


def by_aiokafka(
    ids: list[str], values: list[bytes], partitions: list[int], limit: int, timestamp: int
) -> list[tuple[int, bytes]]:
    """Build the batches that the ordinary way would send."""
    built = []
    for partition in sorted(set(partitions)):
        batches = [BatchBuilder(limit, 0, is_transactional=False)]
        for row, sensor in enumerate(ids):
            if partitions[row] != partition:
                continue
            record = {"timestamp": timestamp, "key": sensor.encode(), "value": values[row]}
            if batches[-1].append(**record) is None:
                batches.append(BatchBuilder(limit, 0, is_transactional=False))
                assert batches[-1].append(**record) is not None
        for batch in batches:
            batch._set_producer_state(7, 3, 11)
            built.append((partition, bytes(batch._build())))
    return built


def built(encoded: Any) -> list[tuple[int, bytes]]:
    batches = []
    for partition, batch in encoded.batches:
        batch._set_producer_state(7, 3, 11)
        batches.append((partition, bytes(batch._build())))
        assert batch.size() == len(batches[-1][1])
    return batches


def first_timestamp(encoded: Any) -> int:
    return int.from_bytes(encoded.batches[0][1].data[27:35], "big")


@st.composite
def cases(draw: st.DrawFn) -> tuple[str, list[str], Rows, list[int]]:
    name = draw(st.sampled_from(sorted(PIPELINES)))
    ids = draw(st.lists(IDS, min_size=1, max_size=6))
    count, width = len(ids), sum(PIPELINES[name].widths)
    of = lambda values: draw(st.lists(values, min_size=count, max_size=count))  # noqa: E731
    numbers = of(st.lists(st.floats(), min_size=width, max_size=width))
    full = of(st.one_of(st.just([True] * width), st.lists(st.booleans(), min_size=width, max_size=width)))
    gap = draw(st.binary(max_size=3))
    return name, ids, rows_of(ids, of(INT64), of(INT64), numbers, full, gap), of(st.integers(0, 3))


EXTREME = (
    "ecg",
    [AWKWARD, "a"],
    rows_of([AWKWARD, "a"], [0, -(2**63)], [2**63 - 1, 9], np.full((2, 4), 5e-324), np.ones((2, 4))),
    [1, 1],
)


@given(cases(), st.one_of(st.just(LARGEST), st.integers(0, 2000)))
@example(EXTREME, 1)
def test_the_bytes_are_those_of_the_encoder_in_aiokafkas_batches(
    case: tuple[str, list[str], Rows, list[int]], limit: int
) -> None:
    name, ids, rows, partitions = case
    encoder = FeatureBatches(PIPELINES[name], "rt")
    encoded = encoder.encode(rows, np.array(partitions), 4, limit)
    expected = by_encoder(PIPELINES[name], ids, rows)
    assert [encoded.record(row) for row in range(len(encoded))] == encoded.records() == expected
    assert built(encoded) == by_aiokafka(ids, expected, partitions, limit, first_timestamp(encoded))
    assert encoder.records(rows) == expected


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 256)), min_size=1, max_size=300), st.integers(500, 20_000))
def test_what_goes_out_is_what_aiokafka_reads(chosen: list[tuple[int, int]], limit: int) -> None:
    """In each partition all of its records and no other's, in order, in as few batches as hold them."""
    ids = [f"{row}".ljust(size, "\n") for row, (_, size) in enumerate(chosen)]
    partitions = [partition for partition, _ in chosen]
    rows = plain(PIPELINES["ecg"], ids)
    encoded = FeatureBatches(PIPELINES["ecg"], "nrt").encode(rows, np.array(partitions), 4, limit)
    read: dict[int, list[tuple[bytes, bytes]]] = {}
    for partition, prepared in encoded.batches:
        records = MemoryRecords(bytes(prepared._build()))
        batch = records.next_batch()
        assert batch.validate_crc()
        assert prepared.record_count() == 1 or prepared.size() <= limit
        own = list(batch)
        assert [record.offset for record in own] == list(range(prepared.record_count()))
        assert {record.timestamp for record in own} == {first_timestamp(encoded)}
        assert [(record.key, record.value) for record in own] == prepared.records()
        read.setdefault(partition, []).extend(prepared.records())
        assert not records.has_next()
    assert read == {
        partition: [(ids[row].encode(), encoded.record(row)) for row in range(len(ids)) if partitions[row] == partition]
        for partition in set(partitions)
    }


def test_records_stay_what_they_were_while_others_are_encoded() -> None:
    encoder = FeatureBatches(PIPELINES["ecg"], "rt")
    rows = plain(PIPELINES["ecg"], ["a", "b"])
    encoded = encoder.encode(rows, np.zeros(2, np.int64), 1, LARGEST)
    before = [encoded.record(0), encoded.record(1)]
    encoder.encode(plain(PIPELINES["ecg"], ["x"] * 3), np.zeros(3, np.int64), 1, LARGEST)
    assert [encoded.record(0), encoded.record(1)] == before


def test_ids_may_lie_in_what_the_broker_sent() -> None:
    """That is bytes, which nobody may write to."""
    rows = plain(PIPELINES["ecg"], ["a", "b"])
    sent = np.frombuffer(rows.texts.tobytes(), np.uint8)
    assert not sent.flags.writeable
    encoder = FeatureBatches(PIPELINES["ecg"], "rt")
    assert encoder.records(rows._replace(texts=sent)) == encoder.records(rows)
    assert (
        partitions_of(sent, rows.begins, rows.ends, 9).tolist()
        == partitions_of(rows.texts, rows.begins, rows.ends, 9).tolist()
    )


def test_no_rows_give_no_batches() -> None:
    encoder = FeatureBatches(PIPELINES["ecg"], "rt")
    none = plain(PIPELINES["ecg"], [])
    assert encoder.encode(none, np.empty(0, np.int64), 4, LARGEST).batches == []
    assert encoder.records(none) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"begins": np.array([0, -1])},
        {"begins": np.array([1, 2])},
        {"ends": np.array([1, 3])},
        {"ends": np.array([1, -(2**63)])},
        {"seqs": np.array([1])},
        {"full": np.ones((2, 3), bool)},
    ],
)
def test_rows_that_do_not_fit_are_refused(wrong: dict[str, Any]) -> None:
    encoder = FeatureBatches(PIPELINES["ecg"], "rt")
    rows = plain(PIPELINES["ecg"], ["a", "b"])
    with pytest.raises(ValueError, match="rows with ids within 2 bytes"):
        encoder.encode(rows._replace(**wrong), np.zeros(2, np.int64), 1, LARGEST)
    with pytest.raises(ValueError, match="rows with ids within 2 bytes"):
        encoder.encode(rows, np.array([0, 4]), 4, LARGEST)


def mostly(usual: st.SearchStrategy[int]) -> st.SearchStrategy[int]:
    """Give a number that may be any, now and then."""
    return st.integers(0, 30).flatmap(lambda chance: usual if chance else INT64)


def in_order(row: tuple[int, ...]) -> tuple[int, ...]:
    begin, end, timestamp, seq, partition = row
    return (min(begin, end), max(begin, end), timestamp, seq, partition) if seq % 30 else row


PLACES = mostly(st.integers(0, 30))


@given(
    texts=st.binary(min_size=30, max_size=30),
    bounds=st.lists(
        st.tuples(PLACES, PLACES, INT64, INT64, mostly(st.integers(0, 3))).map(in_order), min_size=1, max_size=4
    ),
    odd=st.one_of(st.none(), st.none(), st.binary(max_size=60), st.lists(st.floats()).map(lambda x: str(x).encode())),
    full=st.lists(st.booleans(), min_size=16, max_size=16),
    room=st.integers(0, 8000),
    count=mostly(st.just(4)).filter(lambda count: count < 1000),
    limit=INT64,
)
def test_nothing_outside_the_arrays_is_written(
    texts: bytes, bounds: list[Any], odd: bytes | None, full: list[bool], room: int, count: int, limit: int
) -> None:
    rows = len(bounds)
    numbers = str([0.125] * 4 * rows).encode() if odd is None else odd
    begins, ends, timestamps, seqs, partitions = np.array(bounds, np.int64).T.copy()
    guarded = np.full(room + 512, 0xA5, np.uint8)
    batches, places = np.zeros((rows, 4), np.int64), np.zeros((rows, 3), np.int64)
    made = write_batches(
        FeatureBatches(PIPELINES["ecg"], "rt")._pieces,
        (
            np.array(bytearray(numbers), np.uint8),
            np.empty(4 * rows + 1, np.int64),
            np.array(full[: 4 * rows]).reshape(rows, 4),
        ),
        (np.array(bytearray(texts), np.uint8), begins, ends, timestamps, seqs),
        partitions,
        np.empty(rows, np.int64),
        count,
        limit,
        (guarded[256 : 256 + room], batches, places),
    )
    assert (guarded[:256] == 0xA5).all()
    assert (guarded[256 + room :] == 0xA5).all()
    assert made < -room or made == INVALID or 1 <= made <= rows
    if made > 0:
        assert batches[:made, 3].sum() == rows
        assert (batches[:made, 2] - batches[:made, 1] > HEADER).all()
        assert batches[:made, 2].max() <= room


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=20), st.integers(1, 100), st.binary(max_size=3))
def test_partitions_are_those_of_kafkas_default_partitioner(keys: list[bytes], count: int, gap: bytes) -> None:
    arena = bytearray(gap.join(keys) + gap)
    ends = np.cumsum([len(key) + len(gap) for key in keys]) - len(gap)
    begins = ends - np.array([len(key) for key in keys])
    found = partitions_of(np.array(arena, np.uint8), begins, ends, count)
    assert found.tolist() == [partition_of(key, count) for key in keys]
    every = list(range(count))
    assert found.tolist() == [DefaultPartitioner()(key, every, every) for key in keys]


@pytest.mark.parametrize(
    ("begins", "ends", "count"), [([0], [4], 1), ([-1], [1], 1), ([2], [1], 1), ([0], [1, 2], 1), ([0], [3], 0)]
)
def test_keys_that_are_not_there_have_no_partition(begins: list[int], ends: list[int], count: int) -> None:
    with pytest.raises(ValueError, match="within 3 bytes"):
        partitions_of(np.zeros(3, np.uint8), np.array(begins), np.array(ends), count)
