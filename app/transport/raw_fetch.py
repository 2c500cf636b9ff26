"""aiokafka's fetcher, giving fetched record batches as `RawRecords` instead of an object for each record."""
# ruff: noqa: SLF001 - aiokafka offers no hook

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any

import numpy as np
from aiokafka import codec
from aiokafka.consumer.fetcher import READ_UNCOMMITTED, FetchResult, PartitionRecords
from aiokafka.errors import CorruptRecordException, UnsupportedCodecError
from aiokafka.protocol.abstract import AbstractType
from aiokafka.protocol.types import Array, Bytes, Int32, Schema
from aiokafka.record.util import calc_crc32c
from aiokafka.structs import TopicPartition
from numpy.typing import NDArray

from app.compiled import records as kernels
from app.compiled.loads import CRC_INSTRUCTION
from app.transport.raw_records import RawRecords
from app.transport.reading import Frame

MOST_UNCOMPRESSED = 4 << 20
"""Bytes beyond which no further compressed batch is read for a poll."""

WORTH_KEEPING = 1 << 16
"""Bytes of a partition below which they are copied: they may wait for long, and would hold the whole response."""

CODEC, CONTROL = 0x07, 0x20
"""Bits of a batch's attributes."""

DECODERS: dict[int, tuple[str, Callable[[], bool], Callable[[bytes], bytes]]] = {
    1: ("gzip", codec.has_gzip, codec.gzip_decode),
    2: ("snappy", codec.has_snappy, codec.snappy_decode),
    3: ("lz4", codec.has_lz4, codec.lz4_decode),
    4: ("zstd", codec.has_zstd, codec.zstd_decode),
}

STAND_IN = bytes(12)
"""What aiokafka sees of batches kept from it: it looks only whether there is one."""


class _View(AbstractType[memoryview]):  # type: ignore[misc]
    """Bytes that are not copied from the response."""

    @classmethod
    def decode(cls, data: Any) -> Any:
        size = Int32.decode(data)
        if size < 0:
            return None
        view: memoryview = data.view(size) if isinstance(data, Frame) else memoryview(bytearray(data.read(size)))
        if len(view) != size:
            raise ValueError("the response ends before its records do")
        return view


@lru_cache
def _viewing(response: Any) -> Any:
    """Give a type of response whose bytes are not copied."""
    return type(response.__name__, (response,), {"SCHEMA": _with_views(response.SCHEMA)})


def _with_views(field: Any) -> Any:
    if isinstance(field, Array):
        return Array(_with_views(field.array_of))
    if isinstance(field, Schema):
        return Schema(*zip(field.names, map(_with_views, field.fields), strict=True))
    return _View if field is Bytes else field


class _Request:
    """aiokafka's request to fetch, whose response leaves the batches of some topics here."""

    def __init__(self, request: Any, is_raw: Callable[[str], bool]) -> None:
        self._request = request
        self._is_raw = is_raw
        self.topics = request.topics
        self.kept: dict[TopicPartition, tuple[NDArray[np.uint8], NDArray[np.int64]]] = {}

    def prepare(self, versions: Any) -> Any:
        prepared = self._request.prepare(versions)
        self._viewing = _viewing(prepared.RESPONSE_TYPE)
        prepared.RESPONSE_TYPE = self  # what `decode` is called of
        return prepared

    def decode(self, data: Any) -> Any:
        response = self._viewing.decode(data)
        for topic, partitions in response.topics:
            for number, (partition, *middle, batches) in enumerate(partitions):
                partitions[number] = (partition, *middle, self._keep(TopicPartition(topic, partition), batches))
        return response

    def _keep(self, tp: TopicPartition, batches: memoryview | None) -> bytes | None:
        """Keep batches, if they are such as can be read here; give what aiokafka shall see of them."""
        if batches is None:
            return None
        if self._is_raw(tp.topic):
            data = np.frombuffer(batches, np.uint8)
            if len(data) < WORTH_KEEPING:
                data = data.copy()
            rows = np.empty((len(data) // kernels.HEADER, 9), np.int64)
            count = kernels.survey(data, rows)
            if count > 0:
                self.kept[tp] = data, rows[:count].copy()
                return STAND_IN
        return bytes(batches)


class RawPartition:
    """What was fetched of a partition and not polled yet; it takes the place of aiokafka's `PartitionRecords`.

    Parameters
    ----------
    tp
        The partition.
    data
        As fetched.
    batches
        Table of the record batches in it.
    fetch_offset
        Offset asked for.
    check_crcs
        Whether to check batches' checksums.
    """

    def __init__(
        self,
        tp: TopicPartition,
        data: NDArray[np.uint8],
        batches: NDArray[np.int64],
        fetch_offset: int,
        *,
        check_crcs: bool,
    ) -> None:
        self._tp = tp
        self._data = data
        self._batches = batches
        self._check_crcs = check_crcs
        self._rest: RawRecords | None = None
        #: Offset after all that has been read of it, polled or not.
        self._read_to = fetch_offset
        #: Offset after what has been polled, as aiokafka names it.
        self.next_fetch_offset = fetch_offset

    @property
    def exhausted(self) -> bool:
        """Whether all has been polled."""
        return self._rest is None and not len(self._batches)

    def poll(self, most: int | None) -> Sequence[Any]:
        """Give the next records, not more than so many, if there are any.

        Raises
        ------
        CorruptRecordException
            A batch is not what its broker had been given; those before it have been polled.
        UnsupportedCodecError
            No library for its compression is installed.
        """
        parts: list[RawRecords] = []
        count = 0
        while (most is None or count < most) and not self.exhausted:
            try:
                part = self._rest or self._read()
            except (CorruptRecordException, UnsupportedCodecError):
                if not parts:
                    raise
                break
            self._rest = None
            if most is not None and len(part) > most - count:
                part, self._rest = part[: most - count], part[most - count :]
            if len(part):
                parts.append(part)
                count += len(part)
            if part.data is not self._data and sum(len(part.data) for part in parts) > MOST_UNCOMPRESSED:
                break
        self.next_fetch_offset = self._read_to if self._rest is None else int(self._rest.offsets[0])
        return RawRecords.joined(parts) if parts else []

    def _read(self) -> RawRecords:
        """Read the next batches that lie in the same bytes: all up to a compressed one, or just that."""
        kinds = self._batches[:, kernels.ATTRIBUTES] & (CODEC | CONTROL)
        alone = bool(kinds[0])
        run = self._batches[: 1 if alone else int((kinds != 0).argmax()) or len(kinds)]
        if self._check_crcs:
            run = run[: _intact(self._data, run)]
            if not len(run):
                raise CorruptRecordException(f"Invalid CRC - {self._tp}")
        data = self._data
        if alone:
            run = run.copy()
            if kinds[0] & CONTROL:  # markers of transactions, which no consumer is given
                run[0, [kernels.END, kernels.COUNT]] = run[0, kernels.BEGIN], 0
            else:
                data = self._uncompressed(run[0].tolist())
                run[0, [kernels.BEGIN, kernels.END]] = 0, len(data)
        fitting = (run[:, kernels.END] - run[:, kernels.BEGIN]) // kernels.SMALLEST_RECORD
        table = np.empty((8, np.clip(run[:, kernels.COUNT], 0, fitting).sum()), np.int64)
        count, read_to, whole = kernels.index(data, run, self._read_to, table)
        if not whole:
            raise CorruptRecordException(f"Found invalid record structure - {self._tp}")
        self._batches = self._batches[whole:]
        self._read_to = read_to
        return RawRecords(self._tp, data, table[:, :count])

    def _uncompressed(self, batch: list[int]) -> NDArray[np.uint8]:
        number = batch[kernels.ATTRIBUTES] & CODEC
        name, usable, decode = DECODERS.get(number, (f"codec {number}", lambda: False, bytes))
        if not usable():
            raise UnsupportedCodecError(f"Libraries for {name} compression codec not found")
        try:
            records = decode(self._data[batch[kernels.BEGIN] : batch[kernels.END]].tobytes())
        except Exception as error:  # each library has its own
            raise CorruptRecordException(f"Cannot uncompress a batch by {name} - {self._tp}: {error}") from error
        return np.array(np.frombuffer(records, np.uint8))


def _intact(data: NDArray[np.uint8], batches: NDArray[np.int64]) -> int:
    """Count batches before the first one whose bytes do not fit its checksum."""
    if CRC_INSTRUCTION is not None:
        return int(kernels.intact(data, batches))
    for number, batch in enumerate(batches.tolist()):
        if calc_crc32c(data[batch[kernels.BEGIN] - kernels.CHECKED : batch[kernels.END]].data) != batch[kernels.CRC]:
            return number
    return len(batches)


def _poll(result: Any, max_records: int | None = None) -> Sequence[Any]:
    """Do as `FetchResult.getall`; what is broken is fetched again, as it would be."""
    if not result.has_more() or not result.check_assignment(result._topic_partition):
        return []
    partition: RawPartition = result._partition_records
    try:
        records = partition.poll(max_records)
    except Exception:
        result._partition_records = None
        raise
    result._update_position()
    if partition.exhausted:
        result._partition_records = None
    return records


def follow(fetcher: Any, is_raw: Callable[[str], bool]) -> None:
    """Have a fetcher give `RawRecords`, for the topics that are to come so, wherever their batches allow it.

    Batches of an older format, and what aiokafka will refuse, it reads itself, as all else.

    Parameters
    ----------
    fetcher
        aiokafka's `Fetcher`, which has no hook for it: it processes responses, and asks for what it has by
        `FetchResult.getall`.
    is_raw
        Whether a topic's records are to come so.
    """
    if fetcher._isolation_level != READ_UNCOMMITTED:
        return
    process = fetcher._proc_fetch_request

    async def process_raw(assignment: Any, node_id: Any, request: Any) -> Any:
        own = _Request(request, is_raw)
        try:
            return await process(assignment, node_id, own)
        finally:
            for tp, (data, batches) in own.kept.items():
                result = fetcher._records.get(tp)
                if type(result) is FetchResult and isinstance(result._partition_records, PartitionRecords):
                    fetched = result._partition_records
                    if fetched._records.size_in_bytes() == len(STAND_IN):
                        result._partition_records = RawPartition(
                            tp, data, batches, fetched.next_fetch_offset, check_crcs=fetched._check_crcs
                        )
                        result.getall = partial(_poll, result)

    fetcher._proc_fetch_request = process_raw
