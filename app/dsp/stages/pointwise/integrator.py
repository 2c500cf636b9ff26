"""Leaky integrator, ``y[n] = x[n] + alpha y[n-1]`` from rest; not multiplied by the sample interval.

With ``alpha = 1`` nothing leaks: it is the sum of all samples, kept with what rounding takes from it, so that it stays
exact to the last digits.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np
import scipy

from app.dsp.running_sums import running_sums
from app.dsp.stage import NEVER, SETTLED, Floats, Marks, Result, Signal, Stage, State


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters: ``alpha``, the share of the sum that is kept from sample to sample, above 0 and up to 1."""

    alpha: float = 0.99

    def __post_init__(self) -> None:
        if not 0 < self.alpha <= 1:
            raise ValueError(f"alpha = {self.alpha}: expected above 0, up to 1")


def init(params: Params, signal: Signal, rows: int) -> State:
    """State: what is kept of the sum; where nothing leaks, the sum and what rounding has taken from it."""
    names = ("total", "lost") if params.alpha == 1 else ("kept",)
    return {name: np.zeros((rows, signal.channels)) for name in names}


def step(params: Params, signal: Signal, state: State, x: Floats, marks: Marks) -> Result:
    """Sum; the series is full from its first sample."""
    full = np.ones(len(marks.rows), dtype=np.bool_)
    if params.alpha == 1:
        sums, total, lost = running_sums(state["total"], state["lost"], x)
        return Result({"total": total, "lost": lost}, sums, full)
    y, kept = scipy.signal.lfilter([1.0, 0.0], [1.0, -params.alpha], x, axis=-1, zi=state["kept"][..., np.newaxis])
    return Result({"kept": kept[..., 0]}, y, full)


def settle(params: Params, signal: Signal) -> int:
    """Until what is kept of the first sample has leaked away."""
    if params.alpha == 1:
        return NEVER
    return min(math.ceil(math.log(SETTLED) / math.log(params.alpha)), NEVER)


STAGE = Stage(
    Params,
    init,
    step,
    settle,
    examples=({}, {"alpha": 1.0}, {"alpha": 0.5}),
    oracle="the recursion, sample by sample; math.fsum where nothing leaks",
)
