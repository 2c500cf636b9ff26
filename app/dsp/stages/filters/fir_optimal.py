"""Filter of a finite impulse response with equal ripples: the smallest possible greatest error for its taps.

The weighted error ``weight * (gain - desired)`` reaches its greatest size with both signs in turn, at more frequencies
than there are free coefficients (Parks & McClellan, *IEEE Trans. Circuit Theory* 19, 1972). Between the bands nothing
is asked, though gains far beyond what is desired are refused. All is delayed alike, by ``(taps - 1) / 2`` samples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import msgspec
import numpy as np
import scipy

from app.dsp.stage import Floats, Stage
from app.dsp.stages.filters._taps import by_taps

MAX_TAPS = 1024
MAX_BANDS = 32

_DENSITIES = (16, 32, 64)
"""Points of remez's grid for each coefficient: now and then it goes astray with one and not with another."""

_MOST_GAIN = 2.0
"""Greatest gain anywhere, of the greatest that is desired."""


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of the filter.

    Attributes
    ----------
    taps
        Coefficients, 3 to 1024; an odd number where half the sample rate is to pass.
    bands
        Edges of the bands in Hz, two for each, rising: all or part of 0 Hz to half the sample rate.
    desired
        Gain in each band.
    weights
        How much an error in each band counts; none: all alike.
    """

    taps: int
    bands: tuple[float, ...]
    desired: tuple[float, ...]
    weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not 3 <= self.taps <= MAX_TAPS:
            raise ValueError(f"taps = {self.taps}: expected 3 to {MAX_TAPS}")
        if not (2 <= len(self.bands) <= 2 * MAX_BANDS and len(self.bands) % 2 == 0):
            raise ValueError(f"bands = {list(self.bands)}: expected two edges in Hz for each of 1 to {MAX_BANDS} bands")
        if not (self.bands[0] >= 0 and all(low < high for low, high in zip(self.bands, self.bands[1:], strict=False))):
            raise ValueError(f"bands = {list(self.bands)}: expected rising frequencies from 0 Hz on")
        count = len(self.bands) // 2
        if len(self.desired) != count or not all(abs(gain) <= 1e6 for gain in self.desired) or not any(self.desired):
            raise ValueError(
                f"desired = {list(self.desired)}: expected gains of up to 1e6, not all 0, for {count} band(s)"
            )
        if self.weights and not (len(self.weights) == count and all(1e-6 <= own <= 1e6 for own in self.weights)):
            raise ValueError(
                f"weights = {list(self.weights)}: expected numbers of 1e-6 to 1e6 for {count} band(s), or none"
            )


@lru_cache
def design(params: Params, sample_rate: float) -> Floats:
    """Coefficients, (taps,), for a sample rate in Hz.

    Raises
    ------
    ValueError
        An edge lies beyond half the sample rate, or no such filter was found.
    """
    if params.bands[-1] > sample_rate / 2:
        raise ValueError(f"bands = {list(params.bands)}: expected up to half the sample rate, {sample_rate / 2} Hz")
    if params.bands[-1] == sample_rate / 2 and params.desired[-1] and params.taps % 2 == 0:
        raise ValueError(
            f"taps = {params.taps}: expected an odd number; an even one passes nothing at half the sample rate"
        )
    for density in _DENSITIES:
        try:
            taps = scipy.signal.remez(
                params.taps,
                params.bands,
                params.desired,
                weight=params.weights or None,
                maxiter=250,
                grid_density=density,
                fs=sample_rate,
            )
        except ValueError:
            continue
        if _is_optimal(taps, params, sample_rate):
            return np.asarray(taps, dtype=np.float64)
    raise ValueError(
        f"taps = {params.taps}: expected another number, or other bands than {list(params.bands)}: no filter of equal"
        " ripples was found; fewer taps or narrower gaps between the bands help where the error would be too small to"
        " count, or the gain between the bands too great"
    )


def _is_optimal(taps: Floats, params: Params, sample_rate: float) -> bool:
    """Whether the error alternates often enough, and the gain is nowhere far beyond what is desired."""
    if not np.isfinite(taps).all():
        return False
    _, response = scipy.signal.freqz(taps, worN=8 * len(taps), fs=sample_rate, include_nyquist=True)
    if np.abs(response).max() > _MOST_GAIN * max(map(abs, params.desired)):
        return False
    error = np.concatenate(_errors(taps, params, sample_rate))
    peaks = error[np.abs(error) >= 0.9 * np.abs(error).max()]
    return 1 + int(np.count_nonzero(np.diff(np.sign(peaks)))) >= (len(taps) + 1) // 2 + 1


def _errors(taps: Floats, params: Params, sample_rate: float) -> Sequence[Floats]:
    """Weighted error of the gain, by its sign, on a fine grid over each band."""
    errors = []
    weights = params.weights or (1.0,) * len(params.desired)
    for low, high, gain, weight in zip(params.bands[::2], params.bands[1::2], params.desired, weights, strict=True):
        points = max(16, math.ceil(32 * len(taps) * (high - low) / sample_rate)) + 1
        frequencies = np.linspace(low, high, points)
        _, response = scipy.signal.freqz(taps, worN=frequencies, fs=sample_rate)
        turned = np.exp(1j * math.pi * frequencies / sample_rate * (len(taps) - 1))
        errors.append(weight * ((response * turned).real - gain))
    return errors


STAGE = Stage(
    Params,
    *by_taps(design),
    examples=(
        {"taps": 65, "bands": (0.0, 30.0, 38.0, 125.0), "desired": (1.0, 0.0), "weights": (1.0, 10.0)},
        {"taps": 200, "bands": (0.0, 4.0, 8.0, 12.0, 16.0, 125.0), "desired": (0.0, 1.0, 0.0)},
    ),
    oracle="numpy.convolve with taps from scipy.signal.remez; equal ripples, counted",
    design=design,
)
