"""Spectral centroid of the last ``window`` values: the mean frequency in Hz, weighted by the spectrum's magnitudes.

``sum(f * M) / sum(M)`` (Tzanetakis & Cook, *IEEE Trans. Speech Audio Process.* 10, 2002), of the window without its
mean, under a Hann window. Where there is nothing but a constant it is 0.
"""

from __future__ import annotations

import msgspec
import numpy as np

from app.dsp.stage import Floats, Marks, Result, Samples, Signal, Stage, State
from app.dsp.stages.descriptive._spectrum import check_spectrum_window, frequencies, powers
from app.dsp.stages.descriptive._windows import measured, ratio
from app.dsp.window import init, settle


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters: ``window``, values the spectrum is of."""

    window: Samples

    def __post_init__(self) -> None:
        check_spectrum_window(self.window)


def step(params: Params, signal: Signal, state: State, x: Floats, marks: Marks) -> Result:
    """Measure the window that ends at each mark."""
    rate = signal.sample_rate
    return measured(params.window, state, x, marks, lambda own: spectral_centroid(own, rate)[..., np.newaxis])


def spectral_centroid(x: Floats, sample_rate: float) -> Floats:
    """Centroid in Hz along the last axis of (..., window) values: (...,)."""
    magnitudes = np.sqrt(powers(x)[0])
    weighted = magnitudes * frequencies(x.shape[-1], sample_rate)
    return ratio(np.add.reduce(weighted, axis=-1), np.add.reduce(magnitudes, axis=-1))


STAGE = Stage(
    Params,
    init,
    step,
    settle,
    examples=({"window": 128}, {"window": 4}, {"window": 101}),
    oracle="the definition with a matrix of the transform, window by window",
    outputs=("value",),
)
