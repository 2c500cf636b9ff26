"""Fit `ica` by FastICA (Hyvärinen, *IEEE Trans. Neural Networks* 10, 1999).

The samples are whitened along their principal axes; then all rows w of an orthogonal matrix W go on together by::

    w <- mean(z g(w z)) - mean(g'(w z)) w,  g = tanh;  W <- (W W')**(-1/2) W

until no row turns any more. The unmixing matrix is W times the whitening one, a row a source.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from app.dsp.stage import Floats
from app.dsp.stages.spatial._projection import Params
from app.dsp.trainers._samples import checked, principal_axes, projection_params, upright

SAMPLES_PER_CHANNEL = 5


def train(
    x: ArrayLike,
    components: int | None = None,
    *,
    iterations: int = 200,
    tolerance: float = 1e-4,
    seed: int = 0,
) -> Params:
    """Fit mean and unmixing matrix.

    Parameters
    ----------
    x
        (channels, samples), at least 5 samples a channel.
    components
        Sources to look for, in the space of the axes of greatest variance; None: one a channel.
    iterations
        Most of them.
    tolerance
        1 - |cos| of the angle that a row may turn by in the last one.
    seed
        Of the orthogonal matrix to begin with.

    Raises
    ------
    ValueError
        The samples are not such; there are fewer independent channels than components; or rows turn to the end.
    """
    samples = checked(x, SAMPLES_PER_CHANNEL)
    channels = len(samples)
    count = channels if components is None else components
    if not 1 <= count <= channels:
        raise ValueError(f"components = {components}: expected 1 to the {channels} channels")
    mean = samples.mean(axis=1)
    variances, axes = principal_axes(samples)
    if variances[count - 1] <= variances[0] * channels * np.finfo(np.float64).eps:
        raise ValueError(
            f"components = {count}: expected fewer, as the channels have variance in fewer directions;"
            " leave out channels that are constant or follow from others"
        )
    whitening = axes[:count] / np.sqrt(variances[:count, np.newaxis])
    white = whitening @ (samples - mean[:, np.newaxis])
    unmixing = _decorrelated(np.random.default_rng(seed).normal(size=(count, count)))
    for _ in range(iterations):
        values = np.tanh(unmixing @ white)
        slopes = (1 - values**2).mean(axis=1, keepdims=True)
        turned = _decorrelated(values @ white.T / white.shape[1] - slopes * unmixing)
        cosines = np.abs((turned * unmixing).sum(axis=1))
        unmixing = turned
        if (1 - cosines).max() < tolerance:
            return projection_params(upright(unmixing @ whitening), mean)
    raise ValueError(
        f"iterations = {iterations}: no end found; expected sources of which at most one is Gaussian:"
        " give more samples, more iterations or fewer components"
    )


def _decorrelated(rows: Floats) -> Floats:
    """Give the nearest orthogonal matrix, ``(W W')**(-1/2) W``."""
    left, _, right = np.linalg.svd(rows)
    return np.asarray(left @ right, dtype=np.float64)
