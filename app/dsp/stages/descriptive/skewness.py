"""Skewness of the last ``window`` values, ``m3 / m2**1.5`` with population moments.

0 for what is symmetric about its mean, positive where the longer tail is above it. Where all values are equal it is 0.
(Joanes & Gill, *The Statistician* 47, 1998, g1.)
"""

from __future__ import annotations

import msgspec
import numpy as np

from app.dsp.stage import Floats, Marks, Result, Samples, Signal, Stage, State
from app.dsp.stages.descriptive._windows import centred, measured, ratio, scaled
from app.dsp.window import check_window, init, settle


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters: ``window``, values the skewness is taken over."""

    window: Samples

    def __post_init__(self) -> None:
        check_window(self.window, 3, "two values are always symmetric")


def step(params: Params, signal: Signal, state: State, x: Floats, marks: Marks) -> Result:
    """Measure the window that ends at each mark."""
    return measured(params.window, state, x, marks, lambda windows: skewness(windows)[..., np.newaxis])


def skewness(x: Floats) -> Floats:
    """Skewness along the last axis of (..., n) values: (...,)."""
    deviation = centred(scaled(x)[0])
    squares = np.square(deviation)
    second = np.add.reduce(squares, axis=-1) / x.shape[-1]
    squares *= deviation
    third = np.add.reduce(squares, axis=-1) / x.shape[-1]
    return ratio(third, second * np.sqrt(second))


STAGE = Stage(
    Params,
    init,
    step,
    settle,
    examples=({"window": 128}, {"window": 3}),
    oracle="scipy.stats.skew, window by window",
    outputs=("value",),
)
