"""The `report` pipeline, with plain numpy."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray

SAMPLE_RATE = 0.01
FEATURES = ("mean", "day_mean", "day_variance", "day_least", "day_most", "trend_slope", "trend_value")
DAY = 864
TREND_WINDOW = 72
"""Two hours."""

Floats = NDArray[np.float64]


def report_features(signal: ArrayLike, ends: ArrayLike) -> Floats:
    """Features at the end of each block of a signal.

    Parameters
    ----------
    signal
        (n,) values, one in 100 s, from the stream's beginning and without gaps.
    ends
        (blocks,) number of values up to and including each block.

    Returns
    -------
    (blocks, 7) values in the order of `FEATURES`; NaN where a window is not full yet.
    """
    x = np.asarray(signal, dtype=np.float64)
    ends = np.asarray(ends, dtype=np.intp)
    features = np.full((len(ends), len(FEATURES)), np.nan)
    features[:, 0] = np.cumsum(x.astype(np.longdouble))[ends - 1] / ends
    full = ends >= DAY
    if full.any():
        days = sliding_window_view(x, DAY)[ends[full] - DAY]
        features[full, 1:5] = np.stack([days.mean(1), days.var(1), days.min(1), days.max(1)], axis=1)
    full = ends >= TREND_WINDOW
    if full.any():
        recent = sliding_window_view(x, TREND_WINDOW)[ends[full] - TREND_WINDOW]
        mean = recent.mean(axis=1)
        u = np.arange(TREND_WINDOW) - (TREND_WINDOW - 1) / 2
        slope = (recent - mean[:, np.newaxis]) @ u / (u @ u)
        features[full, 5:] = np.stack([slope, mean + slope * u[-1]], axis=1)
    return features
