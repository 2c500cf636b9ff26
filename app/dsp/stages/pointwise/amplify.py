"""Amplifier, ``y = gain x``."""

from __future__ import annotations

import math

import msgspec

from app.dsp.stage import Floats, Marks, Result, Signal, Stage, State
from app.dsp.stages.pointwise._pointwise import init, mapped, settle


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters: ``gain``, a factor above 0."""

    gain: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.gain < math.inf:
            raise ValueError(f"gain = {self.gain}: expected a finite number above 0")


def step(params: Params, signal: Signal, state: State, x: Floats, marks: Marks) -> Result:
    """Multiply; the series is full from its first sample."""
    return mapped(params.gain * x, marks)


STAGE = Stage(
    Params,
    init,
    step,
    settle,
    examples=({"gain": 1000.0}, {}, {"gain": 0.005}),
    oracle="Python's own product of floats",
)
