"""Fit `pca`: the axes of greatest variance, of the covariance over ``samples - 1``."""

from __future__ import annotations

from numpy.typing import ArrayLike

from app.dsp.stage import Floats
from app.dsp.stages.spatial._projection import Params
from app.dsp.trainers._samples import checked, principal_axes, projection_params


def train(x: ArrayLike, components: int | None = None) -> Params:
    """Fit mean and matrix.

    Parameters
    ----------
    x
        (channels, samples).
    components
        Axes to keep, those of greatest variance; None: all.

    Raises
    ------
    ValueError
        The samples are not such, or have fewer channels than components.
    """
    samples = checked(x)
    channels = len(samples)
    if components is not None and not 1 <= components <= channels:
        raise ValueError(f"components = {components}: expected 1 to the {channels} channels")
    _, axes = principal_axes(samples)
    return projection_params(axes[:components], samples.mean(axis=1))


def explained_variance(x: ArrayLike) -> Floats:
    """Share of the samples' variance along each axis, (channels,), the greatest first; 0 where there is no variance."""
    variances, _ = principal_axes(checked(x))
    return variances / (variances.sum() or 1.0)
