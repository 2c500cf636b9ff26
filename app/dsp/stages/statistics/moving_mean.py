"""Moving mean, ``y[n] = sum(x[n-i] for i < k) / k`` with ``k = min(n + 1, window)``.

The first ``window - 1`` values are over the samples seen so far. It lags ``(window - 1) / 2`` samples behind.
"""

from __future__ import annotations

from app.dsp.stage import Floats, Marks, Result, Signal, Stage, State
from app.dsp.stages.statistics._moving import Params, means
from app.dsp.window import init, join, settle


def step(params: Params, signal: Signal, state: State, x: Floats, marks: Marks) -> Result:
    """Sum each window anew, and divide by the samples seen in it."""
    joined = join(params.window, state, x, marks)
    return Result(joined.state, means(joined.series, params.window, state["count"]), joined.full)


STAGE = Stage(
    Params,
    init,
    step,
    settle,
    examples=({"window": 50}, {"window": 1}, {"window": 25}),
    oracle="numpy.mean, window by window",
)
