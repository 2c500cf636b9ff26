"""Willison amplitude, how many of the last ``window`` differences are large: ``abs(x[i] - x[i-1]) > threshold``.

Of a surface electromyogram it follows how many motor units fire (Willison, *J. Neurol. Neurosurg. Psychiatry* 27,
1964). The stream's first sample has no difference and does not count; a value is full when the window has ``window``
true ones, with sample ``window + 1``.
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
        Differences that are looked at.
    threshold
        What a difference must be above to count, in the signal's unit.
    """

    window: Samples
    threshold: float = 0.0

    def __post_init__(self) -> None:
        check_window(self.window)
        check_not_negative(self.threshold)


def init(params: Params, signal: Signal, rows: int) -> State:
    """State: the last sample, which of the last ``window - 1`` count, and how many samples have been seen."""
    return fresh(params.window, 1, signal, rows, np.uint8)


def step(params: Params, signal: Signal, state: State, x: Floats, marks: Marks) -> Result:
    """Count the large differences in each window."""
    return summed(state, x, marks, lambda series: (np.abs(np.diff(series)) > params.threshold).astype(np.float64))


def settle(params: Params, signal: Signal) -> int:
    """Until the window is full of differences."""
    return params.window + 1


STAGE = Stage(
    Params,
    init,
    step,
    settle,
    examples=({"window": 50, "threshold": 0.02}, {"window": 1}, {"window": 25, "threshold": 0.005}),
    oracle="numpy.diff over the whole signal, counted window by window",
)
