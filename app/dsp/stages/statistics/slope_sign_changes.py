"""Slope sign changes, how many of the last ``window`` samples show that the one before was a turning point.

Sample n does where ``(x[n-1] - x[n-2]) * (x[n-1] - x[n]) > threshold``: the event belongs to sample n - 1 and is known
one sample later (Hudgins, Parker & Scott, *IEEE Trans. Biomed. Eng.* 40, 1993; the threshold is on the product, so it
is in the signal's unit squared). With a threshold of 0 the signs alone are compared, however small the slopes. The
stream's first two samples cannot count; a value is full when ``window`` others are in the window, with sample
``window + 2``.
"""

from __future__ import annotations

import msgspec
import numpy as np

from app.dsp.stage import Floats, Marks, Result, Samples, Signal, Stage, State
from app.dsp.stages.statistics._changes import fresh, summed
from app.dsp.stages.statistics._moving import check_not_negative
from app.dsp.window import check_window


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of the count.

    Attributes
    ----------
    window
        Samples that are looked at.
    threshold
        What the product of the slopes must be above to count, in the signal's unit squared.
    """

    window: Samples
    threshold: float = 0.0

    def __post_init__(self) -> None:
        check_window(self.window)
        check_not_negative(self.threshold)


def init(params: Params, signal: Signal, rows: int) -> State:
    """State: the last two samples, which of the last ``window - 1`` count, and how many samples have been seen."""
    return fresh(params.window, 2, signal, rows, np.uint8)


def step(params: Params, signal: Signal, state: State, x: Floats, marks: Marks) -> Result:
    """Count the turns in each window."""

    def turns(series: Floats) -> Floats:
        slope = np.diff(series)
        if params.threshold == 0:  # a product of slopes may be too small for a number
            up, down = slope > 0, slope < 0
            turned = (up[..., :-1] & down[..., 1:]) | (down[..., :-1] & up[..., 1:])
        else:
            turned = slope[..., :-1] * -slope[..., 1:] > params.threshold
        return turned.astype(np.float64)

    return summed(state, x, marks, turns)


def settle(params: Params, signal: Signal) -> int:
    """Until the window is full of samples that may count."""
    return params.window + 2


STAGE = Stage(
    Params,
    init,
    step,
    settle,
    examples=({"window": 50}, {"window": 1}, {"window": 25, "threshold": 0.0001}),
    oracle="the definition, sample by sample",
)
