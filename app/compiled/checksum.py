"""CRC-32C, the checksum of Kafka's record batches, by the processor's own instruction.

Three stretches are summed side by side, as each step waits for the one before it; their sums are put together by what
so many zero bytes make of a sum, which is linear in its bits.
"""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np
from aiokafka.record.util import calc_crc32c
from numpy.typing import NDArray

from app.compiled.loads import CRC_INSTRUCTION, crc_step, load_word
from app.dsp.fused.compiling import compiled

_STRETCH = 1024
"""Bytes of each of the three; a power of two."""

_POLYNOMIAL = 0x82F63B78


def _applied(sums: list[int], value: int) -> int:
    """Give what becomes of a sum, by what becomes of its bits."""
    return reduce(lambda whole, bit: whole ^ sums[bit], (bit for bit in range(32) if value >> bit & 1), 0)


def _after_zeros(count: int) -> NDArray[np.uint64]:
    """(4, 256) what so many zero bytes make of each byte of a sum; the four by exclusive or."""
    sums = [1 << bit >> 1 if bit else _POLYNOMIAL for bit in range(32)]  # after one bit
    for _ in range((8 * count).bit_length() - 1):
        sums = [_applied(sums, one) for one in sums]
    return np.array([[_applied(sums, value << 8 * byte) for value in range(256)] for byte in range(4)], np.uint64)


_BYTE = _after_zeros(1)[0]
_ZEROS = _after_zeros(_STRETCH)


def _sum(data: NDArray[np.uint8]) -> Any:
    summed, at, size = np.uint64(0xFFFFFFFF), 0, len(data)
    while size - at >= 3 * _STRETCH:
        second, third = np.uint64(0), np.uint64(0)
        for i in range(at, at + _STRETCH, 8):
            summed = crc_step(summed, load_word(data, i))
            second = crc_step(second, load_word(data, i + _STRETCH))
            third = crc_step(third, load_word(data, i + 2 * _STRETCH))
        for following in (second, third):
            summed = (
                _ZEROS[0, summed & np.uint64(255)]
                ^ _ZEROS[1, (summed >> np.uint64(8)) & np.uint64(255)]
                ^ _ZEROS[2, (summed >> np.uint64(16)) & np.uint64(255)]
                ^ _ZEROS[3, summed >> np.uint64(24)]
                ^ following
            )
        at += 3 * _STRETCH
    while size - at >= 8:
        summed = crc_step(summed, load_word(data, at))
        at += 8
    for i in range(at, size):
        summed = _BYTE[(summed ^ np.uint64(data[i])) & np.uint64(255)] ^ (summed >> np.uint64(8))
    return summed ^ np.uint64(0xFFFFFFFF)


_compiled_sum = compiled("uint64(Array(uint8, 1, 'C', readonly=True))")(_sum) if CRC_INSTRUCTION else None


def crc32c(data: bytes | bytearray | memoryview | NDArray[np.uint8]) -> int:
    """Give the CRC-32C of some bytes; by aiokafka where the processor has no instruction for it."""
    if _compiled_sum is None:
        return int(calc_crc32c(data))
    return int(_compiled_sum(np.frombuffer(data, np.uint8)))
