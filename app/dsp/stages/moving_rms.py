"""Moving root mean square, ``y[n] = sqrt(sum(x[n-i]**2 for i < k) / k)`` with ``k = min(n + 1, window)``."""

from __future__ import annotations

import msgspec
import numpy as np

from app.dsp.stage import Floats, Marks, Result, Signal, Stage, State
from app.dsp.window import empty_tail, join, window_sums


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters: ``window``, samples in the mean."""

    window: int

    def __post_init__(self) -> None:
        if self.window < 1:
            raise ValueError(f"window = {self.window}: expected at least 1 sample")


def init(params: Params, signal: Signal, rows: int) -> State:
    """State: the last ``window - 1`` inputs, and how many samples have been seen."""
    return empty_tail(params.window, signal, rows)


def step(params: Params, signal: Signal, state: State, x: Floats, marks: Marks) -> Result:
    """Until the window is full the mean is over the samples seen so far."""
    window = params.window
    joined = join(window, state, x, marks)
    mean = window_sums(np.square(joined.series), window)
    seen = state["count"]
    if seen.min(initial=window) >= window - 1:
        mean = mean / window
    else:
        counts = seen[:, None] + np.arange(1, x.shape[-1] + 1)
        mean = mean / np.minimum(counts, window)[:, None, :]
    return Result(joined.state, np.sqrt(mean), joined.full)


def settle(params: Params, signal: Signal) -> int:
    """Until the window is full."""
    return params.window


STAGE = Stage(Params, init, step, settle)
