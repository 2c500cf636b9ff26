"""Moving z-score, ``y[n] = (x[n] - mean) / std`` with mean and population deviation of a window that includes ``x[n]``.

The window is the last ``k = min(n + 1, window)`` samples. Where the deviation is below ``epsilon`` the score is 0, so
that of a constant is.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np

from app.dsp.stage import Floats, Marks, Result, Samples, Signal, Stage, State
from app.dsp.stages.statistics._moments import window_moments
from app.dsp.stages.statistics._moving import counts
from app.dsp.window import check_window, init, join, settle


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of the score.

    Attributes
    ----------
    window
        Samples that mean and deviation are taken over.
    epsilon
        Deviation, in the signal's unit, below which the score is 0.
    """

    window: Samples
    epsilon: float = 1e-6

    def __post_init__(self) -> None:
        check_window(self.window)
        if not 0 < self.epsilon < math.inf:
            raise ValueError(f"epsilon = {self.epsilon}: expected a finite number above 0")


def step(params: Params, signal: Signal, state: State, x: Floats, marks: Marks) -> Result:
    """Divide what each sample lies above its window's mean by the window's deviation."""
    window, seen = params.window, state["count"]
    joined = join(window, state, x, marks)
    offset, spread = window_moments(joined.series, window, seen)
    deviation = np.sqrt(spread / counts(window, seen, x.shape[-1]))
    scores = np.divide(-offset, deviation, out=np.zeros_like(x), where=deviation >= params.epsilon)
    return Result(joined.state, scores, joined.full)


STAGE = Stage(
    Params,
    init,
    step,
    settle,
    examples=({"window": 250}, {"window": 25, "epsilon": 0.05}),
    oracle="numpy.mean and numpy.std, window by window",
)
