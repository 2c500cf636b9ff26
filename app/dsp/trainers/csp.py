"""Fit `csp`: filters for whose outputs two conditions' variances differ the most.

With C1 and C2 the mean over trials of the covariance divided by its trace, filters v are the solutions of ``C1 v =
lambda (C1 + C2) v``: lambda is the first condition's share of the variance of the output (Ramoser et al., 2000).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import eigh

from app.dsp.stage import Floats
from app.dsp.stages.spatial._projection import Params
from app.dsp.trainers._samples import checked, projection_params, upright

REGULARISATION = 1e-6
"""Share of the mean variance that is added to every channel's, so that there is a solution for channels that follow
from others too."""


def train(first: Sequence[ArrayLike], second: Sequence[ArrayLike], filters: int) -> Params:
    """Fit the matrix; the mean is nothing.

    Parameters
    ----------
    first, second
        Trials of each condition, (channels, samples) each, band-passed.
    filters
        How many; half of them (and one, if they are odd) those with the greatest share of the first condition, the
        greatest first, and then those with the greatest share of the second, the least first.

    Raises
    ------
    ValueError
        There are no trials of a condition, they do not have the same channels or nothing but zeros, or there are fewer
        channels than filters.
    """
    if not first or not second:
        raise ValueError(f"{len(first)} and {len(second)} trials: expected at least one of each condition")
    one, other = _covariance(first), _covariance(second)
    if one.shape != other.shape:
        raise ValueError(f"{len(one)} and {len(other)} channels: expected as many in both conditions")
    channels = len(one)
    if not 1 <= filters <= channels:
        raise ValueError(f"filters = {filters}: expected 1 to the {channels} channels")
    both = one + other
    both += REGULARISATION * np.trace(both) / channels * np.eye(channels)
    _, vectors = eigh(one, both)
    falling = np.asarray(vectors, dtype=np.float64).T[::-1]
    least = filters // 2
    return projection_params(upright(np.concatenate([falling[: filters - least], falling[channels - least :]])))


def _covariance(trials: Sequence[ArrayLike]) -> Floats:
    """Give the mean of the trials' covariances, each divided by its trace."""
    total: Floats | None = None
    for trial in trials:
        own = np.atleast_2d(np.cov(checked(trial)))
        trace = np.trace(own)
        if not trace > 0:
            raise ValueError("a trial of nothing but constants: expected samples that vary")
        if total is not None and total.shape != own.shape:
            raise ValueError(f"trials of {len(total)} and {len(own)} channels: expected as many in all")
        total = own / trace if total is None else total + own / trace
    if total is None:
        raise ValueError("no trials: expected at least one")
    return total / len(trials)
