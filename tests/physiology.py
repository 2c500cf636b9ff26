"""Definitions of measures of beats and of signal quality, as plain as can be."""

from __future__ import annotations

import math
import statistics
from fractions import Fraction
from itertools import groupby, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.signal import periodogram

from app.dsp.stage import Floats


def hrv_of(beats: NDArray[Any], rate: float) -> list[float]:
    """The measures of beats at the given samples, interval by interval."""
    # Fractions, so that 50 ms are not more than 50 ms.
    rr = [1000 * Fraction(interval) / Fraction(rate) for interval in np.diff(beats).tolist()]
    counted = [interval for interval in rr if 300 <= interval <= 2000]
    pairs = [b - a for a, b in pairwise(rr) if 300 <= a <= 2000 and 300 <= b <= 2000]
    return [
        math.sqrt(sum(difference**2 for difference in pairs) / len(pairs)) if pairs else 0.0,
        statistics.stdev(counted) if len(counted) > 1 else 0.0,
        float(Fraction(100 * sum(abs(difference) > 50 for difference in pairs), len(counted))) if counted else 0.0,
        float(statistics.mean(counted)) if counted else 0.0,
        len(beats),
    ]


def in_runs(values: NDArray[Any], length: int) -> int:
    """How many of the true values lie in runs of at least a length."""
    runs = [(key, len(list(own))) for key, own in groupby(values.tolist())]
    return sum(count for key, count in runs if key and count >= length)


def qualities(windows: NDArray[Any], rate: float) -> Floats:
    """The values of (windows, n) samples."""
    count, size = windows.shape[1], np.abs(windows).max(axis=1, keepdims=True)
    still, run = round(0.2 * rate), max(3, round(0.02 * rate))
    flat = np.zeros(windows.shape, dtype=bool)
    for begin in range(count - still + 1):
        own = slice(begin, begin + still)
        flat[:, own] |= np.ptp(windows[:, own], axis=1, keepdims=True) <= 1e-6 * size
    top, bottom = windows.max(axis=1, keepdims=True), windows.min(axis=1, keepdims=True)
    ends = np.stack([windows >= top - 1e-6 * size, windows <= bottom + 1e-6 * size])
    clipped = np.array([in_runs(high, run) + in_runs(low, run) for high, low in ends.swapaxes(0, 1)]) / count
    clipped[np.ptp(windows, axis=1) <= 1e-6 * size[:, 0]] = 0
    frequency, power = periodogram(windows, rate, window="hann", detrend="constant", scaling="spectrum")
    if count % 2 == 0:
        power[:, -1] *= 2  # of a one-sided spectrum it alone counts once
    inside = power[:, (frequency >= 0.5) & (frequency <= 40)].sum(axis=1)
    with np.errstate(invalid="ignore"):
        noise = np.nan_to_num(1 - inside / power[:, 1:].sum(axis=1))
    shares = np.stack([flat.mean(axis=1), clipped, noise], axis=1)
    return np.column_stack([shares, np.prod(1 - shares, axis=1)])
