"""Kernels that turn the decimal numbers of JSON into doubles, correctly rounded.

Digits are taken eight at a time, and a number is rounded as D. Lemire's "Number parsing at a gigabyte per second"
(2021) does, which is exact for every number of at most 19 digits.

What lies here must stay in one file: numba keeps compiled code, and compares the age of just the function's own file.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.compiled.loads import double_of, high_zeros, load_byte, load_word, low_zeros, upper_product
from app.compiled.texts import BYTES, Bytes, Indices
from app.dsp.fused.compiling import compiled

Floats = NDArray[np.float64]

_LARGEST_SAMPLE = 1e150
_LARGEST_WHOLE = 2**53
NOT_PLAIN = -1

_0, _1, _3, _7, _8, _16, _32 = (np.uint64(number) for number in (0, 1, 3, 7, 8, 16, 32))
_56, _64, _72 = (np.uint64(number) for number in (56, 64, 72))
_BYTE = np.uint64(0xFF)
_ZEROS = np.uint64(0x3030_3030_3030_3030)
_TOPS = np.uint64(0x8080_8080_8080_8080)
_REST = np.uint64(0x7F7F_7F7F_7F7F_7F7F)
_ABOVE_NINE = np.uint64(0x7676_7676_7676_7676)
_MINUS = np.uint64(ord("-"))
# These as they are among digits, of which '0' was taken by exclusive or.
_POINT, _COMMA, _BRACKET = (np.uint64(ord(sign) ^ ord("0")) for sign in ".,]")
_TEN, _EIGHT_DIGITS = np.uint64(10), np.uint64(10**8)
_PAIRS, _UPPER, _LOWER = (np.uint64(n) for n in (0x0000_00FF_0000_00FF, 0x000F_4240_0000_0064, 0x0000_2710_0000_0001))

_WHOLE_TENS = np.array([10**number for number in range(9)], dtype=np.uint64)
_TENS = np.array([float(10**number) for number in range(23)])
_SIGNED_TENS = np.array([sign * 10.0**number for sign in (1, -1) for number in range(8)])

_LEAST_POWER, _LARGEST_POWER = -342, 308


def _fives() -> NDArray[np.uint64]:
    """Give the upper 128 bits of the powers of five of -342 to 308, each as two words, those below 1 rounded up."""
    words = []
    for power in range(_LEAST_POWER, _LARGEST_POWER + 1):
        five = 5 ** abs(power)
        if power >= 0:
            bits = (five << 128) >> five.bit_length()
        else:
            size = (five - 1).bit_length()
            bits = (1 << (size + 127 if power >= -27 else 2 * size + 128)) // five + 1
            bits >>= max(0, bits.bit_length() - 128)
        words += [bits >> 64, bits & (2**64 - 1)]
    return np.array(words, dtype=np.uint64)


_FIVES = _fives()


@compiled("uint64(uint64)")
def _beyond_digits(digits: Any) -> Any:
    """Set the top bit of each byte that is no digit, of eight of which '0' was taken."""
    return (((digits & _REST) + _ABOVE_NINE) | digits) & _TOPS


@compiled("uint64(uint64)")
def _eight(digits: Any) -> Any:
    """Give the number of eight digits of which '0' was taken, the first in the lowest byte."""
    digits = digits * _TEN + (digits >> _8)
    return ((digits & _PAIRS) * _UPPER + ((digits >> _16) & _PAIRS) * _LOWER) >> _32


@compiled(f"Tuple((int64, uint64))({BYTES}, int64, int64, uint64)")
def _digits(data: Bytes, place: Any, end: Any, number: Any) -> Any:
    """Append digits to a number, modulo 2**64."""
    while place + 8 <= end:
        word = load_word(data, place) ^ _ZEROS
        beyond = _beyond_digits(word)
        if beyond:
            count = low_zeros(beyond) >> _3
            if count:
                number = number * _WHOLE_TENS[count] + _eight(word << (_64 - (count << _3)))
            return place + np.int64(count), number
        number = number * _EIGHT_DIGITS + _eight(word)
        place += 8
    while place < end and ord("0") <= load_byte(data, place) <= ord("9"):
        number = number * _TEN + np.uint64(load_byte(data, place) - ord("0"))
        place += 1
    return place, number


@compiled("float64(uint64, int64)")
def _scaled(number: Any, power: Any) -> Any:
    """Give the double nearest to ``number * 10**power``, to the even one of two."""
    if number <= np.uint64(_LARGEST_WHOLE) and -22 <= power <= 22:
        exact = np.float64(np.int64(number))
        return exact / _TENS[np.uint64(-power)] if power < 0 else exact * _TENS[np.uint64(power)]
    if number == _0 or power < _LEAST_POWER:
        return 0.0
    if power > _LARGEST_POWER:
        return np.inf
    zeros = high_zeros(number)
    number <<= zeros
    five = np.uint64(2 * (power - _LEAST_POWER))
    low, high = number * _FIVES[five], upper_product(number, _FIVES[five])
    if high & np.uint64(0x1FF) == np.uint64(0x1FF):
        more = upper_product(number, _FIVES[five + _1])
        low += more
        high += np.uint64(low < more)
    top = high >> np.uint64(63)
    shift = top + np.uint64(9)
    mantissa = high >> shift
    exponent = ((217_706 * power) >> 16) + 63 + np.int64(top) - np.int64(zeros) + 1023
    if exponent <= 0:
        if exponent <= -63:
            return 0.0
        mantissa >>= np.uint64(1 - exponent)
        # Where this carries into the exponent's place, that is right.
        return double_of((mantissa + (mantissa & _1)) >> _1)
    if low <= _1 and -4 <= power <= 23 and mantissa & _3 == _1 and mantissa << shift == high:
        mantissa &= ~_1
    mantissa = (mantissa + (mantissa & _1)) >> _1
    # The mantissa's leading one, which is not written, adds one to the exponent, and so does a carry beyond it.
    bits = mantissa + (np.uint64(exponent - 1) << np.uint64(52))
    return double_of(bits) if bits >> np.uint64(52) < np.uint64(0x7FF) else np.inf


@compiled(f"Tuple((int64, float64))({BYTES}, int64, int64)")
def decimal(data: Bytes, place: Any, end: Any) -> Any:
    """Take a decimal number, which is plain with at most 19 digits after its leading zeros."""
    negative = place < end and load_byte(data, place) == ord("-")
    begin = place + negative
    place, number = _digits(data, begin, end, _0)
    digits = place - begin
    if digits == 0 or (digits > 1 and load_byte(data, begin) == ord("0")):
        return NOT_PLAIN, 0.0
    power: Any = 0
    is_whole = True
    if place < end and load_byte(data, place) == ord("."):
        point = place + 1
        place, number = _digits(data, point, end, number)
        if place == point:
            return NOT_PLAIN, 0.0
        power, is_whole = point - place, False
        digits -= power
    leading = begin
    while digits > 19 and leading < place and load_byte(data, leading) <= ord("0"):
        digits -= load_byte(data, leading) == ord("0")
        leading += 1
    if digits > 19:
        return NOT_PLAIN, 0.0
    if place < end and load_byte(data, place) | 0x20 == ord("e"):
        place += 1
        sign = load_byte(data, place) if place < end else 0
        place += sign == ord("+") or sign == ord("-")
        begin = place
        place, exponent = _digits(data, place, end, _0)
        if not 1 <= place - begin <= 5:
            return NOT_PLAIN, 0.0
        power += -np.int64(exponent) if sign == ord("-") else np.int64(exponent)
        is_whole = False
    if is_whole and number == _0:  # a whole number, which has but one zero
        return place, 0.0
    value = _scaled(number, power)
    return place, -value if negative else value


@compiled(f"int64({BYTES}, int64, int64)")
def _after_space(data: Bytes, place: Any, end: Any) -> Any:
    while place < end and load_byte(data, place) in (0x20, 0x0A, 0x0D, 0x09):
        place += 1
    return place


@compiled(f"boolean({BYTES}, int64, int64, float64[::1])")
def _samples(data: Bytes, place: Any, end: Any, values: Floats) -> Any:
    """Take as many samples in as there is room for, if they are all until the bracket that ends them."""
    count = _0
    place = _after_space(data, place, end)
    while count < np.uint64(len(values)):
        if place + 8 <= end:
            # Most numbers lie in one word as a whole, with the sign that ends them: no branch is foretold wrong.
            word = load_word(data, place)
            negative = np.uint64(word & _BYTE == _MINUS)
            word = (word >> (negative << _3)) ^ _ZEROS
            beyond = _beyond_digits(word)
            # The bits before the first byte that is no digit; those before what ends the number, 0 where it is longer.
            point = low_zeros(beyond) - _7
            has_head = word & _BYTE != _0 or point == _8  # a zero only where it is all before the point
            closing = (word >> point) & _BYTE
            stop = _0
            if closing == _POINT:
                after = low_zeros(beyond & (beyond - _1)) - _7
                closing = (word >> after) & _BYTE
                if closing in (_COMMA, _BRACKET) and point and has_head and point + _8 < after <= _56:
                    whole = (_1 << point) - _1
                    number = _eight(((word & whole) | ((word >> _8) & ~whole)) << (_72 - after))
                    scale = _SIGNED_TENS[(negative << _3) + ((after - point) >> _3) - _1]
                    values[count] = np.float64(np.int64(number)) / scale
                    stop = after
            elif closing in (_COMMA, _BRACKET) and point and has_head:
                number = _eight(word << (_64 - point))
                values[count] = np.float64(np.int64((number ^ (_0 - negative)) + negative))
                stop = point
            if stop:
                count += _1
                place += np.int64(negative + (stop >> _3) + _1)
                if closing == _BRACKET:
                    return place == end and count == np.uint64(len(values))
                if place < end and load_byte(data, place) <= 0x20:
                    place = _after_space(data, place, end)
                continue
        place, value = decimal(data, place, end)
        if place < 0 or not abs(value) < _LARGEST_SAMPLE:
            return False
        values[count] = value
        count += _1
        place = _after_space(data, place, end)
        sign = load_byte(data, place) if place < end else 0
        if sign == ord("]"):
            return place + 1 == end and count == np.uint64(len(values))
        if sign != ord(","):
            return False
        place = _after_space(data, place + 1, end)
    return False


@compiled(f"void({BYTES}, int64[:, ::1], float64[::1], int64[::1], float64[::1], boolean[::1])")
def take_in(
    data: Bytes, lists: Indices, rates: Floats, bounds: Indices, values: Floats, plain: NDArray[np.bool_]
) -> None:
    """Take in the decimal numbers of blocks, and tell of each block whether they are plain.

    ``lists`` says in four rows where each block's samples and its rate begin and end, all 0 where there are none.
    """
    for block in range(len(plain)):
        begin, end, rate, rate_end = lists[0, block], lists[1, block], lists[2, block], lists[3, block]
        plain[block] = True
        if end:
            plain[block] = _samples(data, begin, end, values[bounds[block] : bounds[block + 1]])
        if rate_end:
            place, rates[block] = decimal(data, rate, rate_end)
            plain[block] &= place == rate_end and np.isfinite(rates[block])


@compiled(f"void({BYTES}, int64[::1], int64[::1], float64[::1])")
def decimals(data: Bytes, begins: Indices, ends: Indices, values: Floats) -> None:
    """Take in numbers, each of which must be all that lies between its bounds; NaN where it is not plain."""
    for number in range(len(values)):
        place, value = decimal(data, begins[number], ends[number])
        values[number] = value if place == ends[number] else np.nan
