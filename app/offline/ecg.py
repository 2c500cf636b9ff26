"""The `ecg` pipelines, with plain scipy and numpy."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray
from scipy.signal import butter, sosfilt

SAMPLE_RATE = 250.0
RMS_WINDOW = 50
HJORTH_WINDOW = 256
FEATURES = ("rms", "hjorth_mobility", "hjorth_complexity", "hjorth_activity")

Floats = NDArray[np.float64]


class Parameters(NamedTuple):
    """What `ecg` filters with, and the windows that it looks through."""

    cutoff: tuple[float, float] = (0.5, 100.0)
    """Edges of the band, Hz."""
    rms_window: int = RMS_WINDOW
    hjorth_window: int = HJORTH_WINDOW


SHIPPED = Parameters()


def ecg_features(
    signal: ArrayLike, ends: ArrayLike, *, branched: bool = False, parameters: Parameters = SHIPPED
) -> Floats:
    """Features at the end of each block of a signal.

    Parameters
    ----------
    signal
        (n,) samples at 250 Hz, from the stream's beginning and without gaps.
    ends
        (blocks,) number of samples up to and including each block.
    branched
        Take the Hjorth parameters of the filtered signal (`ecg-branched`), not of its moving RMS (`ecg`).
    parameters
        Other than those of the shipped pipelines.

    Returns
    -------
    (blocks, 4) values in the order of `FEATURES`; NaN where a window is not full yet.
    """
    x = np.asarray(signal, dtype=np.float64)
    last = np.asarray(ends, dtype=np.intp) - 1
    cutoff, rms_window, hjorth_window = parameters
    sos = butter(4, cutoff, "bandpass", fs=SAMPLE_RATE, output="sos")
    filtered = sosfilt(sos, x)
    squares = np.concatenate([np.zeros(rms_window - 1), filtered**2])
    counts = np.minimum(np.arange(1, len(x) + 1), rms_window)
    rms = np.sqrt(sliding_window_view(squares, rms_window).sum(axis=-1) / counts)
    features = np.full((len(last), len(FEATURES)), np.nan)
    full = last >= rms_window - 1
    features[full, 0] = rms[last[full]]
    full = last >= hjorth_window - 1
    if full.any():
        windows = sliding_window_view(filtered if branched else rms, hjorth_window)[last[full] - hjorth_window + 1]
        features[full, 1:] = _hjorth(windows)
    return features


def _hjorth(windows: NDArray[Any]) -> Floats:
    """Mobility, complexity and activity of each row."""
    activity = np.var(windows, axis=1)
    first = np.var(np.diff(windows, axis=1), axis=1)
    second = np.var(np.diff(windows, n=2, axis=1), axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        mobility = np.where(activity > 0, np.sqrt(first / activity), 0.0)
        of_first = np.where(first > 0, np.sqrt(second / first), 0.0)
        complexity = np.where(mobility > 0, of_first / mobility, 0.0)
    return np.stack([mobility, complexity, activity], axis=1)
