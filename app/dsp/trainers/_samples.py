"""What trainers ask of the samples they are given."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from app.dsp.stage import Floats
from app.dsp.stages.spatial._projection import Params


def checked(x: ArrayLike, per_channel: int = 0) -> Floats:
    """Give samples as float64 (channels, samples).

    Parameters
    ----------
    x
        (channels, samples).
    per_channel
        How many samples it takes for each channel; at least 2 in all.

    Raises
    ------
    ValueError
        They have another shape, are too few, or are not all finite.
    """
    samples = np.asarray(x, dtype=np.float64)
    if samples.ndim != 2:
        raise ValueError(f"samples of shape {samples.shape}: expected (channels, samples)")
    if samples.shape[1] < (least := max(2, per_channel * len(samples))):
        raise ValueError(f"{samples.shape[1]} samples of {samples.shape[0]} channels: expected at least {least}")
    if not np.isfinite(samples).all():
        raise ValueError("samples: expected finite numbers, without gaps")
    return samples


def principal_axes(x: Floats) -> tuple[Floats, Floats]:
    """Give variances (channels,), the greatest first, and the axes that they lie along, orthonormal rows.

    An axis points to where the greatest of its weights is positive.
    """
    variances, vectors = np.linalg.eigh(np.atleast_2d(np.cov(x)))
    axes = upright(vectors.T[::-1])
    return np.maximum(variances[::-1], 0.0), axes


def upright(rows: Floats) -> Floats:
    """Give rows the sign by which their weight of the greatest size is positive, whatever sign a solver chose."""
    greatest = np.take_along_axis(rows, np.argmax(np.abs(rows), axis=1)[:, np.newaxis], axis=1)
    return np.where(greatest < 0, -rows, rows)


def projection_params(matrix: Floats, mean: Floats | None = None) -> Params:
    """Give parameters of a projection, from arrays."""
    return Params(tuple(map(tuple, matrix.tolist())), () if mean is None else tuple(mean.tolist()))
