"""Waveform length, the sum of ``abs(x[i] - x[i-1])`` over the last ``window`` differences.

How far the signal's curve goes up and down (Hudgins, Parker & Scott, *IEEE Trans. Biomed. Eng.* 40, 1993). The stream's
first sample has no difference and 0 in its place; a value is full when the window has ``window`` true ones, with sample
``window + 1``.
"""

from __future__ import annotations

import numpy as np

from app.dsp.stage import Floats, Marks, Result, Signal, Stage, State
from app.dsp.stages.statistics._changes import fresh, summed
from app.dsp.stages.statistics._moving import Params


def init(params: Params, signal: Signal, rows: int) -> State:
    """State: the last sample, the last ``window - 1`` differences, and how many samples have been seen."""
    return fresh(params.window, 1, signal, rows)


def step(params: Params, signal: Signal, state: State, x: Floats, marks: Marks) -> Result:
    """Sum the differences in each window anew."""
    return summed(state, x, marks, lambda series: np.abs(np.diff(series)))


def settle(params: Params, signal: Signal) -> int:
    """Until the window is full of differences."""
    return params.window + 1


STAGE = Stage(
    Params,
    init,
    step,
    settle,
    examples=({"window": 50}, {"window": 1}, {"window": 25}),
    oracle="numpy.diff over the whole signal, summed window by window",
)
