"""Exponential moving average, ``y[n] = alpha x[n] + (1 - alpha) y[n-1]``, begun by the first sample, ``y[0] = x[0]``.

Its time constant is about ``1 / alpha`` samples (Roberts, *Technometrics* 1, 1959).
"""

from __future__ import annotations

import math

import msgspec
import numpy as np
import scipy

from app.dsp.stage import NEVER, SETTLED, Floats, Marks, Result, Signal, Stage, State


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters: ``alpha``, the newest sample's weight, above 0 and up to 1."""

    alpha: float

    def __post_init__(self) -> None:
        if not 0 < self.alpha <= 1:
            raise ValueError(f"alpha = {self.alpha}: expected above 0, up to 1")


def init(params: Params, signal: Signal, rows: int) -> State:
    """State: ``rest``, what the last average adds to the next; and whether there has been a sample."""
    return {"rest": np.zeros((rows, signal.channels)), "begun": np.zeros(rows, dtype=np.uint8)}


def step(params: Params, signal: Signal, state: State, x: Floats, marks: Marks) -> Result:
    """Filter; the series is full from its first sample."""
    rest = state["rest"]
    fresh = state["begun"] == 0
    if fresh.any():
        # As if the average had been the first sample before, with nothing new: the first value is that to the last bit.
        rest, x = rest.copy(), x.copy()
        rest[fresh] = x[fresh, :, 0]
        x[fresh, :, 0] = 0.0
    b, a = [params.alpha, 0.0], [1.0, params.alpha - 1.0]
    y, rest = scipy.signal.lfilter(b, a, x, axis=-1, zi=rest[..., np.newaxis])
    after = {"rest": rest[..., 0], "begun": np.ones_like(state["begun"])}
    return Result(after, y, np.ones(len(marks.rows), dtype=np.bool_))


def settle(params: Params, signal: Signal) -> int:
    """Until what the first sample still weighs has died away."""
    if params.alpha == 1:
        return 1
    return min(math.ceil(math.log(SETTLED) / math.log1p(-params.alpha)), NEVER)


STAGE = Stage(
    Params,
    init,
    step,
    settle,
    examples=({"alpha": 0.1}, {"alpha": 1.0}, {"alpha": 0.7}),
    oracle="the recursion, sample by sample",
)
