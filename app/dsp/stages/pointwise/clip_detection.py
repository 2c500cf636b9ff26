"""Clipping: 1 where a sample reaches the limit of its range, ``abs(x) >= threshold``, else 0."""

from __future__ import annotations

import math

import msgspec
import numpy as np

from app.dsp.stage import Floats, Marks, Result, Signal, Stage, State
from app.dsp.stages.pointwise._pointwise import init, mapped, settle


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters: ``threshold``, the magnitude that counts as clipped, in the signal's unit."""

    threshold: float

    def __post_init__(self) -> None:
        if not 0 < self.threshold < math.inf:
            raise ValueError(f"threshold = {self.threshold}: expected a finite number above 0")


def step(params: Params, signal: Signal, state: State, x: Floats, marks: Marks) -> Result:
    """Compare; the series is full from its first sample."""
    return mapped((np.abs(x) >= params.threshold).astype(np.float64), marks)


STAGE = Stage(
    Params,
    init,
    step,
    settle,
    examples=({"threshold": 0.5}, {"threshold": 1e-3}),
    oracle="the definition, sample by sample",
)
