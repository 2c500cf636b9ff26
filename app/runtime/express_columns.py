"""What the express lane knows of each sensor, in columns."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from app.compiled.placing import NONE
from app.dsp.stage import Floats, Indices

_FIRST_ROWS = 64


class Columns:
    """Columns by a sensor's entry in the directory."""

    def __init__(self) -> None:
        self.plain = np.zeros(0, dtype=np.uint8)
        """Whether its next block may come this way."""
        self.engine = np.zeros(0, dtype=np.int64)
        self.row = np.zeros(0, dtype=np.int64)
        self.partition = np.zeros(0, dtype=np.int64)
        self.stream = np.zeros(0, dtype=np.int64)
        self.used = np.zeros(0)
        """When it last had a block this way, on the monotonic clock, s."""
        self.changed = np.zeros(0, dtype=np.uint8)
        """Whether it is known to have changed since its state was taken."""
        self._stamps = np.zeros(0, dtype=np.int64)
        self._refused = np.zeros(0, dtype=np.uint8)
        self._expected = np.zeros(0, dtype=np.int64)
        self._expected_time = np.zeros(0)
        self._samples = np.zeros(0, dtype=np.int64)

    @property
    def entries(self) -> tuple[NDArray[np.uint8], Indices, Indices, Indices, Indices, Floats, NDArray[np.uint8]]:
        """What `app.compiled.placing` takes of entries."""
        return self.plain, self.engine, self.row, self.partition, self.stream, self.used, self.changed

    @property
    def scratch(self) -> tuple[Indices, NDArray[np.uint8], Indices, Floats, Indices]:
        """What it works with."""
        return self._stamps, self._refused, self._expected, self._expected_time, self._samples

    def reserve(self, entries: int) -> None:
        """Make room for so many entries."""
        before = len(self.plain)
        if entries > before:
            for name, column in vars(self).items():
                grown = np.zeros(entries, dtype=column.dtype)
                grown[:before] = column
                setattr(self, name, grown)
            self.clear(slice(before, None))

    def set(self, entry: int, engine: int, row: int, partition: int) -> None:
        """Note where a sensor is."""
        self.engine[entry], self.row[entry], self.partition[entry] = engine, row, partition

    def clear(self, entries: int | slice) -> None:
        """Let entries be nobody's."""
        self.plain[entries] = self.changed[entries] = 0
        self.engine[entries], self.stream[entries], self.used[entries] = -1, NONE, 0.0

    def refuse(self, stamp: int, entries: Iterable[int]) -> None:
        """Let no block of some entries' sensors pass in the stretch of a stamp."""
        for entry in entries:
            if entry >= 0:
                self._stamps[entry], self._refused[entry] = stamp, 1


class Newest:
    """The newest features of an engine's sensors, by row, from which their last records are made when asked for.

    Parameters
    ----------
    width
        Values of a record.
    """

    def __init__(self, width: int) -> None:
        self._known = np.zeros(_FIRST_ROWS, dtype=np.bool_)
        self._timestamps = np.zeros(_FIRST_ROWS, dtype=np.int64)
        self._seqs = np.zeros(_FIRST_ROWS, dtype=np.int64)
        self._values = np.zeros((_FIRST_ROWS, width))
        self._full = np.zeros((_FIRST_ROWS, width), dtype=np.bool_)

    def note(self, rows: Indices, timestamps: Indices, seqs: Indices, values: Floats, full: NDArray[np.bool_]) -> None:
        """Take blocks' features, of a row that has several the last."""
        if (most := int(rows.max())) >= len(self._known):
            for name, column in vars(self).items():
                grown = np.zeros((2 * most + 1, *column.shape[1:]), dtype=column.dtype)
                grown[: len(column)] = column
                setattr(self, name, grown)
        self._known[rows] = True
        self._timestamps[rows], self._seqs[rows] = timestamps, seqs
        self._values[rows], self._full[rows] = values, full

    def forget(self, row: int) -> None:
        """Forget a row: its last block went another way."""
        if row < len(self._known):
            self._known[row] = False

    def knows(self, row: int) -> bool:
        """Whether a row's last block came this way."""
        return row < len(self._known) and bool(self._known[row])

    def of(self, rows: Indices) -> tuple[Indices, Indices, Floats, NDArray[np.bool_]]:
        """Give timestamps, indices, values and fullness of rows' last blocks."""
        return self._timestamps[rows], self._seqs[rows], self._values[rows], self._full[rows]
