"""Spectral flux: how far the spectrum of the last ``window`` values is from that of the window ``lag`` samples before.

``sqrt(sum((M - M_before)**2))`` over the lines' magnitudes, each window without its mean, under a Hann window and its
magnitudes divided by the Hann window's sum, as `scipy.signal.stft` does. So flux has the signal's unit, and grows with
its amplitude. (Tzanetakis & Cook, *IEEE Trans. Speech Audio Process.* 10, 2002, take the square, of normalised
magnitudes.)
"""

from __future__ import annotations

import msgspec
import numpy as np

from app.dsp.stage import Floats, Marks, Result, Samples, Signal, Stage, State
from app.dsp.stages.descriptive._spectrum import check_spectrum_window, hann, powers
from app.dsp.stages.descriptive._windows import measured
from app.dsp.window import MAX_WINDOW, empty_tail


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of the flux.

    Attributes
    ----------
    window
        Values each spectrum is of.
    lag
        Samples from the end of the window before to that of the last one.
    """

    window: Samples
    lag: Samples

    def __post_init__(self) -> None:
        check_spectrum_window(self.window)
        if not 1 <= self.lag <= MAX_WINDOW:
            raise ValueError(f"lag = {self.lag}: expected 1 to {MAX_WINDOW} samples")


def init(params: Params, signal: Signal, rows: int) -> State:
    """State: the last ``window + lag - 1`` values, and how many have been seen."""
    return empty_tail(params.window + params.lag, signal, rows)


def step(params: Params, signal: Signal, state: State, x: Floats, marks: Marks) -> Result:
    """Measure the two windows of each mark; full when both are."""
    lag = params.lag
    return measured(params.window + lag, state, x, marks, lambda own: spectral_flux(own, lag)[..., np.newaxis])


def spectral_flux(x: Floats, lag: int) -> Floats:
    """Flux between the first and the last ``n - lag`` of (..., n) values: (...,)."""
    before, scale_before = powers(x[..., :-lag])
    last, scale_last = powers(x[..., lag:])
    scale = np.maximum(scale_last, scale_before)
    change = np.sqrt(last) * (scale_last / scale)[..., np.newaxis]
    change -= np.sqrt(before) * (scale_before / scale)[..., np.newaxis]
    length = np.sqrt(np.add.reduce(np.square(change), axis=-1))
    flux: Floats = length / np.add.reduce(hann(x.shape[-1] - lag)) * scale
    return flux


def settle(params: Params, signal: Signal) -> int:
    """Until both windows are full."""
    return params.window + params.lag


STAGE = Stage(
    Params,
    init,
    step,
    settle,
    examples=({"window": 128, "lag": 64}, {"window": 4, "lag": 1}, {"window": 50, "lag": 75}),
    oracle="the definition with a matrix of the transform, window by window",
    outputs=("value",),
)
