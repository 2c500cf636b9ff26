"""Records read from fetched bytes are those that aiokafka reads, and whatever the bytes are, nothing worse happens."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from aiokafka import codec
from aiokafka.consumer.fetcher import READ_UNCOMMITTED, PartitionRecords
from aiokafka.errors import CorruptRecordException, UnsupportedCodecError
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import calc_crc32c
from aiokafka.structs import TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from app import compiled
from app.transport.raw_records import RawRecords
from tests.conftest import NO_KERNEL

if not compiled.AVAILABLE:
    pytest.skip(NO_KERNEL, allow_module_level=True)

from app.compiled import records as kernels
from app.transport.raw_fetch import RawPartition

TP_0 = TopicPartition("rt-sensors", 0)
CODECS = {
    number
    for number, there in enumerate([True, codec.has_gzip(), codec.has_snappy(), codec.has_lz4(), codec.has_zstd()])
    if there
}
CONTROL = 0x20
APPEND_TIME = 0x08


def sealed(batch: bytearray) -> bytes:
    """Give a batch its length and checksum."""
    batch[8:12] = (len(batch) - 12).to_bytes(4, "big")
    batch[17:21] = calc_crc32c(bytes(batch[21:])).to_bytes(4, "big")
    return bytes(batch)


def batch_of(base: int, records: list[Any], codec_number: int = 0, flags: int = 0, spare: int = 0) -> bytes:
    """Build a batch by aiokafka's builder; a compacted one ends with offsets that are no longer there."""
    builder = DefaultRecordBatchBuilder(2, codec_number, 0, -1, -1, -1, 1 << 24)
    delta = -1
    for skipped, timestamp, key, value, headers in records:
        delta += 1 + skipped
        assert builder.append(delta, timestamp, key, value, headers)
    batch = builder.build()
    batch[:8] = base.to_bytes(8, "big")
    batch[21:23] = (int.from_bytes(batch[21:23], "big") | flags).to_bytes(2, "big")
    batch[23:27] = (delta + spare).to_bytes(4, "big", signed=True)
    return sealed(batch)


def read_here(data: bytes) -> RawPartition:
    own = np.frombuffer(bytearray(data), np.uint8)
    table = np.empty((len(data) // kernels.HEADER, 9), np.int64)
    count = kernels.survey(own, table)
    return RawPartition(TP_0, own, table[: max(count, 0)].copy(), 0, check_crcs=True)


def read_by_aiokafka(data: bytes, fetch_offset: int = 0) -> PartitionRecords:
    return PartitionRecords(TP_0, MemoryRecords(data), [], fetch_offset, None, None, True, READ_UNCOMMITTED)


maybe = st.none() | st.binary(max_size=200)
records = st.tuples(
    st.sampled_from([0, 0, 0, 1, 70]),
    st.integers(0, 1 << 42),
    maybe,
    maybe,
    st.lists(st.tuples(st.text(max_size=8), maybe), max_size=3),
)
batches = st.tuples(
    st.lists(records, max_size=12),
    st.sampled_from(sorted(CODECS)),
    st.sampled_from([0, 0, 0, CONTROL, APPEND_TIME]),
    st.sampled_from([0, 0, 3]),
)


@st.composite
def fetched(draw: st.DrawFn) -> tuple[bytes, int]:
    """Bytes of batches, with the offset that was asked for: often one within the first."""
    data, base = b"", draw(st.integers(0, 1 << 40))
    asked = base
    for own, codec_number, flags, spare in draw(st.lists(batches, min_size=1, max_size=6)):
        length = sum(1 + skipped for skipped, *_ in own) + spare
        asked = asked if data else base + draw(st.integers(0, max(0, length - 1)))
        # aiokafka's snappy cannot read what it makes of nothing
        data += batch_of(base, own, codec_number if own else 0, flags, spare)
        base += length
    return data + data[: draw(st.integers(0, 60))], asked


def drained(partition: Any, polls: random.Random) -> list[Any]:
    records: list[Any] = []
    while not partition.exhausted:
        most = polls.choice([None, 1, 2, 7])
        polled = partition.poll(most)
        assert most is None or len(polled) <= most
        if len(polled):
            assert polled[-1].offset < partition.next_fetch_offset
        records += polled
    return records


@given(fetched(), st.randoms(use_true_random=False))
def test_the_records_are_those_that_aiokafka_reads(data_and_offset: tuple[bytes, int], polls: random.Random) -> None:
    data, offset = data_and_offset
    theirs = read_by_aiokafka(data, offset)
    expected = list(theirs)
    ours = read_here(data)
    ours._read_to = offset
    assert drained(ours, polls) == expected
    assert ours.next_fetch_offset == max(
        theirs.next_fetch_offset, offset
    )  # of batches without records it never goes back


@given(fetched(), st.integers(0, 20), st.integers(0, 20))
def test_views_and_arrays_say_the_same(data_and_offset: tuple[bytes, int], begin: int, end: int) -> None:
    records = read_here(data_and_offset[0]).poll(None)
    expected = list(records)
    assert list(records[begin:end]) == expected[begin:end]
    assert [records[n] for n in range(-len(records), len(records))] == expected + expected
    if not expected:
        return
    assert isinstance(records, RawRecords)
    assert list(records[::2]) == expected[::2]
    assert list(RawRecords.joined([records[:begin], records[begin:]])) == expected
    data = records.data.tobytes()
    spans = zip(records.key_begins, records.key_ends, records.value_begins, records.value_ends, strict=True)
    for own, (key_begin, key_end, value_begin, value_end) in zip(expected, spans, strict=True):
        assert own.key == (None if key_begin < 0 else data[key_begin:key_end])
        assert own.value == (None if value_begin < 0 else data[value_begin:value_end])
    assert records.offsets.tolist() == [own.offset for own in expected]
    assert records.timestamps.tolist() == [own.timestamp for own in expected]


def outcome(data: bytes) -> list[Any] | None:
    """All records, or None where some batch is broken; nothing else may come of any bytes."""
    try:
        return drained(read_here(data), random.Random(1))
    except (CorruptRecordException, UnsupportedCodecError):
        return None


SMALL = batch_of(7, [(0, 5, b"k", b"value", [("h", b"x"), ("i", None)]), (2, 6, None, b"v" * 80, [])])


@pytest.mark.parametrize("size", range(len(SMALL)))
def test_a_batch_cut_short_is_not_read(size: int) -> None:
    assert outcome(SMALL[:size]) == []


@pytest.mark.parametrize("compressed", sorted(CODECS))
@given(data=st.data())
def test_broken_records_under_a_right_checksum_are_refused_or_read_as_aiokafka_does(
    data: st.DataObject, compressed: int
) -> None:
    whole = batch_of(7, [(0, 5, b"k", b"value" * 9, [("h", b"x")])] * 3, compressed)
    broken = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        broken[data.draw(st.integers(57, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = bytearray(broken[: data.draw(st.integers(61, len(broken)))])
    for candidate in (sealed(broken), sealed(cut)):
        ours = outcome(candidate)
        try:
            theirs: list[Any] | None = list(read_by_aiokafka(candidate))
        except Exception:  # noqa: BLE001 - each library for compression has its own
            theirs = None
        # aiokafka reads behind a batch's end into what happens to lie there, and cannot read a name that is not UTF-8.
        assert ours is None or theirs is None or ours == theirs
        assert ours is not None or theirs is None


@given(st.binary(max_size=300))
def test_random_bytes_never_do_harm(data: bytes) -> None:
    outcome(data)
    outcome(SMALL[:61] + data)
    outcome(sealed(bytearray(SMALL[:61] + data)))


@pytest.mark.parametrize("position", [17, 21, 40, 70, len(SMALL) - 1])
def test_what_precedes_a_broken_batch_is_polled_then_the_fault_is_raised(position: int) -> None:
    broken = bytearray(batch_of(9, [(0, 1, b"k", b"v" * 40, [])]))
    broken[min(position, len(broken) - 1)] ^= 1
    partition = read_here(batch_of(0, [(0, 1, b"k", b"v", [])] * 4) + bytes(broken))
    assert [own.offset for own in partition.poll(None)] == [0, 1, 2, 3]
    assert partition.next_fetch_offset == 4
    with pytest.raises(CorruptRecordException):
        partition.poll(None)


def test_a_header_whose_name_is_no_text_is_shown_with_escapes() -> None:
    batch = bytearray(batch_of(0, [(0, 1, b"k", b"v", [("name", b"x")])]))
    at = batch.index(b"name")
    batch[at] = 0xFF
    (record,) = read_here(sealed(batch)).poll(None)
    assert record.headers == (("\\xffame", b"x"),)


def test_a_batch_of_an_unknown_codec_says_so() -> None:
    batch = bytearray(SMALL)
    batch[22] |= 7
    with pytest.raises(UnsupportedCodecError, match="codec 7"):
        read_here(sealed(batch)).poll(None)
