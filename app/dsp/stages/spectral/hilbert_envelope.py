"""Envelope of a band-limited signal: the size of its analytic signal, by a Hilbert transformer.

::

    y[n] = sqrt(x[n - d]**2 + (h * x)[n]**2),  d = (taps - 1) / 2
    h[d + m] = 2 / (pi m) w[d + m] for odd m, else 0

with w a Hamming window (Oppenheim & Schafer, *Discrete-Time Signal Processing*, 12.4). It comes ``d`` samples late. The
transformer's gain is 1 to within 1 % from ``2 sample_rate / taps`` on, up to as far below half the sample rate: take
what is slower, the mean first of all, away with a band-pass. Values before the ``taps``-th sample are of a signal that
was 0 before the first.
"""

from __future__ import annotations

from functools import lru_cache

import msgspec
import numpy as np

from app.dsp.stage import Floats, Marks, Result, Signal, Stage, State
from app.dsp.window import empty_tail, join

MAX_TAPS = 16_383


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters: ``taps``, coefficients of the Hilbert transformer, an odd number."""

    taps: int = 65

    def __post_init__(self) -> None:
        if not (3 <= self.taps <= MAX_TAPS and self.taps % 2):
            raise ValueError(f"taps = {self.taps}: expected an odd number of 3 to {MAX_TAPS}")


@lru_cache
def design(taps: int) -> Floats:
    """Coefficients ``h[d + m]`` for m = 1, 3, 5, ...; those of -m are their negatives."""
    m = np.arange(1, taps // 2 + 1, 2)
    weights: Floats = 2 / (np.pi * m) * np.hamming(taps)[taps // 2 + m]
    return weights


def init(params: Params, signal: Signal, rows: int) -> State:
    """State: the last ``taps - 1`` samples, and how many have been seen."""
    return empty_tail(params.taps, signal, rows)


def step(params: Params, signal: Signal, state: State, x: Floats, marks: Marks) -> Result:
    """Give the envelope; full once the transformer has a sample for each coefficient."""
    joined = join(params.taps, state, x, marks)
    samples, delay = x.shape[-1], params.taps // 2

    def ago(count: int) -> Floats:
        begin = params.taps - 1 - count
        return joined.series[..., begin : begin + samples]

    transformed, pair = np.zeros(x.shape), np.empty(x.shape)
    for m, weight in zip(range(1, delay + 1, 2), design(params.taps).tolist(), strict=True):
        np.subtract(ago(delay + m), ago(delay - m), out=pair)
        pair *= weight
        transformed += pair
    return Result(joined.state, np.hypot(ago(delay), transformed), joined.full)


def settle(params: Params, signal: Signal) -> int:
    """Until the transformer has no sample of before."""
    return params.taps


STAGE = Stage(
    Params,
    init,
    step,
    settle,
    examples=({"taps": 65}, {"taps": 3}, {"taps": 101}),
    oracle="numpy.convolve with the transformer over the whole signal",
)
