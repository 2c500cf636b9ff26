"""Some of the channels, in any order: output j is the input's channel ``channels[j]``."""

from __future__ import annotations

import msgspec
import numpy as np

from app.dsp.stage import Floats, Marks, Result, Signal, Stage, State
from app.dsp.stages.spatial._projection import MAX_CHANNELS


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters: ``channels``, numbers of the channels to take, counted from 0; one may come more than once."""

    channels: tuple[int, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.channels) <= MAX_CHANNELS:
            raise ValueError(f"channels = {list(self.channels)}: expected 1 to {MAX_CHANNELS} numbers")
        if min(self.channels) < 0:
            raise ValueError(f"channels = {list(self.channels)}: expected numbers from 0 on")


def signal(params: Params, signal: Signal) -> Signal:
    """As many channels as are named."""
    return signal._replace(channels=len(params.channels))


def init(params: Params, signal: Signal, rows: int) -> State:
    """No state; every channel named must be there."""
    if max(params.channels) >= signal.channels:
        raise ValueError(f"channels = {list(params.channels)}: expected numbers below {signal.channels}, the channels")
    return {}


def step(params: Params, signal: Signal, state: State, x: Floats, marks: Marks) -> Result:
    """Copy the channels; full from the first sample."""
    return Result(state, np.take(x, params.channels, axis=1), np.ones(len(marks.rows), dtype=np.bool_))


def settle(params: Params, signal: Signal) -> int:
    """At once."""
    return 1


STAGE = Stage(
    Params,
    init,
    step,
    settle,
    examples=({"channels": (1, 0)}, {"channels": (2, 0, 0)}, {"channels": (0,)}),
    oracle="numpy indexing",
    signal=signal,
    mixes=True,
)
