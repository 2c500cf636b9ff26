"""What is summed over a moving window of values made of a sample and the ones before it: changes, or turns.

A value has a slot from the stream's first sample on; slots whose value would need samples before the first are 0.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import DTypeLike

from app.dsp.stage import Floats, Marks, Result, Signal, State
from app.dsp.window import window_sums


def fresh(window: int, lag: int, signal: Signal, rows: int, dtype: DTypeLike = np.float64) -> State:
    """State of a window of ``window`` slots whose values need the ``lag`` samples before theirs too."""
    return {
        "before": np.zeros((rows, signal.channels, lag)),
        "slots": np.zeros((rows, signal.channels, window - 1), dtype),
        "count": np.zeros(rows, dtype=np.int64),
    }


def summed(state: State, x: Floats, marks: Marks, values: Callable[[Floats], Floats]) -> Result:
    """Sum over the window that ends at each sample.

    Parameters
    ----------
    state, x, marks
        As of a stage's step.
    values
        Makes (rows, channels, samples) of (rows, channels, lag + samples).
    """
    samples, lag, count = x.shape[-1], state["before"].shape[-1], state["count"]
    window = state["slots"].shape[-1] + 1
    series = np.concatenate([state["before"], x], axis=-1)
    own = values(series)
    if count.min(initial=lag) < lag:
        own = np.where(count[:, np.newaxis, np.newaxis] + np.arange(samples) >= lag, own, 0.0)
    slots = np.concatenate([state["slots"].astype(np.float64), own], axis=-1)
    after = {
        "before": series[..., samples:],
        "slots": slots[..., samples:].astype(state["slots"].dtype),
        "count": count + samples,
    }
    full = count[marks.rows] + marks.last + 1 >= window + lag
    return Result(after, window_sums(slots, window), full)
