"""Moving maximum, the greatest of the last ``k = min(n + 1, window)`` samples.

The first ``window - 1`` values are over the samples seen so far. A zero comes out as +0.0.
"""

from __future__ import annotations

import numpy as np

from app.dsp.stage import Floats, Marks, Result, Signal, Stage, State
from app.dsp.stages.statistics._extremes import window_extremes
from app.dsp.stages.statistics._moving import Params
from app.dsp.window import init, settle


def step(params: Params, signal: Signal, state: State, x: Floats, marks: Marks) -> Result:
    """Compare the samples seen in each window."""
    return window_extremes(params.window, state, x, marks, np.maximum, -np.inf)


STAGE = Stage(
    Params,
    init,
    step,
    settle,
    examples=({"window": 50}, {"window": 1}, {"window": 25}, {"window": 64}),
    oracle="scipy.ndimage.maximum_filter1d over the whole signal",
)
