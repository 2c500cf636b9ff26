"""The greatest value of every window, and which samples lie in long runs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from app.dsp.stage import Array


def moving_max(series: Array, window: int) -> Array:
    """Give the maximum over every run of ``window`` values along the last axis; log2(window) comparisons a value.

    Parameters
    ----------
    series
        (..., n) values; of booleans it says whether any is true.
    window
        Values in a run, 1 to n.

    Returns
    -------
    (..., n - window + 1) maxima; the i-th is of ``series[..., i : i + window]``.
    """
    most, width = series, 1
    while 2 * width <= window:
        most = np.maximum(most[..., :-width], most[..., width:])
        width *= 2
    rest = window - width
    return np.maximum(most[..., : most.shape[-1] - rest], most[..., rest:]) if rest else most


def covered(runs: NDArray[np.bool_], length: int) -> NDArray[np.bool_]:
    """Tell which samples lie in any of the runs of ``length`` that begin where ``runs`` is true.

    Parameters
    ----------
    runs
        (..., n) whether a run begins.
    length
        Samples of a run.

    Returns
    -------
    (..., n + length - 1) whether a sample lies in one.
    """
    edge = np.zeros((*runs.shape[:-1], length - 1), dtype=np.bool_)
    return moving_max(np.concatenate([edge, runs, edge], axis=-1), length)
