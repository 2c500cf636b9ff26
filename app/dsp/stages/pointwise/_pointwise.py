"""What stages share that make a value of its own sample alone."""

from __future__ import annotations

from typing import Any

import numpy as np

from app.dsp.stage import Floats, Marks, Result, Signal, State


def init(params: Any, signal: Signal, rows: int) -> State:
    """State: none."""
    return {}


def mapped(y: Floats, marks: Marks) -> Result:
    """Give the samples' values, which are full from the first."""
    return Result({}, y, np.ones(len(marks.rows), dtype=np.bool_))


def settle(params: Any, signal: Signal) -> int:
    """At once."""
    return 1
