"""Samples that are missing: a gap filled in, and NaN and infinity in a block replaced."""

from __future__ import annotations

import numpy as np

from app.dsp.pipeline import GapPolicy, NonFinitePolicy
from app.dsp.stage import Floats


def filling(policy: GapPolicy, last: Floats, following: Floats, count: int) -> Floats:
    """Make up the samples of a gap.

    Parameters
    ----------
    policy
        Any but "reset".
    last, following
        (channels,) samples before and after the gap.
    count
        Samples missing.

    Returns
    -------
    (count, channels) samples.
    """
    if policy == "zero":
        return np.zeros((count, len(last)))
    if policy == "hold":
        return np.tile(last, (count, 1))
    share = np.arange(1, count + 1)[:, np.newaxis] / (count + 1)
    return last * (1 - share) + following * share


def repaired(policy: NonFinitePolicy, frames: Floats, last: Floats) -> Floats:
    """Replace what is not finite.

    Parameters
    ----------
    policy
        Any but "reject".
    frames
        (samples, channels) of a block.
    last
        (channels,) sample before the block.

    Returns
    -------
    (samples, channels), all finite.
    """
    good = np.vstack([np.ones(len(last), dtype=np.bool_), np.isfinite(frames)])
    series = np.vstack([last, frames])
    places = np.arange(len(series))
    for channel, own in enumerate(good.T):
        if policy == "hold":
            series[:, channel] = series[np.maximum.accumulate(np.where(own, places, 0)), channel]
        else:
            series[~own, channel] = np.interp(places[~own], places[own], series[own, channel])
    return series[1:]
