"""Which blocks go through `app.dsp.fused.abreast` at once: of one length, and of different sensors."""

from __future__ import annotations

import numpy as np

from app.dsp.fused.compiling import compiled
from app.dsp.stage import Indices

SIZE = 8
"""Blocks of a group: as many as there are lanes."""

LOOKAHEAD = 64
"""Blocks among which others of a block's length are looked for."""


@compiled("Tuple((int64[::1], int64[::1]))(int64[::1], int64[::1])")
def grouped(lengths: Indices, rows: Indices) -> tuple[Indices, Indices]:
    """Put blocks into groups of at most eight, of one length and of different rows, a row's blocks in their order.

    Parameters
    ----------
    lengths, rows
        (blocks,) values of each block, and the row of its state.

    Returns
    -------
    The blocks' numbers, group by group, and how many each group has.
    """
    count, slots = len(rows), 1
    while slots < 2 * count:
        slots *= 2
    order, sizes = np.empty(count, np.int64), np.empty(count, np.int64)
    newest, follows = np.full(slots, -1), np.full(count, -1)
    last = 0
    for block in range(count):
        slot = rows[block] & (slots - 1)
        while newest[slot] >= 0 and rows[newest[slot]] != rows[block]:
            slot = (slot + 1) & (slots - 1)
        if newest[slot] >= 0:
            follows[newest[slot]] = block
        else:
            order[last] = block
            last += 1
        newest[slot] = block
    first, groups = 0, 0
    while first < last:
        end = last  # until here no two are of one row; their rows' next blocks go behind
        while first < end:
            size, length = 1, lengths[order[first]]
            for place in range(first + 1, min(end, first + LOOKAHEAD)):
                if size == SIZE:
                    break
                if lengths[order[place]] == length:
                    order[place], order[first + size] = order[first + size], order[place]
                    size += 1
            for place in range(first, first + size):
                if follows[order[place]] >= 0:
                    order[last] = follows[order[place]]
                    last += 1
            sizes[groups] = size
            groups += 1
            first += size
    return order, sizes[:groups]
