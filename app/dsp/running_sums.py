"""Sums over a whole stream, from its first sample on, that do not drift.

What each addition rounds away is known exactly (Knuth, *The Art of Computer Programming* 2, 4.2.2, theorem B) and is
summed beside, so that the sums are as good as ones of twice the precision (Ogita, Rump & Oishi, *SIAM J. Sci. Comput.*
26, 2005, algorithm Sum2). Both sums run sample by sample: cuts change nothing.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from app.dsp.stage import Floats


class RunningSums(NamedTuple):
    """Sums after each sample, and what the next call goes on from."""

    sums: Floats
    """(rows, channels, samples)."""
    total: Floats
    """(rows, channels) the sum as it was rounded."""
    lost: Floats
    """(rows, channels) what rounding has taken from it."""


def running_sums(total: Floats, lost: Floats, x: Floats) -> RunningSums:
    """Add samples ``x`` (rows, channels, samples), one after another, to sums of those before."""
    rounded = _accumulated(total, x)
    before, after = rounded[..., :-1], rounded[..., 1:]
    added = after - before
    all_lost = _accumulated(lost, (before - (after - added)) + (x - added))
    return RunningSums(after + all_lost[..., 1:], rounded[..., -1].copy(), all_lost[..., -1].copy())


def _accumulated(first: Floats, x: Floats) -> Floats:
    series = np.concatenate([first[..., np.newaxis], x], axis=-1)
    result: Floats = np.add.accumulate(series, axis=-1)
    return result
