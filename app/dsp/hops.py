"""Series of another pace: which samples are kept where one in ``hop`` is, counted through the whole stream."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from app.dsp.stage import Floats, Indices, Marks


class Hops(NamedTuple):
    """Where the kept samples of a call lie."""

    at: Indices
    """(rows, most) index along the call's samples of each row's kept ones; padded by the row's last sample."""
    lengths: Indices
    """(rows,) how many a row has."""
    last: Indices
    """(marks,) index, among a row's kept ones, of the last at or before each mark; -1 where the call has none."""


def hops(hop: int, seen: Indices, samples: int, marks: Marks) -> Hops:
    """Find every ``hop``-th sample of rows: the first one kept is the ``hop``-th of the stream.

    Parameters
    ----------
    hop
        One sample in so many is kept, at least 1.
    seen
        (rows,) samples that each row had seen before the call; modulo ``hop`` is enough.
    samples
        Of the call, at least 1.
    marks
        Of the call.
    """
    phase = seen % hop
    lengths = ((phase + samples) // hop).astype(np.intp)
    first = (hop - 1 - phase)[:, np.newaxis]
    at = np.minimum(first + hop * np.arange(lengths.max(initial=0)), samples - 1)
    last = (phase[marks.rows] + marks.last + 1) // hop - 1
    return Hops(at.astype(np.intp), lengths, last.astype(np.intp))


def keep(series: Floats, at: Indices) -> Floats:
    """Take the samples ``at`` (rows, kept) of a series (rows, channels, samples): (rows, channels, kept)."""
    return np.take_along_axis(series, at[:, np.newaxis, :], axis=-1)
