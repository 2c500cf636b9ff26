"""Fit `whitening` by ZCA: ``M = V (D + epsilon)**(-1/2) V'``, V D V' the covariance over ``samples - 1``."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from app.dsp.stages.spatial._projection import Params
from app.dsp.trainers._samples import checked, principal_axes, projection_params


def train(x: ArrayLike, epsilon: float = 1e-5) -> Params:
    """Fit mean and matrix.

    Parameters
    ----------
    x
        (channels, samples).
    epsilon
        What keeps directions of hardly any variance from being blown up, as a share of the channels' mean variance, so
        that it means the same whatever the unit.

    Raises
    ------
    ValueError
        The samples are not such; epsilon is negative; or it is 0, and there are channels that follow from others.
    """
    samples = checked(x)
    if not 0 <= epsilon < np.inf:
        raise ValueError(f"epsilon = {epsilon}: expected 0 or more")
    variances, axes = principal_axes(samples)
    damped = variances + epsilon * variances.mean()
    if damped[-1] <= variances[0] * len(samples) * np.finfo(np.float64).eps:
        raise ValueError(
            f"variances {variances[0]:.3g} to {variances[-1]:.3g} along the axes: expected none of nothing; leave out"
            " channels that are constant or follow from others, or give a greater epsilon"
        )
    return projection_params((axes.T / np.sqrt(damped)) @ axes, samples.mean(axis=1))
