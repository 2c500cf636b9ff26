"""Spectra of real frames, in the forms that a pipeline may ask for.

numpy transforms one frame after another, so that a frame's bits do not depend on how many are beside it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import numpy as np

from app.dsp.stage import Floats
from app.dsp.stages.spectral._frames import Framing, taper_of

Output = Literal["magnitude", "power", "density", "phase", "real_imag"]

MOST_POWER = 1e303
"""What greater powers are given as, so that a sum over all bins of a frame is still finite."""


def width_of(framing: Framing, output: Output) -> int:
    """Values of a frame's spectrum."""
    bins = framing.window // 2 + 1
    return 2 * bins if output == "real_imag" else bins


def power(frames: Floats) -> Floats:
    """``|X|**2``, (..., bins) of frames (..., window)."""
    spectrum = np.fft.rfft(frames, axis=-1)
    with np.errstate(over="ignore"):
        squared = np.square(spectrum.real)
        squared += np.square(spectrum.imag)
    return np.minimum(squared, MOST_POWER, out=squared)


def spectra(framing: Framing, output: Output, sample_rate: float, frames: Floats) -> Floats:
    """Spectra of tapered frames.

    Parameters
    ----------
    framing
        That they were cut by.
    output
        Which form.
    sample_rate
        Hz.
    frames
        (..., window) values.

    Returns
    -------
    (..., width) values, of the bins at 0, ``sample_rate / window``, ... up to half the rate.
    """
    if output == "power":
        return power(frames)
    if output == "density":
        return power(frames) * _density_factors(framing, sample_rate)
    spectrum = np.fft.rfft(frames, axis=-1)
    if output == "magnitude":
        return np.abs(spectrum)
    if output == "phase":
        return np.arctan2(spectrum.imag, spectrum.real)
    return spectrum.view(np.float64)


@lru_cache
def _density_factors(framing: Framing, sample_rate: float) -> Floats:
    """(bins,) what makes a one-sided density of power.

    Every bin stands for its negative frequency too, save 0 Hz and half the rate.
    """
    factors = np.full(width_of(framing, "power"), 2.0)
    factors[0] = 1.0
    if framing.window % 2 == 0:
        factors[-1] = 1.0
    factors /= sample_rate * np.square(taper_of(framing)).sum()
    factors.flags.writeable = False
    return factors
