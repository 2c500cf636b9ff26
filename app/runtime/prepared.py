"""A record batch that is ready but for its producer's part, as aiokafka's producer takes it."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.record.util import calc_crc32c

HEADER = struct.Struct(">qiibIhiqqqhii")
"""Base offset, length, leader epoch, magic, CRC, attributes, last offset, first and last timestamp, producer's id,
epoch and first sequence number, records."""

_PRODUCER = struct.Struct(">qhi")
_PRODUCER_BEGINS = 43
_CRC = struct.Struct(">I")
_CRC_BEGINS = 17
_CHECKED_FROM = 21
"""Where that begins which the CRC is of."""
_LENGTH_COUNTS_FROM = 12
_MAGIC = 2


class Prepared:
    """A record batch (magic 2) for `AIOKafkaProducer.send_batch`, where aiokafka has a `BatchBuilder`.

    Parameters
    ----------
    data
        Room for the header, and the records after it; belongs to the batch from now on.
    records
        How many there are.
    timestamp
        Of all records, ms since 1970.
    checksum
        Gives the CRC-32C of bytes.
    """

    def __init__(
        self,
        data: bytearray,
        records: int,
        timestamp: int,
        checksum: Callable[[memoryview], int] = calc_crc32c,
    ) -> None:
        length = len(data) - _LENGTH_COUNTS_FROM
        # No offset, leader, producer and CRC yet.
        header = 0, length, -1, _MAGIC, 0, 0, records - 1, timestamp, timestamp, -1, -1, -1, records
        HEADER.pack_into(data, 0, *header)
        self.data = data
        self._records = records
        self._checksum = checksum
        self._checked = False

    def _set_producer_state(self, producer_id: int, producer_epoch: int, base_sequence: int) -> None:
        _PRODUCER.pack_into(self.data, _PRODUCER_BEGINS, producer_id, producer_epoch, base_sequence)
        self._checked = False

    def _build(self) -> bytearray:
        """Give the batch with its CRC; the producer asks each time it sends it."""
        if not self._checked:
            _CRC.pack_into(self.data, _CRC_BEGINS, self._checksum(memoryview(self.data)[_CHECKED_FROM:]))
            self._checked = True
        return self.data

    def append(self, **_: Any) -> None:
        """Take no record: it is closed, which None says."""

    def close(self) -> None:
        """Stay closed."""

    def closed(self) -> bool:
        """Whether no more records are taken."""
        return True

    def record_count(self) -> int:
        """How many records there are."""
        return self._records

    def records(self) -> list[tuple[bytes, bytes]]:
        """Key and value of each record."""
        return [(record.key, record.value) for record in DefaultRecordBatch(bytes(self.data))]

    def size(self) -> int:
        """Bytes of the whole batch."""
        return len(self.data)
