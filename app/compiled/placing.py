"""Placing plain blocks in their sensors' streams, compiled: those that follow what came before, and no others.

It says of each block what `app.dsp.placement` would say, as long as nothing is out of the ordinary. A sensor of which
one block is not plain gives none of a stretch's blocks this way, so that its blocks stay in order.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from app.dsp.fused.compiling import compiled
from app.dsp.stage import Array, Floats, Indices

CLOCK_RESOLUTION = 1.0
"""As in `app.dsp.stream_time`; what compiled code uses must lie in its own file."""

NONE = -2
"""Entry of a name that a block does not have, as in `app.compiled.decode`."""

_I = "int64[::1]"
_BLOCKS = f"Tuple(({_I}, {_I}, {_I}, float64[::1], {_I}, {_I}, {_I}, {_I}, {_I}, {_I}, {_I}))"
_ENTRIES = f"Tuple((uint8[::1], {_I}, {_I}, {_I}, {_I}, float64[::1], uint8[::1]))"
_HEADS = f"Tuple(({_I}, float64[::1], {_I}, {_I}))"
_SCRATCH = f"Tuple(({_I}, uint8[::1], {_I}, float64[::1], {_I}))"
_ENGINE = "Tuple((int64, int64, int64, float64))"

Blocks = tuple[Indices, Indices, Indices, Floats, Indices, Indices, Indices, Indices, Indices, Indices, Indices]
Entries = tuple[Array, Indices, Indices, Indices, Indices, Floats, Array]
Heads = tuple[Indices, Floats, Indices, Indices]
Scratch = tuple[Indices, Array, Indices, Floats, Indices]


@compiled(f"boolean({_BLOCKS}, int64, {_ENTRIES}, {_ENGINE})")
def _fits(blocks: Blocks, i: int, entries: Entries, engine: tuple[int, int, int, float]) -> Any:
    """Whether a block is of its sensor's partition, stream and pipeline."""
    sensor, _, _, rate, own_channels, pipeline, stream, bounds, _, partition, _ = blocks
    number, channels, _, sample_rate = engine
    entry, values = sensor[i], bounds[i + 1] - bounds[i]
    return (
        partition[i] == entries[3][entry]
        and (pipeline[i] == NONE or pipeline[i] == number)
        and (stream[i] == NONE or stream[i] == entries[4][entry])
        and (np.isnan(rate[i]) or rate[i] == sample_rate)
        and (own_channels[i] == 0 or own_channels[i] == channels)
        and values % channels == 0
    )


@compiled(f"void({_BLOCKS}, {_ENTRIES}, {_HEADS}, {_SCRATCH}, int64, {_ENGINE})")
def _check(
    blocks: Blocks,
    entries: Entries,
    heads: Heads,
    scratch: Scratch,
    stamp: int,
    engine: tuple[int, int, int, float],
) -> None:
    """Refuse the sensors of which a block does not follow."""
    sensor, timestamp, seq, bounds, offset = blocks[0], blocks[1], blocks[2], blocks[7], blocks[8]
    plain, engine_of, row_of = entries[0], entries[1], entries[2]
    next_index, next_time, _, consumed = heads
    stamps, refused, expected, expected_time, samples = scratch
    number, channels, longest, sample_rate = engine
    for i in range(len(sensor)):
        entry = sensor[i]
        if entry < 0 or engine_of[entry] != number:
            continue
        row = row_of[entry]
        if stamps[entry] != stamp:
            stamps[entry] = stamp
            refused[entry] = 0 if plain[entry] else 1
            expected[entry] = next_index[row]
            expected_time[entry] = next_time[row]
            samples[entry] = 0
        if refused[entry]:
            continue
        length = (bounds[i + 1] - bounds[i]) // channels
        follows = _fits(blocks, i, entries, engine) and offset[i] >= consumed[row]
        if seq[i] >= 0:
            follows &= seq[i] == expected[entry]
        else:
            off = abs(timestamp[i] - expected_time[entry])
            follows &= off <= length * 500.0 / sample_rate or off < CLOCK_RESOLUTION
        samples[entry] += length
        if not follows or samples[entry] > longest:
            refused[entry] = 1
        expected[entry] += length
        expected_time[entry] = timestamp[i] + length * (1000.0 / sample_rate)


@compiled(
    f"Tuple((int64, int64, int64))({_BLOCKS}, {_ENTRIES}, {_HEADS}, {_SCRATCH},"
    f" Tuple(({_I}, {_I}, {_I}, {_I})), int64, {_ENGINE}, float64)"
)
def place(
    blocks: Blocks,
    entries: Entries,
    heads: Heads,
    scratch: Scratch,
    out: tuple[Indices, Indices, Indices, Indices],
    stamp: int,
    engine: tuple[int, int, int, float],
    now: float,
) -> tuple[int, int, int]:
    """Place an engine's blocks, and let its sensors stand behind them.

    Parameters
    ----------
    blocks
        Sensor's entry (-1 unknown), timestamp, index (-1 none), rate (NaN none), channels (0 none), entries of pipeline
        and stream (-1 unknown, -2 none), bounds (one more than blocks), offset, partition, and the offset at which the
        block's partition ends in this stretch.
    entries
        By entry: whether a sensor's blocks may be placed here, its engine, row, partition and stream; when it was used
        last and whether it has changed, which are updated.
    heads
        By row: next index, next time, blocks since the last snapshot and offset consumed, which are updated.
    scratch
        By entry: the stamp of the stretch in which the others were set, whether a block was not plain, next index,
        next time and samples so far.
    out
        Become the numbers of the blocks that follow, their rows and indices, and the entries that have changed newly.
    stamp
        Of this stretch, and no other.
    engine
        Its number, channels, most samples that a sensor may bring in a stretch, and sample rate, Hz.
    now
        Time of use, s.

    Returns
    -------
    How many blocks follow, how many entries have changed newly, and how many blocks came at another time than expected.
    """
    _check(blocks, entries, heads, scratch, stamp, engine)
    sensor, timestamp, seq, bounds, end = blocks[0], blocks[1], blocks[2], blocks[7], blocks[10]
    engine_of, row_of, used, changed = entries[1], entries[2], entries[5], entries[6]
    next_index, next_time, since_snapshot, consumed = heads
    refused = scratch[1]
    numbers, rows, firsts, newly = out
    number, channels, _, sample_rate = engine
    count, changes, jumps = 0, 0, 0
    for i in range(len(sensor)):
        entry = sensor[i]
        if entry < 0 or engine_of[entry] != number or refused[entry]:
            continue
        row = row_of[entry]
        length = (bounds[i + 1] - bounds[i]) // channels
        duration = length * (1000.0 / sample_rate)
        off = abs(timestamp[i] - next_time[row])
        jumps += seq[i] >= 0 and off > CLOCK_RESOLUTION and off > 0.5 * duration
        numbers[count] = i
        rows[count] = row
        firsts[count] = next_index[row]
        count += 1
        next_index[row] += length
        next_time[row] = timestamp[i] + duration
        since_snapshot[row] += 1
        consumed[row] = end[i]
        used[entry] = now
        if not changed[entry]:
            changed[entry] = 1
            newly[changes] = entry
            changes += 1
    return count, changes, jumps
