"""Records of one partition as the broker sent them: their bytes, and where in them each record lies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast, overload

import numpy as np
from aiokafka.structs import ConsumerRecord, TopicPartition

if TYPE_CHECKING:
    from numpy.typing import NDArray


class RawRecords(Sequence[Any]):
    """Records that are made when asked for; what works on arrays needs none of them.

    Parameters
    ----------
    tp
        Where they are from.
    data
        Bytes of uncompressed record batches.
    table
        A column for each record, in order of offsets; of shape (8, count), each row contiguous: offset, timestamp (ms
        since the epoch, -1 for none) and its type, begin and end of key and of value in the data (-1 for null), and
        where the count of its headers stands.
    """

    __slots__ = ("data", "table", "tp")

    def __init__(self, tp: TopicPartition, data: NDArray[np.uint8], table: NDArray[np.int64]) -> None:
        self.tp = tp
        self.data = data
        self.table = table

    @property
    def offsets(self) -> NDArray[np.int64]:
        """Offset of each record."""
        return cast("NDArray[np.int64]", self.table[0])

    @property
    def timestamps(self) -> NDArray[np.int64]:
        """Timestamp of each record, ms since the epoch; -1 for none."""
        return cast("NDArray[np.int64]", self.table[1])

    @property
    def key_begins(self) -> NDArray[np.int64]:
        """Where each key begins in the data; -1 where there is none."""
        return cast("NDArray[np.int64]", self.table[3])

    @property
    def key_ends(self) -> NDArray[np.int64]:
        """Where each key ends in the data."""
        return cast("NDArray[np.int64]", self.table[4])

    @property
    def value_begins(self) -> NDArray[np.int64]:
        """Where each value begins in the data; -1 where there is none."""
        return cast("NDArray[np.int64]", self.table[5])

    @property
    def value_ends(self) -> NDArray[np.int64]:
        """Where each value ends in the data."""
        return cast("NDArray[np.int64]", self.table[6])

    def __len__(self) -> int:
        return int(self.table.shape[1])

    @overload
    def __getitem__(self, index: int) -> Any: ...

    @overload
    def __getitem__(self, index: slice) -> RawRecords: ...

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            part = self.table[:, index]
            return RawRecords(self.tp, self.data, part if index.step in {None, 1} else part.copy())
        return self._record(self.data.data, self.table[:, index].tolist())

    def __iter__(self) -> Iterator[Any]:
        data = self.data.data
        return (self._record(data, column) for column in self.table.T.tolist())

    def _record(self, data: memoryview, column: list[int]) -> Any:
        offset, timestamp, timestamp_type, key_begin, key_end, value_begin, value_end, headers = column
        none = timestamp == -1
        return ConsumerRecord(
            *self.tp,
            offset,
            cast("Any", None if none else timestamp),
            cast("Any", None if none else timestamp_type),
            None if key_begin < 0 else bytes(data[key_begin:key_end]),
            None if value_begin < 0 else bytes(data[value_begin:value_end]),
            None,
            -1 if key_begin < 0 else key_end - key_begin,
            -1 if value_begin < 0 else value_end - value_begin,
            _headers(data, headers) if data[headers] else (),
        )

    def only(self, numbers: Sequence[int]) -> RawRecords:
        """Give just some of the records, in order."""
        return RawRecords(self.tp, self.data, np.ascontiguousarray(self.table[:, numbers]))

    @classmethod
    def joined(cls, parts: Sequence[RawRecords]) -> RawRecords:
        """Put together records of one partition, one after another."""
        first = parts[0]
        if len(parts) == 1:
            return first
        if all(part.data is first.data for part in parts):
            return cls(first.tp, first.data, np.concatenate([part.table for part in parts], axis=1))
        tables, begin = [], 0
        for part in parts:
            table = part.table.copy()
            places = table[3:]
            places[places >= 0] += begin
            tables.append(table)
            begin += len(part.data)
        return cls(first.tp, np.concatenate([part.data for part in parts]), np.concatenate(tables, axis=1))


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1), at
        shift += 7


def _headers(data: memoryview, at: int) -> tuple[tuple[str, bytes | None], ...]:
    """Read headers that have been found to be whole; a name that is not UTF-8 is shown with escapes."""
    count, at = _varint(data, at)
    headers = []
    for _ in range(count):
        size, at = _varint(data, at)
        name = str(data[at : at + size], "utf-8", "backslashreplace")
        size, at = _varint(data, at + size)
        value = None if size < 0 else bytes(data[at : at + size])
        at += max(size, 0)
        headers.append((name, value))
    return tuple(headers)
