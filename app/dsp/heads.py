"""Where sensors' streams stand, in columns: what changes with every block, and so is not kept an object a sensor."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.dsp.snapshot import Position
from app.dsp.stage import Floats, Indices

NOWHERE = -1
"""Number of no source."""


class Columns(NamedTuple):
    """The columns, by row; compiled code changes them where they lie."""

    next_index: NDArray[np.int64]
    """Index of the next sample; -1 before the first block."""
    next_time: Floats
    """Time expected of the next sample, ms."""
    since: NDArray[np.int64]
    """Index from which on no sample is missing."""
    blocks: NDArray[np.int64]
    """Blocks since the last snapshot."""
    source: NDArray[np.int64]
    """Number of the partition that the blocks come from; `NOWHERE` before the first."""
    offset: NDArray[np.int64]
    """How far that has been consumed."""


_FRESH = (-1, math.nan, 0, 0, NOWHERE, 0)


def _columns(arrays: Iterable[NDArray[Any]]) -> Columns:
    return Columns(*arrays)


class Heads:
    """The columns of an engine's sensors, by their rows.

    Python code reads and writes one row's values through views, which is three times as fast as through the arrays.

    Parameters
    ----------
    rows
        How many there are at first.
    """

    def __init__(self, rows: int) -> None:
        self._sources: list[tuple[str, int]] = []
        self._numbers: dict[tuple[str, int], int] = {}
        self._take(_columns(np.full(rows, fresh) for fresh in _FRESH))

    def _take(self, columns: Columns) -> None:
        self.columns = columns
        self.next_index: memoryview[int] = columns.next_index.data
        # Of floats, which memoryview's type does not know.
        self.next_time: Any = columns.next_time.data
        self.since: memoryview[int] = columns.since.data
        self.blocks: memoryview[int] = columns.blocks.data
        self.source: memoryview[int] = columns.source.data
        self.offset: memoryview[int] = columns.offset.data

    def grow(self, rows: int) -> None:
        """Make room for more rows; the new ones hold nothing before they are `clear`."""
        grown = []
        for column in self.columns:
            array = np.empty(rows, dtype=column.dtype)
            array[: len(column)] = column
            grown.append(array)
        self._take(_columns(grown))

    def clear(self, rows: Indices) -> None:
        """Let rows stand before the first block."""
        for column, fresh in zip(self.columns, _FRESH, strict=True):
            column[rows] = fresh

    def number_of(self, topic: str, partition: int) -> int:
        """Give the number of a source, the same for as long as this lives."""
        number = self._numbers.get((topic, partition))
        if number is None:
            number = self._numbers[topic, partition] = len(self._sources)
            self._sources.append((topic, partition))
        return number

    def position(self, row: int) -> Position | None:
        """Say how far a row's source has been consumed."""
        number = self.source[row]
        return None if number == NOWHERE else Position(*self._sources[number], self.offset[row])

    def set_position(self, row: int, position: Position | None) -> None:
        """Note how far a row's source has been consumed."""
        if position is None:
            self.source[row] = NOWHERE
        else:
            self.source[row] = self.number_of(position.topic, position.partition)
            self.offset[row] = position.offset
