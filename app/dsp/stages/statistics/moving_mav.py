"""Moving mean absolute value, ``y[n] = sum(abs(x[n-i]) for i < k) / k`` with ``k = min(n + 1, window)``.

The amplitude of a surface electromyogram (Hudgins, Parker & Scott, *IEEE Trans. Biomed. Eng.* 40, 1993). The first
``window - 1`` values are over the samples seen so far.
"""

from __future__ import annotations

import numpy as np

from app.dsp.stage import Floats, Marks, Result, Signal, Stage, State
from app.dsp.stages.statistics._moving import Params, means
from app.dsp.window import init, join, settle


def step(params: Params, signal: Signal, state: State, x: Floats, marks: Marks) -> Result:
    """Sum the magnitudes in each window anew, and divide by the samples seen in it."""
    joined = join(params.window, state, x, marks)
    return Result(joined.state, means(np.abs(joined.series), params.window, state["count"]), joined.full)


STAGE = Stage(
    Params,
    init,
    step,
    settle,
    examples=({"window": 50}, {"window": 1}, {"window": 25}),
    oracle="numpy.mean of numpy.abs, window by window",
)
