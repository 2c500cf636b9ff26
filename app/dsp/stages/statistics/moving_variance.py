"""Moving population variance, ``y[n] = sum((x[n-i] - mean)**2 for i < k) / k`` with ``k = min(n + 1, window)``.

The mean is that of the same ``k`` samples. The first ``window - 1`` values are over the samples seen so far; that of a
single sample is 0.
"""

from __future__ import annotations

from app.dsp.stage import Floats, Marks, Result, Signal, Stage, State
from app.dsp.stages.statistics._moments import window_moments
from app.dsp.stages.statistics._moving import Params, counts
from app.dsp.window import init, join, settle


def step(params: Params, signal: Signal, state: State, x: Floats, marks: Marks) -> Result:
    """Take the squared deviations in each window anew, and divide by the samples seen in it."""
    window, seen = params.window, state["count"]
    joined = join(window, state, x, marks)
    spread = window_moments(joined.series, window, seen).spread
    return Result(joined.state, spread / counts(window, seen, x.shape[-1]), joined.full)


STAGE = Stage(
    Params,
    init,
    step,
    settle,
    examples=({"window": 50}, {"window": 1}, {"window": 25}),
    oracle="numpy.var, window by window",
)
