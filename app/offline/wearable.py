"""The `wearable` pipeline, with plain scipy and numpy."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray
from scipy.signal import butter, sosfilt

SAMPLE_RATE = 10.0
FEATURES = ("magnitude", "enmo", "steps", "cadence", "trend")
HOP = 10
WINDOW = 100
"""Samples over which movement is measured."""
TREND_WINDOW = 60
"""Measurements, one a second."""
STRIDE = (0.75, 3.5)
THRESHOLD = 0.05
APART = 2
"""Samples in a quarter of a second: what a step stands out from on either side."""

Floats = NDArray[np.float64]


def wearable_features(signal: ArrayLike, ends: ArrayLike) -> Floats:
    """Features at the end of each block of a signal.

    Parameters
    ----------
    signal
        (n, 3) samples at 10 Hz in g, from the stream's beginning and without gaps.
    ends
        (blocks,) number of samples up to and including each block.

    Returns
    -------
    (blocks, 5) values in the order of `FEATURES`; NaN where a window is not full yet.
    """
    length = np.sqrt((np.asarray(signal, dtype=np.float64) ** 2).sum(axis=1))
    kept = np.arange(HOP - 1, len(length), HOP)
    known = _steps_known(length)
    measured = np.full((len(kept), len(FEATURES)), np.nan)
    for number, last in enumerate(kept.tolist()):
        first = max(0, last + 1 - WINDOW)
        own = length[first : last + 1]
        steps = known[(known >= first) & (known <= last)]
        measured[number, 0] = own.mean()
        measured[number, 1] = np.maximum(own - 1.0, 0.0).mean()
        measured[number, 2] = len(steps)
        measured[number, 3] = 60.0 * SAMPLE_RATE / np.diff(steps).mean() if len(steps) > 1 else 0.0
    if len(kept) >= TREND_WINDOW:
        series = sliding_window_view(measured[:, 1], TREND_WINDOW)
        u = np.arange(TREND_WINDOW) - (TREND_WINDOW - 1) / 2
        measured[TREND_WINDOW - 1 :, 4] = (series - series.mean(axis=1, keepdims=True)) @ u / (u @ u)
    # Of windows that are not full there is a series, through which a trend is drawn, but no feature.
    measured[kept < WINDOW - 1, :4] = np.nan
    features = np.full((len(np.asarray(ends)), len(FEATURES)), np.nan)
    at = np.asarray(ends, dtype=np.intp) // HOP - 1
    features[at >= 0] = measured[at[at >= 0]]
    return features


def _steps_known(length: Floats) -> NDArray[np.intp]:
    """Give the samples at which a step becomes known."""
    band = sosfilt(butter(2, STRIDE, "bandpass", fs=SAMPLE_RATE, output="sos"), length - length[0])
    before = np.concatenate([np.zeros(APART), band])
    return np.array(
        [
            place + APART
            for place in np.flatnonzero(band > THRESHOLD)
            if band[place] > before[place : place + APART].max()
            and band[place] >= band[place : place + APART + 1].max()
        ],
        dtype=np.intp,
    )
