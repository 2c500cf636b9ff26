"""Spectral roll-off of the last ``window`` values: the frequency in Hz below which ``share`` of the spectrum lies.

The first line up to which the magnitudes add up to at least ``share`` of their sum (Tzanetakis & Cook, *IEEE Trans.
Speech Audio Process.* 10, 2002), of the window without its mean, under a Hann window. Where there is nothing but a
constant it is 0.
"""

from __future__ import annotations

import msgspec
import numpy as np

from app.dsp.stage import Floats, Marks, Result, Samples, Signal, Stage, State
from app.dsp.stages.descriptive._spectrum import check_spectrum_window, frequencies, powers
from app.dsp.stages.descriptive._windows import measured
from app.dsp.window import init, settle


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of the roll-off.

    Attributes
    ----------
    window
        Values the spectrum is of.
    share
        Share of the magnitudes below the frequency.
    """

    window: Samples
    share: float = 0.85

    def __post_init__(self) -> None:
        check_spectrum_window(self.window)
        if not 0 < self.share < 1:
            raise ValueError(f"share = {self.share}: expected between 0 and 1")


def step(params: Params, signal: Signal, state: State, x: Floats, marks: Marks) -> Result:
    """Measure the window that ends at each mark."""
    rate, share = signal.sample_rate, params.share
    return measured(params.window, state, x, marks, lambda own: spectral_rolloff(own, rate, share)[..., np.newaxis])


def spectral_rolloff(x: Floats, sample_rate: float, share: float = 0.85) -> Floats:
    """Roll-off in Hz along the last axis of (..., window) values: (...,)."""
    up_to = np.add.accumulate(np.sqrt(powers(x)[0]), axis=-1)
    line = np.argmax(up_to >= share * up_to[..., -1:], axis=-1)
    rolloff: Floats = np.where(np.isnan(up_to[..., -1]), np.nan, frequencies(x.shape[-1], sample_rate)[line])
    return rolloff


STAGE = Stage(
    Params,
    init,
    step,
    settle,
    examples=({"window": 128}, {"window": 4, "share": 0.5}, {"window": 101, "share": 0.95}),
    oracle="the definition with a matrix of the transform, window by window",
    outputs=("value",),
)
