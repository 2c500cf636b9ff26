"""Stream time: which sample of its sensor's stream a block begins with."""

from __future__ import annotations

CLOCK_RESOLUTION = 1.0
"""Timestamps are whole milliseconds, so the time between two may be off by less than this, ms."""


def is_on_time(next_time: float, timestamp: float, length: int, sample_rate: float) -> bool:
    """Whether a timestamp agrees with the time expected, within half a block and as far as milliseconds tell.

    Parameters
    ----------
    next_time, timestamp
        Expected and given time of the block's first sample, ms.
    length
        Samples in the block.
    sample_rate
        Hz.
    """
    half_block = length * 500.0 / sample_rate
    off = abs(timestamp - next_time)
    return off <= half_block or off < CLOCK_RESOLUTION


def first_index(next_index: int, next_time: float, timestamp: float, length: int, sample_rate: float) -> int:
    """Index of a block's first sample, for a sensor that sends timestamps only.

    A device's clock drifts against its nominal rate, so each block is compared with the one before it and never
    with the stream's beginning. The time from one block to the next may be off by half a block; so may each
    timestamp by a quarter, whichever way.

    Parameters
    ----------
    next_index, next_time
        Index and time (ms) that the sample after the last block has.
    timestamp, length, sample_rate
        Of the block: ms, samples, Hz.

    Returns
    -------
    ``next_index`` if the block follows the last one; less for a block that is late or a duplicate; more by the
    missing samples after a gap.
    """
    if is_on_time(next_time, timestamp, length, sample_rate):
        return next_index
    return next_index + round((timestamp - next_time) * sample_rate / 1000.0)
