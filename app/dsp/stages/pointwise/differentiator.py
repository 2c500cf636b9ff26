"""First difference, ``y[n] = x[n] - x[n-1]`` with ``x[-1] = 0``; not divided by the sample interval.

The first value is the first sample itself and not full. It is the slope half a sample back.
"""

from __future__ import annotations

import msgspec
import numpy as np

from app.dsp.stage import Floats, Marks, Result, Signal, Stage, State


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """It has no parameters."""


def init(params: Params, signal: Signal, rows: int) -> State:
    """State: the last sample, and whether there has been one."""
    return {"before": np.zeros((rows, signal.channels, 1)), "begun": np.zeros(rows, dtype=np.uint8)}


def step(params: Params, signal: Signal, state: State, x: Floats, marks: Marks) -> Result:
    """Subtract the sample before."""
    y = np.diff(x, prepend=state["before"])
    after = {"before": x[..., -1:].copy(), "begun": np.ones_like(state["begun"])}
    return Result(after, y, state["begun"][marks.rows] + marks.last > 0)


def settle(params: Params, signal: Signal) -> int:
    """Until there is a sample before."""
    return 2


STAGE = Stage(Params, init, step, settle, examples=({},), oracle="numpy.ediff1d of the whole signal")
