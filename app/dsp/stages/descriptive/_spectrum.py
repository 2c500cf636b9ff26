"""Spectra of windows: without their mean, under a Hann window, and of every row by the same code.

Its line ``i`` of ``window // 2 + 1`` lies at ``i * sample_rate / window`` Hz.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import scipy

from app.dsp.stage import Floats
from app.dsp.stages.descriptive._windows import centred, scaled
from app.dsp.window import check_window

TOGETHER = 8
"""Rows that numpy's transform takes together at most, by vector instructions; what is left over it takes one by one."""


def check_spectrum_window(window: int) -> None:
    """Refuse a ``window`` too short for a spectrum, or too long."""
    check_window(window, 4, "a Hann window leaves nothing of fewer")


@lru_cache
def hann(window: int) -> Floats:
    """Periodic Hann window."""
    values: Floats = np.asarray(scipy.signal.get_window("hann", window), dtype=np.float64)
    values.flags.writeable = False
    return values


def frequencies(window: int, sample_rate: float) -> Floats:
    """Frequency of each line in Hz."""
    return np.arange(window // 2 + 1) * sample_rate / window


def powers(x: Floats) -> tuple[Floats, Floats]:
    """Squared magnitudes of the transform of windows.

    Parameters
    ----------
    x
        (..., window) values.

    Returns
    -------
    (..., window // 2 + 1) squared magnitudes of the windows over their scale, and (...,) the scale.
    """
    window = x.shape[-1]
    values, scale = scaled(x.reshape(-1, window))
    rows = len(values)
    # Filled up with zeros, so that each row is one of so many whatever its company.
    tapered = np.zeros((-(-rows // TOGETHER) * TOGETHER, window))
    np.multiply(centred(values), hann(window), out=tapered[:rows])
    spectrum = np.fft.rfft(tapered)[:rows]
    squares: Floats = np.square(spectrum.real) + np.square(spectrum.imag)
    return squares.reshape(*x.shape[:-1], window // 2 + 1), scale.reshape(x.shape[:-1])
