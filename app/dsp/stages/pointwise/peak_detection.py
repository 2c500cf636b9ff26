"""Peaks: 1 for a sample strictly above both its neighbours and at least ``threshold``, else 0.

The mark comes **one sample late**, with the neighbour that shows that the sample before was a peak: so no peak is lost
between two calls. A plateau is no peak, nor is the stream's first sample. Of peaks less than ``min_distance`` samples
apart the first is kept; one that is dropped holds up no other.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np
from numpy.typing import NDArray

from app.dsp.stage import NEVER, Floats, Indices, Marks, Result, Samples, Signal, Stage, State


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of the detection.

    Attributes
    ----------
    threshold
        The least height of a peak, at least 0, in the signal's unit.
    min_distance
        Samples from one peak to the next, at least.
    """

    threshold: float
    min_distance: Samples = 1

    def __post_init__(self) -> None:
        if not 0 <= self.threshold < math.inf:
            raise ValueError(f"threshold = {self.threshold}: expected a finite number, at least 0")
        if not 1 <= self.min_distance <= NEVER:
            raise ValueError(f"min_distance = {self.min_distance}: expected 1 to {NEVER} samples")


def init(params: Params, signal: Signal, rows: int) -> State:
    """State: the last two samples, how many have been seen, and in how many there may be a peak again."""
    return {
        "before": np.zeros((rows, signal.channels, 2)),
        "count": np.zeros(rows, dtype=np.int64),
        "wait": np.zeros((rows, signal.channels), dtype=np.int64),
    }


def step(params: Params, signal: Signal, state: State, x: Floats, marks: Marks) -> Result:
    """Mark what the sample before each was; the series is full from the third sample."""
    samples, count = x.shape[-1], state["count"]
    series = np.concatenate([state["before"], x], axis=-1)
    sample = series[..., 1:-1]
    peaks = (sample > series[..., :-2]) & (sample > series[..., 2:]) & (sample >= params.threshold)
    if count.min(initial=2) < 2:
        peaks &= count[:, np.newaxis, np.newaxis] + np.arange(samples) >= 2
    wait = state["wait"]
    if params.min_distance > 2:  # two peaks have a sample between them anyway
        wait = _thin(peaks, wait, params.min_distance)
    after = {"before": series[..., samples:], "count": count + samples, "wait": wait}
    return Result(after, peaks.astype(np.float64), count[marks.rows] + marks.last + 1 >= 3)


def _thin(peaks: NDArray[np.bool_], wait: Indices, distance: int) -> Indices:
    """Drop, in place, the peaks that come too soon; gives how long to wait after the last sample."""
    rows, channels, places = np.nonzero(peaks)
    own = (rows * peaks.shape[1] + channels).tolist()
    allowed = wait.ravel().tolist()
    dropped = []
    for number, (series, place) in enumerate(zip(own, places.tolist(), strict=True)):
        if place >= allowed[series]:
            allowed[series] = place + distance
        else:
            dropped.append(number)
    peaks[rows[dropped], channels[dropped], places[dropped]] = False
    left: Indices = np.maximum(np.array(allowed, dtype=np.int64).reshape(wait.shape) - peaks.shape[-1], 0)
    return left


def settle(params: Params, signal: Signal) -> int:
    """Three samples; where peaks are dropped, which are depends on all before."""
    return 3 if params.min_distance <= 2 else NEVER


STAGE = Stage(
    Params,
    init,
    step,
    settle,
    examples=({"threshold": 0.1}, {"threshold": 0.0, "min_distance": 20}, {"threshold": 0.0, "min_distance": 5}),
    oracle="the definition, sample by sample",
)
