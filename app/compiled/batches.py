"""Feature records as JSON in Kafka's record batches (magic 2), written by compiled code.

Whatever the arrays hold, nothing outside of them is read or written.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from app.dsp.fused.compiling import compiled

Bytes = NDArray[np.uint8]
Indices = NDArray[np.int64]
Flags = NDArray[np.bool_]

HEADER = 61
"""Bytes of a batch before its first record."""

FRAME = 40
"""Bytes of a record beside key and value, at the most: five varints and two single bytes."""

INTEGERS = 40
"""Bytes of a timestamp and an index, at the most."""

WORST_ESCAPE = 6
"""Bytes of JSON that a byte of text may become."""

NULL = 4
"""Bytes of JSON's null."""

BATCH_COLUMNS, PLACE_COLUMNS = 4, 3

INVALID = -1
"""Given where the arrays do not fit one another."""

_HEX = np.frombuffer(b"0123456789abcdef", np.uint8)
_PAIRS = np.frombuffer(b"".join(b"%02d" % pair for pair in range(100)), np.uint8)


@intrinsic  # type: ignore[untyped-decorator] # numba has no types
def _copy(_: Any, out: Any, at: Any, source: Any, begin: Any, count: Any) -> Any:
    """Copy bytes without looking at bounds, as `memmove` does; numba's loops take four times as long for a few."""

    def made(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place, index, origin, start, size = arguments
        to = context.make_array(signature.args[0])(context, builder, place).data
        of = context.make_array(signature.args[2])(context, builder, origin).data
        cgutils.raw_memmove(builder, builder.gep(to, [index]), builder.gep(of, [start]), size, 1)
        return context.get_dummy_value()

    return types.void(out, at, source, begin, count), made


@compiled("int64(uint8[::1], int64, int64)")
def _put_varint(out: Bytes, at: int, value: int) -> Any:
    """Write a number that is not negative, zigzag; gives where it ends."""
    rest = value << 1
    while rest > 0x7F:
        out[at] = 0x80 | (rest & 0x7F)
        rest >>= 7
        at += 1
    out[at] = rest
    return at + 1


@compiled("int64(uint8[::1], int64, int64, int64)")
def _put_size(out: Bytes, at: int, size: int, width: int) -> Any:
    """Write the size of what has been written already, so many bytes later; gives where that begins now."""
    right, rest = 1, size << 1
    while rest > 0x7F:
        rest >>= 7
        right += 1
    if right != width:
        _copy(out, at + right, out, at + width, size)
    return _put_varint(out, at, size)


@compiled("int64(uint8[::1], int64, int64)")
def _put_integer(out: Bytes, at: int, value: int) -> Any:
    """Write a number in decimal; gives where it ends."""
    rest = np.uint64(value)
    if value < 0:
        out[at] = ord("-")
        at += 1
        rest = np.uint64(0) - rest
    size, power = 1, np.uint64(10)
    while size < 20 and rest >= power:
        size += 1
        power *= np.uint64(10)  # the twentieth wraps, and is not looked at
    end = at + size
    place = end
    while place - at >= 2:
        pair = np.int64(rest % np.uint64(100))
        rest //= np.uint64(100)
        place -= 2
        out[place] = _PAIRS[2 * pair]
        out[place + 1] = _PAIRS[2 * pair + 1]
    if place > at:
        out[at] = ord("0") + np.int64(rest)
    return end


_TEXTS = "Array(uint8, 1, 'C', readonly=True)"


@compiled(f"int64(uint8[::1], int64, {_TEXTS}, int64, int64)")
def _put_text(out: Bytes, at: int, texts: Bytes, begin: int, end: int) -> Any:
    """Write a text's UTF-8 bytes as they stand in a JSON string; gives where they end."""
    for i in range(begin, end):
        byte = texts[i]
        if byte >= 0x20 and byte != ord('"') and byte != ord("\\"):
            out[at] = byte
            at += 1
            continue
        short = byte
        if byte == 8:
            short = ord("b")
        elif byte == 9:
            short = ord("t")
        elif byte == 10:
            short = ord("n")
        elif byte == 12:
            short = ord("f")
        elif byte == 13:
            short = ord("r")
        out[at] = ord("\\")
        if short >= 0x20:
            out[at + 1] = short
            at += 2
        else:
            out[at + 1], out[at + 2], out[at + 3] = ord("u"), ord("0"), ord("0")
            out[at + 4], out[at + 5] = _HEX[byte >> 4], _HEX[byte & 15]
            at += 6
    return at


@compiled("int64(uint8[::1], int64[::1])")
def _cut(numbers: Bytes, bounds: Indices) -> Any:
    """Find where each number of a JSON array of numbers begins, and two after the last ends; gives how many."""
    found, last = 0, len(bounds) - 1
    bounds[0] = 1
    for i in range(1, len(numbers)):
        if numbers[i] == ord(",") or numbers[i] == ord("]"):
            if found == last:
                return INVALID
            found += 1
            bounds[found] = i + 1
    return found


@compiled("boolean(int64[::1], int64, int64[::1])")
def _sort(partitions: Indices, count: int, order: Indices) -> Any:
    """Order rows by partition, those of one in their order; says whether there are all these partitions."""
    if count < 1:
        return False
    ends = np.zeros(count + 1, np.int64)
    for partition in partitions:
        if partition < 0 or partition >= count:
            return False
        ends[partition + 1] += 1
    for partition in range(count):
        ends[partition + 1] += ends[partition]
    for row in range(len(partitions)):
        partition = partitions[row]
        order[ends[partition]] = row
        ends[partition] += 1
    return True


_PIECES = "Tuple((uint8[::1], int64[::1], int64[::1]))"
_VALUES = "Tuple((uint8[::1], int64[::1], boolean[:, ::1]))"
_ROWS = f"Tuple(({_TEXTS}, int64[::1], int64[::1], int64[::1], int64[::1]))"
_OUT = "Tuple((uint8[::1], int64[:, ::1], int64[:, ::1]))"

Pieces = tuple[Bytes, Indices, Indices]
Values = tuple[Bytes, Indices, Flags]
Rows = tuple[Bytes, Indices, Indices, Indices, Indices]
Out = tuple[Bytes, Indices, Indices]


@compiled(f"int64(uint8[::1], int64, {_PIECES}, {_VALUES}, {_ROWS}, int64)")
def _put_value(out: Bytes, at: int, pieces: Pieces, values: Values, rows: Rows, row: int) -> Any:
    """Write a row's record as JSON; gives where it ends."""
    literals, cuts, widths = pieces
    numbers, bounds, full = values
    texts, begins, ends, timestamps, seqs = rows
    _copy(out, at, literals, cuts[0], cuts[1] - cuts[0])
    at = _put_text(out, at + cuts[1] - cuts[0], texts, begins[row], ends[row])
    _copy(out, at, literals, cuts[1], cuts[2] - cuts[1])
    at = _put_integer(out, at + cuts[2] - cuts[1], timestamps[row])
    column, first = 0, row * full.shape[1]
    for field in range(len(widths)):
        width, size = widths[field], cuts[field + 3] - cuts[field + 2]
        _copy(out, at, literals, cuts[field + 2], size)
        at += size
        is_full = True
        for i in range(column, column + width):
            is_full &= full[row, i]
        if is_full:
            if width != 1:
                out[at] = ord("[")
                at += 1
            begin, end = bounds[first + column], bounds[first + column + width] - 1
            _copy(out, at, numbers, begin, end - begin)
            at += end - begin
            if width != 1:
                out[at] = ord("]")
                at += 1
        else:
            out[at], out[at + 1], out[at + 2], out[at + 3] = ord("n"), ord("u"), ord("l"), ord("l")
            at += NULL
        column += width
    seq, tail, end = cuts[-3], cuts[-2], cuts[-1]
    _copy(out, at, literals, seq, tail - seq)
    at = _put_integer(out, at + tail - seq, seqs[row])
    _copy(out, at, literals, tail, end - tail)
    return at + end - tail


@compiled(f"int64({_PIECES}, {_VALUES}, {_ROWS}, int64, {_OUT})")
def _room_for(pieces: Pieces, values: Values, rows: Rows, length: int, out: Out) -> Any:
    """Give how many bytes so many rows may need, and fill in where their numbers begin."""
    literals, cuts, widths = pieces
    numbers, bounds, full = values
    texts, begins, ends = rows[:3]
    count, columns = length * full.shape[1], 0
    for width in widths:
        columns += width
    least = min(len(begins), len(ends), len(rows[3]), len(rows[4]), len(full), len(out[1]), len(out[2]))
    if (
        least < length
        or out[1].shape[1] != BATCH_COLUMNS
        or out[2].shape[1] != PLACE_COLUMNS
        or len(cuts) != len(widths) + 5
        or columns != full.shape[1]
        or len(bounds) != count + 1
        or _cut(numbers, bounds) != count
    ):
        return INVALID
    room = length * (len(literals) + HEADER + FRAME + INTEGERS + (NULL + 2) * full.shape[1]) + len(numbers)
    for row in range(length):
        if begins[row] < 0 or begins[row] > ends[row] or ends[row] > len(texts):
            return INVALID
        room += (1 + WORST_ESCAPE) * (ends[row] - begins[row])
    return room


@compiled(f"int64({_PIECES}, {_VALUES}, {_ROWS}, int64[::1], int64[::1], int64, int64, {_OUT})")
def write_batches(
    pieces: Pieces,
    values: Values,
    rows: Rows,
    partitions: Indices,
    order: Indices,
    count: int,
    limit: int,
    out: Out,
) -> Any:
    """Write rows as records of batches, partition by partition, those of one in their order.

    Parameters
    ----------
    pieces
        What stands between a record's values: bytes, where each piece begins and the last ends, and the fields'
        widths; there is a piece before each value of a record, and one after the last.
    values
        JSON array of all numbers, row by row; (numbers + 1,) to be filled with where each begins; and (rows, numbers
        of a row) which are written: a field that lacks one is null.
    rows
        Texts, and each row's begin and end among them, timestamp and index.
    partitions
        (rows,) of each row.
    order
        (rows,) to be filled: rows as they were written.
    count
        How many partitions there are.
    limit
        Bytes of a batch, at the most, if it has more than one record.
    out
        To be filled: the batches, one after another, each with room for its header; (rows, 4) partition, begin, end
        and records of each batch; (rows, 3) batch of each row's record, and where its value begins and ends in that.

    Returns
    -------
    Number of batches; `INVALID` where the arrays do not fit one another; where there may be too little room, how much
    would do, as a negative number.
    """
    texts, begins, ends = rows[:3]
    data, batches, places = out
    length = len(partitions)
    room = _room_for(pieces, values, rows, length, out)
    if room == INVALID or len(order) != length or not _sort(partitions, count, order):
        return INVALID
    if room > len(data):
        return -room
    made, at, begin, inside, partition, number = 0, 0, 0, 0, -1, 0
    size_width, value_width = 2, 2
    while number < length:
        row = order[number]
        key, key_size = begins[row], ends[row] - begins[row]
        if partitions[row] != partition:
            partition, begin, inside = partitions[row], at, 0
            at += HEADER
            made += 1
        # The widths of the two sizes that are not known yet are guessed, and hardly ever wrong.
        place = at + size_width
        data[place], data[place + 1] = 0, 0  # attributes, and the time after the first record's
        place = _put_varint(data, _put_varint(data, place + 2, inside), key_size)
        _copy(data, place, texts, key, key_size)
        place += key_size
        size = _put_value(data, place + value_width, pieces, values, rows, row) - place - value_width
        value = _put_size(data, place, size, value_width)
        value_width = value - place
        data[value + size] = 0  # headers
        size_of_all = value + size + 1 - at - size_width
        first = _put_size(data, at, size_of_all, size_width)
        value += first - at - size_width
        size_width = first - at
        if inside > 0 and first + size_of_all - begin > limit:
            partition = -1  # once more, into a batch of its own
            continue
        at = first + size_of_all
        inside += 1
        places[row, 0], places[row, 1], places[row, 2] = made - 1, value - begin, value + size - begin
        batches[made - 1, 0], batches[made - 1, 1], batches[made - 1, 2] = partition, begin, at
        batches[made - 1, 3] = inside
        number += 1
    return made
