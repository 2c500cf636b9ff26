"""CSV files: one column a channel, one row a sample.

The delimiter is a comma, semicolon or tab. A header line is optional; without one the channels are called by
their number from 0 and none of them is taken for a time. A column whose header names a time gives the sampling
rate; its unit follows from the header alone, never from the values:

=================================  ==========================================================================
header (any case)                  meaning
=================================  ==========================================================================
``t``, ``time``                    seconds, from any zero
``timestamp``                      milliseconds since the epoch, as in the blocks on a sensor topic
``..._s``, ``..._ms``              the same, in the named unit; also written ``time (ms)`` or ``time [ms]``
=================================  ==========================================================================
"""

from __future__ import annotations

import csv
import re
from array import array
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from app.sources.recording import Recording, RecordingError

_TIME_HEADER = re.compile(
    r"(?P<what>t|time|timestamp)(?:_(?P<plain>s|ms)| ?[(\[](?P<bracketed>s|ms)[)\]])?", re.IGNORECASE
)
_SECONDS = {"s": 1.0, "ms": 1e-3}


def read_csv(path: Path, sample_rate: float | None) -> Recording:
    """Read a CSV file; empty fields, `nan` and infinities are NaN.

    Parameters
    ----------
    path
        The file, in UTF-8.
    sample_rate
        Hz. Needed where the file has no time column; else it must agree with that.

    Raises
    ------
    RecordingError
        A field is not a number, a row has another length, the rate is unknown, or the times are not evenly spaced.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header, table = _read_table(path, file)
    except (UnicodeDecodeError, csv.Error) as error:
        raise RecordingError(f"{path} is not CSV text in UTF-8 ({error}); export it anew as such") from error
    if len(table) == 0:
        raise RecordingError(f"{path} holds no samples; expected one row of numbers a sample")
    names = header or [str(number) for number in range(table.shape[1])]
    times = [(number, match) for number, name in enumerate(header) if (match := _TIME_HEADER.fullmatch(name))]
    if len(times) > 1:
        raise RecordingError(f"{path} has {len(times)} time columns; expected one: remove or rename the others")
    start = None
    if times:
        number, match = times[0]
        epoch = match["what"].lower() == "timestamp"
        unit = match["plain"] or match["bracketed"] or ("ms" if epoch else "s")
        seconds = table[:, number] * _SECONDS[unit.lower()]
        sample_rate = _rate(path, names[number], seconds, sample_rate)
        start = _epoch(path, names[number], seconds[0]) if epoch else None
        names.pop(number)
        table = np.delete(table, number, axis=1)
    if not names:
        raise RecordingError(f"{path} has only a time column; expected at least one column of samples beside it")
    if sample_rate is None:
        raise RecordingError(f"{path} has no column named t, time or timestamp: give the sampling rate (--rate HZ)")
    if not 0 < sample_rate < np.inf:
        raise RecordingError(f"sampling rate {sample_rate} Hz for {path}: expected a number above 0")
    return Recording(path.stem, float(sample_rate), tuple(names), np.ascontiguousarray(table.T), start)


def _read_table(path: Path, file: TextIO) -> tuple[list[str], NDArray[np.float64]]:
    """Read the header, empty if there is none, and the numbers, shape (rows, columns)."""
    first = file.readline()
    file.seek(0)
    delimiter = max(",;\t", key=first.count)
    rows = csv.reader(file, delimiter=delimiter, skipinitialspace=True)
    header: list[str] = []
    columns = 0
    blank = 0
    values = array("d")
    for row in rows:
        if not row:
            blank += 1
            continue
        if not columns:
            columns = len(row)
            if not all(_is_number(field) for field in row):
                header = [field.strip() or str(number) for number, field in enumerate(row)]
                continue
        if len(row) != columns:
            raise RecordingError(
                f"{path}, line {rows.line_num}: {len(row)} fields; expected {columns} as in the first line"
            )
        if columns == 1:
            # In a single column an empty field is an empty line, unless the file ends there.
            values.extend([np.nan] * blank)
        blank = 0
        try:
            values.extend([float(field or "nan") for field in row])
        except ValueError as error:
            raise RecordingError(
                f"{path}, line {rows.line_num}: {error}; expected numbers with a decimal point, or nothing"
            ) from None
    table = np.array(values).reshape(-1, max(columns, 1))
    table[~np.isfinite(table)] = np.nan
    return header, table


def _is_number(field: str) -> bool:
    try:
        float(field or "nan")
    except ValueError:
        return False
    return True


def _rate(path: Path, column: str, seconds: NDArray[np.float64], given: float | None) -> float:
    """Find the rate whose even grid passes within half a sample of every time.

    Times are often rounded, to milliseconds say, so of the rates that fit, the given one is taken, else one of a
    whole number of Hz, else one of a whole number of seconds, else the mean.
    """
    if len(seconds) < 2:
        raise RecordingError(f"{path} has one sample; expected at least two to tell the rate from column {column!r}")
    elapsed = seconds - seconds[0]
    if not np.isfinite(elapsed).all() or elapsed[-1] <= 0:
        raise RecordingError(f"{path}: column {column!r} lacks times or does not grow; expected a time in every row")
    mean = (len(seconds) - 1) / float(elapsed[-1])
    candidates = [given] if given is not None else [float(round(mean)), 1 / max(round(1 / mean), 1), mean]
    for rate in candidates:
        off = np.abs(elapsed * rate - np.arange(len(seconds)))
        if rate > 0 and off.max() < 0.5:
            return rate
    if given is not None:
        raise RecordingError(
            f"{path}: column {column!r} says {mean:g} Hz, not {given:g} Hz; give the right --rate, or none"
        )
    steps = np.diff(seconds)
    usual = float(np.median(steps))
    worst = int(np.argmax(np.abs(steps - usual)))
    raise RecordingError(
        f"{path}: the times in column {column!r} are not evenly spaced: {steps[worst]:g} s between samples {worst} and"
        f" {worst + 1}, usually {usual:g} s; fill missing rows with empty fields, or split the file there"
    )


def _epoch(path: Path, column: str, seconds: float) -> datetime:
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        raise RecordingError(
            f"{path}: column {column!r} begins {seconds:g} s after the epoch; expected ms since the epoch,"
            " else name the unit in the header: timestamp_s or timestamp_ms"
        ) from None
