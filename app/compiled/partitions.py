"""The partitions of many keys at once, as Kafka's default partitioner chooses them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.dsp.fused.compiling import compiled
from app.dsp.stage import Indices

Bytes = NDArray[np.uint8]

_MASK = np.uint64(0xFFFFFFFF)
_FACTOR = np.uint64(0x5BD1E995)


@compiled("boolean(Array(uint8, 1, 'C', readonly=True), int64[::1], int64[::1], int64, int32[::1])")
def _partitions(texts: Bytes, begins: Indices, ends: Indices, count: int, out: NDArray[np.int32]) -> Any:
    """Fill ``out`` by murmur2 with the Java client's seed; says whether all keys lie within ``texts``."""
    for row in range(len(out)):
        begin, end = begins[row], ends[row]
        if begin < 0 or begin > end or end > len(texts):
            return False
        size = end - begin
        hashed = np.uint64(0x9747B28C) ^ np.uint64(size)
        place = begin
        while place + 4 <= end:
            word = (
                np.uint64(texts[place])
                | np.uint64(texts[place + 1]) << np.uint64(8)
                | np.uint64(texts[place + 2]) << np.uint64(16)
                | np.uint64(texts[place + 3]) << np.uint64(24)
            )
            word = (word * _FACTOR) & _MASK
            word ^= word >> np.uint64(24)
            word = (word * _FACTOR) & _MASK
            hashed = ((hashed * _FACTOR) & _MASK) ^ word
            place += 4
        if place < end:
            for i in range(end - 1, place - 1, -1):
                hashed ^= np.uint64(texts[i]) << np.uint64(8 * (i - place))
            hashed = (hashed * _FACTOR) & _MASK
        hashed ^= hashed >> np.uint64(13)
        hashed = (hashed * _FACTOR) & _MASK
        hashed ^= hashed >> np.uint64(15)
        out[row] = np.int64(hashed & np.uint64(0x7FFFFFFF)) % count
    return True


def partitions_of(texts: Bytes, begins: Indices, ends: Indices, count: int) -> NDArray[np.int32]:
    """Give the partitions of keys, as `app.runtime.outbox.partition_of` does one by one.

    Parameters
    ----------
    texts
        The keys' bytes, in any order,
    begins, ends
        (n,) and where each lies there.
    count
        Partitions of the topic.

    Returns
    -------
    (n,) partition of each.

    Raises
    ------
    ValueError
        A key does not lie within the bytes, or there is no partition.
    """
    out = np.empty(len(begins), np.int32)
    if count < 1 or len(ends) != len(begins) or not _partitions(texts, begins, ends, count, out):
        raise ValueError(
            f"expected {len(begins)} keys within {len(texts)} bytes, and at least 1 partition instead of {count}"
        )
    return out
