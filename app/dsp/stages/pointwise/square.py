"""Square of each sample, its instantaneous power, ``y = x**2``."""

from __future__ import annotations

import msgspec
import numpy as np

from app.dsp.stage import Floats, Marks, Result, Signal, Stage, State
from app.dsp.stages.pointwise._pointwise import init, mapped, settle


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """It has no parameters."""


def step(params: Params, signal: Signal, state: State, x: Floats, marks: Marks) -> Result:
    """Square; the series is full from its first sample."""
    return mapped(np.square(x), marks)


STAGE = Stage(Params, init, step, settle, examples=({},), oracle="Python's own product of floats")
