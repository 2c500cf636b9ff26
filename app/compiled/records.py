"""Where the records of a partition's fetched bytes begin and end (Kafka's record batches of magic 2).

Whatever the bytes are, nothing outside the arrays is read or written.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from app.compiled.loads import CRC_INSTRUCTION, crc_step, load_word
from app.dsp.fused.compiling import compiled

HEADER = 61
"""Bytes of a record batch before its records."""

CHECKED = 40
"""Bytes of a header that count for the batch's checksum: its last."""

SMALLEST_RECORD = 7

BEGIN, END, OFFSET, NEXT_OFFSET, ATTRIBUTES, FIRST_TIMESTAMP, LAST_TIMESTAMP, COUNT, CRC = range(9)
"""Columns of the table of batches; where the records begin and end, and what the batch's header says."""

OFFSETS, TIMESTAMPS, TIMESTAMP_TYPES, KEY_BEGINS, KEY_ENDS, VALUE_BEGINS, VALUE_ENDS, HEADERS = range(8)
"""Rows of the table of records; `HEADERS` is where the count of a record's headers stands."""


@compiled("int64(uint8[::1], int64, int64)")
def _number(data: Any, begin: int, size: int) -> Any:
    value = 0
    for i in range(begin, begin + size):
        value = (value << 8) | data[i]
    if size < 8 and value >> (8 * size - 1):
        value -= 1 << (8 * size)
    return value


@compiled("int64(uint8[::1], int64[:, ::1])")
def survey(data: Any, batches: Any) -> Any:
    """List the whole record batches in ``data``, and give their number.

    Returns -1 for anything but batches of magic 2 with room for their headers. ``batches`` needs a row for each
    `HEADER` bytes.
    """
    count, begin = 0, 0
    while len(data) - begin >= 12:
        size = _number(data, begin + 8, 4)
        if size > len(data) - begin - 12:
            break
        if size < HEADER - 12 or data[begin + 16] != 2:
            return -1
        row = batches[count]
        row[BEGIN] = begin + HEADER
        row[END] = begin + 12 + size
        row[OFFSET] = _number(data, begin, 8)
        row[NEXT_OFFSET] = row[OFFSET] + _number(data, begin + 23, 4) + 1
        row[ATTRIBUTES] = _number(data, begin + 21, 2)
        row[FIRST_TIMESTAMP] = _number(data, begin + 27, 8)
        row[LAST_TIMESTAMP] = _number(data, begin + 35, 8)
        row[COUNT] = _number(data, begin + 57, 4)
        row[CRC] = _number(data, begin + 17, 4) & 0xFFFFFFFF
        count += 1
        begin = row[END]
    return count


if CRC_INSTRUCTION is not None:

    @compiled("int64(uint8[::1], int64[:, ::1])")
    def intact(data: Any, batches: Any) -> Any:
        """Count batches before the first one whose bytes do not fit its checksum."""
        for number in range(len(batches)):
            own = data[batches[number, BEGIN] - CHECKED : batches[number, END]]
            crc = np.uint64(0xFFFFFFFF)
            whole = len(own) - len(own) % 8
            for at in range(0, whole, 8):
                crc = crc_step(crc, load_word(own, at))
            for at in range(whole, len(own)):
                crc ^= np.uint64(own[at])
                for _ in range(8):
                    crc = (crc >> np.uint64(1)) ^ (np.uint64(0x82F63B78) * (crc & np.uint64(1)))
            if np.int64(crc ^ np.uint64(0xFFFFFFFF)) != batches[number, CRC]:
                return number
        return len(batches)


@compiled("UniTuple(int64, 2)(uint8[::1], int64, int64)")
def _varint(data: Any, at: int, end: int) -> Any:
    """Read a number, and give it with where it ends.

    Where that would be behind the end, or ``at`` is -1 already, it is -1.
    """
    value, shift = 0, 0
    while 0 <= at < end and shift < 64:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return ((value >> 1) & 0x7FFFFFFFFFFFFFFF) ^ -(value & 1), at
        shift += 7
    return 0, -1


@compiled("UniTuple(int64, 3)(uint8[::1], int64, int64)")
def _span(data: Any, at: int, end: int) -> Any:
    """Read a length, and give where what has it begins (-1 for null) and ends, and what follows (-1 as above)."""
    size, at = _varint(data, at, end)
    if at < 0 or size > end - at:
        return -1, -1, -1
    if size < 0:
        return -1, -1, at
    return at, at + size, at + size


@compiled("int64(uint8[::1], int64, int64)")
def _after_headers(data: Any, at: int, end: int) -> Any:
    count, at = _varint(data, at, end)
    if count < 0:
        return -1
    while count > 0 and at >= 0:
        begin, _, at = _span(data, at, end)
        if begin < 0:
            return -1
        _, _, at = _span(data, at, end)
        count -= 1
    return at


@compiled("int64(uint8[::1], int64, int64, int64[::1])")
def _read(data: Any, at: int, end: int, record: Any) -> Any:
    """Read a record as a column of the table, with its offset and timestamp still as differences; give what follows."""
    size, at = _varint(data, at, end)
    if at < 0 or size < 0 or size > end - at:
        return -1
    stop = at + size
    _, at = _varint(data, at, stop)
    record[TIMESTAMPS], at = _varint(data, at, stop)
    record[OFFSETS], at = _varint(data, at, stop)
    record[KEY_BEGINS], record[KEY_ENDS], at = _span(data, at, stop)
    record[VALUE_BEGINS], record[VALUE_ENDS], at = _span(data, at, stop)
    record[HEADERS] = at
    return stop if _after_headers(data, at, stop) == stop else -1


@compiled("UniTuple(int64, 3)(uint8[::1], int64[:, ::1], int64, int64[:, ::1])")
def index(data: Any, batches: Any, minimum: int, records: Any) -> Any:
    """Find the records from offset ``minimum`` on.

    Parameters
    ----------
    data
        Bytes, uncompressed.
    batches
        Those of them to read.
    minimum
        Offset; what lies before it is passed over.
    records
        Gets a column for each; needs one for each record.

    Returns
    -------
    tuple
        Number of records, the offset after the last whole batch, and the number of whole batches: the one after
        those is broken, if there is one.
    """
    found = 0
    record = np.empty(8, np.int64)
    for number in range(len(batches)):
        batch = batches[number]
        appended = (batch[ATTRIBUTES] >> 3) & 1
        kept, lowest = found, minimum
        at, end = batch[BEGIN], min(batch[END], len(data))
        for _ in range(batch[COUNT]):
            at = _read(data, at, end, record)
            if at < 0:
                return kept, minimum, number
            offset = batch[OFFSET] + record[OFFSETS]
            if offset < lowest or found == records.shape[1]:
                continue
            lowest = offset + 1
            record[OFFSETS] = offset
            record[TIMESTAMPS] = batch[LAST_TIMESTAMP] if appended else batch[FIRST_TIMESTAMP] + record[TIMESTAMPS]
            record[TIMESTAMP_TYPES] = appended
            records[:, found] = record
            found += 1
        if at != end:
            return kept, minimum, number
        minimum = max(lowest, batch[NEXT_OFFSET])
    return found, minimum, len(batches)
