"""What a pipeline's stages see of a signal that is sent in blocks, some of which are missing or have holes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


class Policies(NamedTuple):
    """What a pipeline makes of samples that are missing: its settings of these names."""

    gap: str = "reset"
    max_gap: float = 1.0
    non_finite: str = "reject"


DEFAULT_POLICIES = Policies()


class Stretch(NamedTuple):
    """Samples that a filter sees one after another, from where its state began."""

    signal: Floats
    """(n,) or (n, channels) samples, those made up among them."""
    ends: list[int]
    """Number of samples up to and including each block."""
    gaps: list[int]
    """Samples missing before each block."""
    quality: list[float]
    """Share of measured values among those that came with each block."""


def stretches(
    signal: ArrayLike,
    starts: Sequence[int],
    lengths: Sequence[int],
    policies: Policies = DEFAULT_POLICIES,
    sample_rate: float = 250.0,
) -> list[Stretch]:
    """Give what the stages see of a signal sent in blocks, some of which may be missing.

    Parameters
    ----------
    signal
        (n,) or (n, channels) samples; those that are not finite are repaired.
    starts, lengths
        (blocks,) index of the first sample and number of samples of each block sent, in order.
    policies
        Of the pipeline.
    sample_rate
        Of the signal, Hz.
    """
    given = np.asarray(signal, dtype=np.float64)
    x = given.reshape(len(given), -1)
    channels = x.shape[1]
    found: list[Stretch] = []
    pieces: list[list[Floats]] = []
    following = starts[0] if starts else 0
    for start, length in zip(starts, lengths, strict=True):
        gap, following = start - following, start + length
        filled = gap if policies.gap != "reset" and gap <= policies.max_gap * sample_rate else 0
        if not found or gap > filled:
            found.append(Stretch(np.zeros(0), [0], [], []))
            pieces.append([np.zeros((1, channels))])
        stretch = found[-1]
        last = pieces[-1][-1][-1:]
        own = x[start:following]
        stretch.quality.append(float(np.isfinite(own).sum() / ((length + filled) * channels)))
        if not np.isfinite(own).all():
            own = _without_holes(np.concatenate([last, own]), policies.non_finite)[1:]
        if filled:
            holes = np.full((filled, channels), 0.0 if policies.gap == "zero" else np.nan)
            pieces[-1].append(_without_holes(np.concatenate([last, holes, own[:1]]), policies.gap)[1:-1])
        pieces[-1].append(own)
        stretch.ends.append(stretch.ends[-1] + filled + length)
        stretch.gaps.append(gap)
    return [
        stretch._replace(signal=np.concatenate(own[1:]).reshape(-1, *given.shape[1:]), ends=stretch.ends[1:])
        for stretch, own in zip(found, pieces, strict=True)
    ]


def _without_holes(x: Floats, policy: str) -> Floats:
    """Fill what is not finite of series (n, channels) whose first samples are: by the sample before, or on a line."""
    filled = x.copy()
    for series in filled.T:
        known = np.flatnonzero(np.isfinite(series))
        if policy == "interpolate":
            series[:] = np.interp(np.arange(len(series)), known, series[known])
        else:
            for place in np.flatnonzero(~np.isfinite(series)):
                series[place] = series[place - 1]
    return filled
