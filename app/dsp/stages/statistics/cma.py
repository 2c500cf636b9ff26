"""Cumulative moving average, ``y[n] = sum(x[0..n]) / (n + 1)``, over everything seen since the stream began.

The sum is kept with what rounding takes from it, so that it is exact to the last digits after years.
"""

from __future__ import annotations

import msgspec
import numpy as np

from app.dsp.running_sums import running_sums
from app.dsp.stage import NEVER, Floats, Marks, Result, Signal, Stage, State


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """It has no parameters."""


def init(params: Params, signal: Signal, rows: int) -> State:
    """State: the sum of all samples, what rounding has taken from it, and how many samples there were."""
    return {
        "total": np.zeros((rows, signal.channels)),
        "lost": np.zeros((rows, signal.channels)),
        "count": np.zeros(rows, dtype=np.int64),
    }


def step(params: Params, signal: Signal, state: State, x: Floats, marks: Marks) -> Result:
    """Divide the sum at each sample by the samples so far; the series is full from its first sample."""
    sums, total, lost = running_sums(state["total"], state["lost"], x)
    samples = state["count"][:, np.newaxis, np.newaxis] + np.arange(1, x.shape[-1] + 1)
    after = {"total": total, "lost": lost, "count": state["count"] + x.shape[-1]}
    return Result(after, sums / samples, np.ones(len(marks.rows), dtype=np.bool_))


def settle(params: Params, signal: Signal) -> int:
    """Never: the first sample counts for good."""
    return NEVER


STAGE = Stage(Params, init, step, settle, examples=({},), oracle="math.fsum of all samples so far")
