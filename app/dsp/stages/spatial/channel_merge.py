"""Means of groups of channels: output j is the mean of the input's channels ``groups[j]``.

So electrodes of a region, or microphones side by side, become one channel. A channel may be in several groups, and one
that is in none is left out; a weighted mean is a `csp` or `pca` with weights of one's own.
"""

from __future__ import annotations

import msgspec
import numpy as np

from app.dsp.stage import Floats, Marks, Result, Signal, Stage, State
from app.dsp.stages.spatial._projection import MAX_CHANNELS


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters: ``groups``, for each channel that comes out the numbers of those it is the mean of, from 0 on."""

    groups: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.groups) <= MAX_CHANNELS:
            raise ValueError(f"groups = {len(self.groups)} groups: expected 1 to {MAX_CHANNELS}")
        for number, group in enumerate(self.groups):
            if not 1 <= len(group) <= MAX_CHANNELS or min(group) < 0:
                raise ValueError(f"groups: group {number} = {list(group)}: expected channels' numbers from 0 on")
            if len(set(group)) != len(group):
                raise ValueError(f"groups: group {number} = {list(group)}: expected every channel once")


def signal(params: Params, signal: Signal) -> Signal:
    """Give a channel for each group."""
    return signal._replace(channels=len(params.groups))


def init(params: Params, signal: Signal, rows: int) -> State:
    """No state; every channel named must be there."""
    for number, group in enumerate(params.groups):
        if max(group) >= signal.channels:
            raise ValueError(
                f"groups: group {number} = {list(group)}: expected numbers below {signal.channels}, the channels"
            )
    return {}


def step(params: Params, signal: Signal, state: State, x: Floats, marks: Marks) -> Result:
    """Take the means, adding channel by channel; full from the first sample."""
    out = np.empty((len(x), len(params.groups), x.shape[-1]))
    for number, group in enumerate(params.groups):
        out[:, number] = x[:, group[0]]
        for channel in group[1:]:
            out[:, number] += x[:, channel]
        out[:, number] /= len(group)
    return Result(state, out, np.ones(len(marks.rows), dtype=np.bool_))


def settle(params: Params, signal: Signal) -> int:
    """At once."""
    return 1


STAGE = Stage(
    Params,
    init,
    step,
    settle,
    examples=({"groups": ((0, 1), (2,))}, {"groups": ((2, 0, 1), (1, 2))}, {"groups": ((0,),)}),
    oracle="numpy.mean over each group",
    signal=signal,
    mixes=True,
)
