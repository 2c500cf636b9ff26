"""Moving root mean square, ``y[n] = sqrt(sum(x[n-i]**2 for i < k) / k)`` with ``k = min(n + 1, window)``."""

from __future__ import annotations

import numpy as np

from app.dsp.stage import Floats, Marks, Result, Signal, Stage, State
from app.dsp.stages.statistics._moving import Params, means
from app.dsp.window import init, join, settle


def step(params: Params, signal: Signal, state: State, x: Floats, marks: Marks) -> Result:
    """Until the window is full the mean is over the samples seen so far."""
    joined = join(params.window, state, x, marks)
    mean = means(np.square(joined.series), params.window, state["count"])
    return Result(joined.state, np.sqrt(mean, out=mean), joined.full)


STAGE = Stage(
    Params,
    init,
    step,
    settle,
    examples=({"window": 50}, {"window": 1}, {"window": 7}, {"window": 64}),
    oracle="the definition, window by window",
)
