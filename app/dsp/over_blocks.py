"""Values over all samples of a block: mean, least and greatest."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from app.dsp.stage import Floats, Indices


def over_blocks(
    take: Literal["mean", "min", "max"], series: Floats, last: Indices, mark_rows: Indices
) -> tuple[Floats, NDArray[np.bool_]]:
    """Reduce a series over the blocks that end at the marks.

    Parameters
    ----------
    take
        What to make of a block's samples.
    series
        (rows, channels, samples).
    last
        (marks,) index of the last sample at or before each mark, -1 where there is none; rising within a row.
    mark_rows
        (marks,) row of each mark.

    Returns
    -------
    (marks, channels) values, and (marks,) whether the block has any sample; where it has none the value is 0.
    """
    begins = np.zeros_like(last)
    if len(last) > 1:
        follows = mark_rows[1:] == mark_rows[:-1]
        begins[1:] = np.where(follows, last[:-1] + 1, 0)
    counts = last + 1 - begins
    values = np.zeros((len(last), series.shape[1]))
    # Blocks of one length together, each contiguous, so that a block's sum runs in one order in any company.
    for count in np.unique(counts[counts > 0]).tolist():
        own = np.flatnonzero(counts == count)
        at = begins[own, np.newaxis] + np.arange(count)
        x = np.ascontiguousarray(np.moveaxis(series[mark_rows[own, np.newaxis], :, at], 1, 2))
        if take == "mean":
            values[own] = np.add.reduce(x, axis=-1) / count
        else:
            values[own] = x.min(axis=-1) if take == "min" else x.max(axis=-1)
    return values, counts > 0
