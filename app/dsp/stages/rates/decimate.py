"""One sample in ``factor`` is kept, after a low-pass filter that takes away what would alias.

The filter is a windowed sinc of ``taps`` coefficients (Hamming; Oppenheim & Schafer, *Discrete-Time Signal Processing*,
7.2) with its edge (-6 dB) at half the rate that comes out, so that what lies ``(taps - 1) / 2`` samples back is what
comes out. The first value comes with the ``factor``-th sample.
"""

from __future__ import annotations

from functools import lru_cache

import msgspec
import numpy as np
import scipy

from app.dsp.fir import filtered_at
from app.dsp.hops import hops
from app.dsp.stage import Floats, Marks, Result, Signal, Stage, State
from app.dsp.window import empty_tail, join

MAX_FACTOR = 10_000
MAX_TAPS = 16_384


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of the decimation.

    Attributes
    ----------
    factor
        One sample in so many is kept.
    taps
        Coefficients of the filter, an odd number; 0 for ``20 * factor + 1``.
    """

    factor: int
    taps: int = 0

    def __post_init__(self) -> None:
        if not 2 <= self.factor <= MAX_FACTOR:
            raise ValueError(f"factor = {self.factor}: expected 2 to {MAX_FACTOR}")
        if self.taps and not (3 <= self.taps <= MAX_TAPS and self.taps % 2):
            raise ValueError(f"taps = {self.taps}: expected an odd number of 3 to {MAX_TAPS}, or 0 for 20 * factor + 1")


@lru_cache
def design(params: Params) -> Floats:
    """Coefficients of the filter, with a gain of 1 at 0 Hz."""
    taps = params.taps or 20 * params.factor + 1
    return np.asarray(scipy.signal.firwin(taps, 1 / params.factor, window="hamming"), dtype=np.float64)


def signal(params: Params, signal: Signal) -> Signal:
    """As many channels at a ``factor``-th of the rate."""
    return Signal(signal.sample_rate / params.factor, signal.channels)


def init(params: Params, signal: Signal, rows: int) -> State:
    """State: the last ``taps - 1`` samples, and how many have been seen."""
    return empty_tail(len(design(params)), signal, rows)


def step(params: Params, signal: Signal, state: State, x: Floats, marks: Marks) -> Result:
    """Filter where a value is kept; the series is full from its first value."""
    h, seen = design(params), state["count"]
    joined = join(len(h), state, x, marks)
    kept = hops(params.factor, seen, x.shape[-1], marks)
    full = seen[marks.rows] + marks.last + 1 >= params.factor
    return Result(joined.state, filtered_at(h, joined.series, kept.at), full, kept.lengths, kept.last)


def settle(params: Params, signal: Signal) -> int:
    """Until the filter has no sample of before."""
    return len(design(params)) + params.factor


STAGE = Stage(
    Params,
    init,
    step,
    settle,
    examples=({"factor": 4}, {"factor": 2, "taps": 51}, {"factor": 25}),
    oracle="scipy.signal.lfilter once over the whole signal, one in factor",
    signal=signal,
    changes_pace=True,
    design=lambda params, _: design(params),
)
