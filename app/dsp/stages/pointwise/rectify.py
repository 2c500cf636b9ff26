"""Rectifier: ``abs(x)``, or ``max(x, 0)`` with the half of the wave below 0 cut off. A zero comes out as +0.0."""

from __future__ import annotations

from typing import Literal

import msgspec
import numpy as np

from app.dsp.stage import Floats, Marks, Result, Signal, Stage, State
from app.dsp.stages.pointwise._pointwise import init, mapped, settle


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters: ``mode``, whether what is below 0 is turned up ("full") or cut off ("half")."""

    mode: Literal["full", "half"] = "full"


def step(params: Params, signal: Signal, state: State, x: Floats, marks: Marks) -> Result:
    """Rectify; the series is full from its first sample."""
    return mapped(np.abs(x) if params.mode == "full" else np.where(x > 0, x, 0.0), marks)


STAGE = Stage(
    Params,
    init,
    step,
    settle,
    examples=({}, {"mode": "half"}),
    oracle="numpy.abs, numpy.maximum",
)
