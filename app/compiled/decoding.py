"""The kernels of `app.compiled.decode`: MessagePack and JSON blocks, straight from a batch's bytes to arrays.

A parser takes the place where it begins and the end of its record; it gives the place after what it took, or why it
took nothing: `NOT_PLAIN` or `NO_ROOM`. It looks at no byte beyond the record's, whatever the record holds.

The decimal numbers of JSON are left to `app.compiled.numbers`, with room for them among the values.

What lies here must stay in one file: numba keeps compiled code, and compares the age of just the function's own file.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.compiled.loads import double_of, load_byte, load_half, load_word, low_zeros, single_of
from app.compiled.texts import BYTES, Bytes
from app.dsp.fused.compiling import compiled

Heads = NDArray[np.int64]
Floats = NDArray[np.float64]
NOT_PLAIN, NO_ROOM = -1, -2

RECORD, ID_BEGIN, ID_END, TIMESTAMP, SEQ, CHANNELS, NAME_BEGIN, NAME_END, STREAM_BEGIN, STREAM_END = range(10)
LIST_BEGIN, LIST_END, RATE_BEGIN, RATE_END = range(10, 14)
"""Rows of `heads`, which has a column a block. The last four say where the decimal numbers of samples and rate lie, all
0 where there are none."""
HEADS = 14

_LARGEST_SAMPLE = 1e150
_LARGEST_WHOLE = 2**53
_MAX_SAMPLES, _MAX_ID, _MAX_STREAM, _MAX_CHANNELS = 65_536, 256, 64, 65_536

_SENSOR_ID, _SAMPLES, _TIME, _SEQ, _RATE, _CHANNELS, _PIPELINE, _STREAM, _BLOCKS = range(9)
_REQUIRED = 0b111


def _first_bytes(text: str) -> np.uint64:
    return np.uint64(int.from_bytes(text.encode()[:8], "little"))


_KEY_SENSOR_ID = _first_bytes("sensorId")
_KEY_SAMPLES = _first_bytes("samples")
_KEY_TIMESTAMP = _first_bytes("timestamp")
_KEY_SEQ = _first_bytes("seq")
_KEY_RATE = _first_bytes("sampleRate")
_KEY_CHANNELS = _first_bytes("channels")
_KEY_PIPELINE = _first_bytes("pipeline")
_KEY_STREAM = _first_bytes("stream")
_KEY_BLOCKS = _first_bytes("blocks")
_NULL = np.uint32(_first_bytes("null"))

_0, _1, _3, _7, _8, _56 = (np.uint64(number) for number in (0, 1, 3, 7, 8, 56))
_ONES = np.uint64(0x0101_0101_0101_0101)
_TOPS = np.uint64(0x8080_8080_8080_8080)
_REST = np.uint64(0x7F7F_7F7F_7F7F_7F7F)
_BRACKETS, _COMMAS = (np.uint64(ord(sign)) * _ONES for sign in "],")


@compiled(f"uint64({BYTES}, int64, int64)")
def _piece(data: Bytes, begin: Any, size: Any) -> Any:
    """Load up to eight bytes, zeros above them; what they lie in may end with them."""
    if size >= 8:
        return load_word(data, begin)
    if begin + 8 <= len(data):
        return load_word(data, begin) & ((_1 << np.uint64(8 * size)) - _1)
    word = _0
    for number in range(size):
        word |= np.uint64(load_byte(data, begin + number)) << np.uint64(8 * number)
    return word


@compiled(f"boolean({BYTES}, int64, int64, int64, int64)")
def _same(data: Bytes, begin: Any, end: Any, other: Any, other_end: Any) -> Any:
    if end - begin != other_end - other:
        return False
    for done in range(0, end - begin, 8):
        if _piece(data, begin + done, end - begin - done) != _piece(data, other + done, end - begin - done):
            return False
    return True


@compiled(f"boolean({BYTES}, int64, int64)")
def _is_text(data: Bytes, place: Any, end: Any) -> Any:
    """Tell whether some bytes are UTF-8, as strictly as Python does."""
    while place < end:
        if not _piece(data, place, end - place) & _TOPS:
            place += 8
            continue
        lead = load_byte(data, place)
        if lead < 0x80:
            place += 1
            continue
        more = 1 if lead < 0xE0 else 2 if lead < 0xF0 else 3
        if lead < 0xC2 or lead > 0xF4 or place + more >= end:
            return False
        second = load_byte(data, place + 1)
        least = 0xA0 if lead == 0xE0 else 0x90 if lead == 0xF0 else 0x80
        most = 0x9F if lead == 0xED else 0x8F if lead == 0xF4 else 0xBF
        if second < least or second > most:
            return False
        for number in range(2, more + 1):
            if load_byte(data, place + number) & 0xC0 != 0x80:
                return False
        place += more + 1
    return True


@compiled(f"int64({BYTES}, int64, int64)")
def _field(data: Bytes, begin: Any, end: Any) -> Any:
    """Tell a field by its name; -1 where there is none of it."""
    size = end - begin
    if size < 3 or size > 10:
        return -1
    name = _piece(data, begin, size)
    field = -1
    if size == 8:
        field = _SENSOR_ID if name == _KEY_SENSOR_ID else _CHANNELS if name == _KEY_CHANNELS else field
        field = _PIPELINE if name == _KEY_PIPELINE else field
    elif size == 7:
        field = _SAMPLES if name == _KEY_SAMPLES else field
    elif size == 9:
        field = _TIME if name == _KEY_TIMESTAMP and load_byte(data, begin + 8) == ord("p") else field
    elif size == 3:
        field = _SEQ if name == _KEY_SEQ else field
    elif size == 6:
        field = _STREAM if name == _KEY_STREAM else _BLOCKS if name == _KEY_BLOCKS else field
    elif size == 10 and load_byte(data, begin + 8) == ord("t") and load_byte(data, begin + 9) == ord("e"):
        field = _RATE if name == _KEY_RATE else field
    return field


@compiled("void(int64[:, ::1], float64[::1], int64, int64)")
def _begin(heads: Heads, rates: Floats, block: Any, record: Any) -> None:
    """Begin a block that has nothing yet."""
    heads[RECORD, block] = record
    heads[SEQ, block] = -1
    heads[CHANNELS, block] = 0
    heads[NAME_BEGIN, block] = heads[NAME_END, block] = 0
    heads[STREAM_BEGIN, block] = heads[STREAM_END, block] = 0
    heads[LIST_BEGIN, block] = heads[LIST_END, block] = 0
    heads[RATE_BEGIN, block] = heads[RATE_END, block] = 0
    rates[block] = np.nan


@compiled("boolean(int64[:, ::1], int64, int64, int64, int64)")
def _put_text(heads: Heads, block: Any, field: Any, begin: Any, end: Any) -> Any:
    """Note where a block's text lies, if it may be so long; only these fields hold one."""
    size = end - begin
    if field == _SENSOR_ID:
        heads[ID_BEGIN, block], heads[ID_END, block] = begin, end
        return 0 < size <= _MAX_ID
    if field == _STREAM:
        heads[STREAM_BEGIN, block], heads[STREAM_END, block] = begin, end
        return size <= _MAX_STREAM
    heads[NAME_BEGIN, block], heads[NAME_END, block] = begin, end
    return True


@compiled("boolean(int64[:, ::1], int64, int64, int64)")
def _put_whole(heads: Heads, block: Any, field: Any, number: Any) -> Any:
    """Note a block's whole number, if it may be so large; only these fields hold one."""
    if field == _CHANNELS:
        heads[CHANNELS, block] = number
        return 1 <= number <= _MAX_CHANNELS
    heads[TIMESTAMP if field == _TIME else SEQ, block] = number
    return 0 <= number <= _LARGEST_WHOLE


# MessagePack


@compiled(f"uint64({BYTES}, int64, int64)")
def _big(data: Bytes, place: Any, size: Any) -> Any:
    """Load a big-endian number of some bytes."""
    number = _0
    for byte in range(size):
        number = number << _8 | np.uint64(load_byte(data, place + byte))
    return number


@compiled(f"Tuple((int64, int64))({BYTES}, int64, int64)")
def _packed_text(data: Bytes, place: Any, end: Any) -> Any:
    """Give where a text begins and ends."""
    if place >= end:
        return NOT_PLAIN, NOT_PLAIN
    head = load_byte(data, place)
    begin = place + 1
    if 0xA0 <= head <= 0xBF:
        size = head & 0x1F
    elif 0xD9 <= head <= 0xDB:
        width = 1 << (head - 0xD9)
        begin += width
        if begin > end:
            return NOT_PLAIN, NOT_PLAIN
        size = np.int64(_big(data, place + 1, width))
    else:
        return NOT_PLAIN, NOT_PLAIN
    if size > end - begin:
        return NOT_PLAIN, NOT_PLAIN
    return begin, begin + size


@compiled(f"Tuple((int64, int64))({BYTES}, int64, int64, int64, int64)")
def _packed_count(data: Bytes, place: Any, end: Any, few: Any, many: Any) -> Any:
    """Give a map's or an array's number of items, told by the heads of a short one and of a long one."""
    head = load_byte(data, place) if place < end else 0
    if head & 0xF0 == few:
        return place + 1, head & 0x0F
    if head & 0xFE != many:
        return NOT_PLAIN, 0
    width = 2 << (head & 1)
    if place + 1 + width > end:
        return NOT_PLAIN, 0
    return place + 1 + width, np.int64(_big(data, place + 1, width))


@compiled(f"Tuple((int64, int64, float64))({BYTES}, int64, int64)")
def _packed_number(data: Bytes, place: Any, end: Any) -> Any:
    """Give a number, also as a whole one: -1 where it is none, or larger than any that is meant."""
    head = load_byte(data, place) if place < end else 0xC0
    if head <= 0x7F:
        return place + 1, head, np.float64(head)
    if head >= 0xE0:
        return place + 1, -1, np.float64(head - 0x100)
    if head < 0xCA or head > 0xD3:
        return NOT_PLAIN, -1, 0.0
    width = 4 << (head - 0xCA) if head < 0xCC else 1 << (head & 3)
    if place + 1 + width > end:
        return NOT_PLAIN, -1, 0.0
    bits = _big(data, place + 1, width)
    place += 1 + width
    if head == 0xCA:
        return place, -1, np.float64(single_of(np.uint32(bits)))
    if head == 0xCB:
        return place, -1, double_of(bits)
    if head <= 0xCF:
        return place, (np.int64(bits) if bits <= np.uint64(_LARGEST_WHOLE) else -1), np.float64(bits)
    unused = np.uint64(64 - 8 * width)
    number = np.int64(bits << unused) >> np.int64(unused)
    return place, number, np.float64(number)


@compiled(f"Tuple((int64, int64))({BYTES}, int64, int64, float64[::1], int64)")
def _packed_samples(data: Bytes, place: Any, end: Any, values: Floats, begin: Any) -> Any:
    """Take samples in, and give where those after them go."""
    head = load_byte(data, place) if place < end else 0
    if 0xC4 <= head <= 0xC6:
        width = 1 << (head - 0xC4)
        place += 1 + width
        if place > end:
            return NOT_PLAIN, begin
        size = np.int64(_big(data, place - width, width))
        count = size >> 2
        if size & 3 or size > end - place or not 1 <= count <= _MAX_SAMPLES:
            return NOT_PLAIN, begin
        if count > len(values) - begin:
            return NO_ROOM, begin
        taken = values[begin : begin + count]
        overflow = np.uint32(0)
        for number in range(count):
            bits = load_half(data, place + 4 * number)
            # Adding one to an exponent of only ones, infinity's and NaN's, overflows into the sign's place.
            overflow |= (bits & np.uint32(0x7FFF_FFFF)) + np.uint32(0x0080_0000)
            taken[number] = np.float64(single_of(bits))
        return NOT_PLAIN if overflow >> np.uint32(31) else place + size, begin + count
    place, count = _packed_count(data, place, end, 0x90, 0xDC)
    # Each takes a byte at least.
    if place < 0 or not 1 <= count <= _MAX_SAMPLES or count > end - place:
        return NOT_PLAIN, begin
    if count > len(values) - begin:
        return NO_ROOM, begin
    taken = values[begin : begin + count]
    for number in range(count):
        place, _, value = _packed_number(data, place, end)
        if place < 0 or not abs(value) < _LARGEST_SAMPLE:
            return NOT_PLAIN, begin
        taken[number] = value
    return place, begin + count


@compiled(f"Tuple((int64, int64))({BYTES}, int64, int64, int64[:, ::1], float64[::1], float64[::1], int64, int64)")
def _packed_block(
    data: Bytes, place: Any, end: Any, heads: Heads, rates: Floats, values: Floats, block: Any, at: Any
) -> Any:
    """Take a block in, and give where the next one's samples go."""
    place, count = _packed_count(data, place, end, 0x80, 0xDE)
    seen = 0
    for _ in range(count):
        begin, place = _packed_text(data, place, end)
        field = _field(data, begin, place) if place >= 0 else -1
        if field < 0 or field == _BLOCKS or seen & 1 << field or place >= end:
            return NOT_PLAIN, at
        seen |= 1 << field
        if load_byte(data, place) == 0xC0 and field > _TIME:
            place += 1
        elif field == _SAMPLES:
            place, at = _packed_samples(data, place, end, values, at)
        elif field == _SENSOR_ID or field >= _PIPELINE:
            begin, place = _packed_text(data, place, end)
            if place >= 0 and not (_is_text(data, begin, place) and _put_text(heads, block, field, begin, place)):
                return NOT_PLAIN, at
        else:
            place, whole, number = _packed_number(data, place, end)
            if field == _RATE:
                rates[block] = number
            if np.isnan(number) if field == _RATE else not _put_whole(heads, block, field, whole):
                return NOT_PLAIN, at
        if place < 0:
            return place, at
    return place if seen & _REQUIRED == _REQUIRED else NOT_PLAIN, at


# JSON


@compiled(f"int64({BYTES}, int64, int64)")
def _after_space(data: Bytes, place: Any, end: Any) -> Any:
    while place < end and load_byte(data, place) in (0x20, 0x0A, 0x0D, 0x09):
        place += 1
    return place


@compiled(f"int64({BYTES}, int64, int64)")
def _text_end(data: Bytes, place: Any, end: Any) -> Any:
    """Give where a text without escapes ends, whose opening quote was taken."""
    begin = place
    while place < end and load_byte(data, place) != ord('"'):
        if load_byte(data, place) < 0x20 or load_byte(data, place) == ord("\\"):
            return NOT_PLAIN
        place += 1
    return place if place < end and _is_text(data, begin, place) else NOT_PLAIN


@compiled(f"Tuple((int64, int64))({BYTES}, int64, int64)")
def _list_end(data: Bytes, place: Any, end: Any) -> Any:
    """Give where a list of numbers ends, and the commas in it."""
    commas: Any = 0
    while place + 8 <= end:
        word = load_word(data, place)
        closing = word ^ _BRACKETS
        # The lowest bit that is set is right, which those above it need not be.
        closing = (closing - _ONES) & ~closing & _TOPS
        others = word ^ _COMMAS
        others = (((others & _REST) + _REST) | others) & _TOPS
        if closing:
            inside = closing ^ (closing - _1)
            commas += np.int64(((((others ^ _TOPS) & inside) >> _7) * _ONES) >> _56)
            return place + np.int64(low_zeros(closing) >> _3), commas
        commas += 8 - np.int64(((others >> _7) * _ONES) >> _56)
        place += 8
    while place < end and load_byte(data, place) != ord("]"):
        commas += load_byte(data, place) == ord(",")
        place += 1
    return place if place < end else NOT_PLAIN, commas


@compiled(f"int64({BYTES}, int64, int64)")
def _number_end(data: Bytes, place: Any, end: Any) -> Any:
    while place < end and load_byte(data, place) > 0x20 and load_byte(data, place) not in (ord(","), ord("}")):
        place += 1
    return place


@compiled(f"Tuple((int64, int64))({BYTES}, int64, int64)")
def _json_whole(data: Bytes, place: Any, end: Any) -> Any:
    """Take a whole number that is not negative, of at most the 16 digits of 2**53."""
    begin, number = place, 0
    while place < end and place < begin + 17 and ord("0") <= load_byte(data, place) <= ord("9"):
        number = 10 * number + load_byte(data, place) - ord("0")
        place += 1
    is_plain = 1 <= place - begin <= 16 and (load_byte(data, begin) != ord("0") or place == begin + 1)
    return place if is_plain else NOT_PLAIN, number


@compiled(f"Tuple((int64, int64))({BYTES}, int64, int64, int64[:, ::1], float64[::1], int64, int64)")
def _json_block(data: Bytes, place: Any, end: Any, heads: Heads, values: Floats, block: Any, at: Any) -> Any:
    """Take a block in whose brace was taken, and give where the next one's samples go."""
    seen = 0
    sign = ord(",")
    while sign == ord(","):
        place = _after_space(data, place, end)
        begin = place + 1
        if begin >= end or load_byte(data, place) != ord('"'):
            return NOT_PLAIN, at
        place = _text_end(data, begin, end)
        field = _field(data, begin, place) if place >= 0 else -1
        if field < 0 or field == _BLOCKS or seen & 1 << field:
            return NOT_PLAIN, at
        seen |= 1 << field
        place = _after_space(data, place + 1, end)
        if place >= end or load_byte(data, place) != ord(":"):
            return NOT_PLAIN, at
        place = _after_space(data, place + 1, end)
        if field > _TIME and place + 4 <= end and load_half(data, place) == _NULL:
            place += 4
        elif field == _SAMPLES:
            begin = place + 1
            if begin >= end or load_byte(data, place) != ord("["):
                return NOT_PLAIN, at
            place, count = _list_end(data, begin, end)
            count += 1
            if place < 0 or count > _MAX_SAMPLES:
                return NOT_PLAIN, at
            if count > len(values) - at:
                return NO_ROOM, at
            place, at = place + 1, at + count
            heads[LIST_BEGIN, block], heads[LIST_END, block] = begin, place
        elif field == _SENSOR_ID or field >= _PIPELINE:
            begin = place + 1
            if begin >= end or load_byte(data, place) != ord('"'):
                return NOT_PLAIN, at
            place = _text_end(data, begin, end)
            if place < 0 or not _put_text(heads, block, field, begin, place):
                return NOT_PLAIN, at
            place += 1
        elif field == _RATE:
            heads[RATE_BEGIN, block] = place
            place = _number_end(data, place, end)
            heads[RATE_END, block] = place
        else:
            place, whole = _json_whole(data, place, end)
            if place >= 0 and not _put_whole(heads, block, field, whole):
                return NOT_PLAIN, at
        if place < 0:
            return place, at
        place = _after_space(data, place, end)
        sign = load_byte(data, place) if place < end else 0
        place += 1
    return place if sign == ord("}") and seen & _REQUIRED == _REQUIRED else NOT_PLAIN, at


# Batches

_PLACES = "UniTuple(int64[::1], 4)"
_ROOM = "Tuple((int64[:, ::1], float64[::1], int64[::1], float64[::1]))"


@compiled(f"int64({BYTES}, int64, int64, int64, int64, {_ROOM}, int64, int64)")
def _record(
    data: Bytes, key: Any, key_end: Any, place: Any, end: Any, room: tuple[Any, ...], block: Any, record: Any
) -> Any:
    """Take a record's blocks in, and give the number of the next."""
    heads, rates, bounds, values = room
    if key < 0 or key_end <= key or key_end > len(data) or place < 0 or place >= end or end > len(data):
        return NOT_PLAIN
    at = bounds[block]
    left, is_frame = 1, False
    is_json = load_byte(data, place) < 0x80
    if is_json:
        place = _after_space(data, place, end)
        if place >= end or load_byte(data, place) != ord("{"):
            return NOT_PLAIN
        place += 1
    else:
        inner, fields = _packed_count(data, place, end, 0x80, 0xDE)
        begin, inner = _packed_text(data, inner, end) if fields == 1 else (NOT_PLAIN, NOT_PLAIN)
        is_frame = inner >= 0 and _field(data, begin, inner) == _BLOCKS
        if is_frame:
            place, left = _packed_count(data, inner, end, 0x90, 0xDC)
    if place < 0 or left < 1:
        return NOT_PLAIN
    for _ in range(left):
        if block == len(rates):
            return NO_ROOM
        _begin(heads, rates, block, record)
        if is_json:
            place, at = _json_block(data, place, end, heads, values, block, at)
        else:
            place, at = _packed_block(data, place, end, heads, rates, values, block, at)
        if place < 0:
            return place
        if not is_frame and not _same(data, key, key_end, heads[ID_BEGIN, block], heads[ID_END, block]):
            return NOT_PLAIN
        block += 1
        bounds[block] = at
    if is_json:
        place = _after_space(data, place, end)
    return block if place == end else NOT_PLAIN


@compiled(f"Tuple((int64, int64))({BYTES}, {_PLACES}, {_ROOM}, boolean[::1], int64, int64)")
def decode(
    data: Bytes, places: tuple[Any, ...], room: tuple[Any, ...], plain: NDArray[np.bool_], record: Any, block: Any
) -> Any:
    """Take in the blocks of the records from one on; give how many records, and how many blocks, are done.

    Not all are where there is no room for a record's.
    """
    key_begins, key_ends, begins, ends = places
    for number in range(record, len(plain)):
        after = _record(data, key_begins[number], key_ends[number], begins[number], ends[number], room, block, number)
        if after == NO_ROOM:
            return number, block
        plain[number] = after != NOT_PLAIN
        if plain[number]:
            block = after
    return len(plain), block
