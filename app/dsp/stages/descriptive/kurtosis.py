"""Excess kurtosis of the last ``window`` values, ``m4 / m2**2 - 3`` with population moments (Fisher's definition).

0 for the normal distribution, -1.5 for a sine, positive for peaks on a quiet ground, as an ECG's. Where all values are
equal it is 0. (Joanes & Gill, *The Statistician* 47, 1998, g2.)
"""

from __future__ import annotations

import msgspec
import numpy as np

from app.dsp.stage import Floats, Marks, Result, Samples, Signal, Stage, State
from app.dsp.stages.descriptive._windows import centred, measured, ratio, scaled
from app.dsp.window import check_window, init, settle


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters: ``window``, values the kurtosis is taken over."""

    window: Samples

    def __post_init__(self) -> None:
        check_window(self.window, 4, "of two values or three it is always the same")


def step(params: Params, signal: Signal, state: State, x: Floats, marks: Marks) -> Result:
    """Measure the window that ends at each mark."""
    return measured(params.window, state, x, marks, lambda windows: kurtosis(windows)[..., np.newaxis])


def kurtosis(x: Floats) -> Floats:
    """Excess kurtosis along the last axis of (..., n) values: (...,)."""
    squares = np.square(centred(scaled(x)[0]))
    second = np.add.reduce(squares, axis=-1) / x.shape[-1]
    fourth = np.add.reduce(np.square(squares), axis=-1) / x.shape[-1]
    excess: Floats = ratio(fourth, np.square(second)) - np.where(second == 0, 0.0, 3.0)
    return excess


STAGE = Stage(
    Params,
    init,
    step,
    settle,
    examples=({"window": 128}, {"window": 4}),
    oracle="scipy.stats.kurtosis, window by window",
    outputs=("value",),
)
