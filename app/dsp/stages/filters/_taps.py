"""What filters of finite impulse response share: convolving with the taps of a design, and their memory."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from app.dsp.fir import Convolver, convolver
from app.dsp.stage import Design, Floats, Init, Marks, Result, Settle, Signal, State, Step


def by_taps(design: Design) -> tuple[Init, Step, Settle]:
    """Give ``init``, ``step`` and ``settle`` of a stage that is nothing but a design of taps."""

    @lru_cache
    def made(params: Any, sample_rate: float) -> Convolver:
        return convolver(design(params, sample_rate))

    def init(params: Any, signal: Signal, rows: int) -> State:
        """State: the last ``taps - 1`` samples; of many taps the current frame, and what those before add to it."""
        return made(params, signal.sample_rate).at_rest(signal, rows)

    def step(params: Any, signal: Signal, state: State, x: Floats, marks: Marks) -> Result:
        """Convolve; the series is full from its first sample, before which there are zeros."""
        after, y = made(params, signal.sample_rate).run(state, x)
        return Result(after, y, np.ones(len(marks.rows), dtype=np.bool_))

    def settle(params: Any, signal: Signal) -> int:
        """Until the filter has no sample of before."""
        return len(design(params, signal.sample_rate))

    return init, step, settle
