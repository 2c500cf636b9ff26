"""``factor`` values for each sample: zeros are put between the samples, and a low-pass filter smooths them.

The filter is a windowed sinc (Hamming; Oppenheim & Schafer, *Discrete-Time Signal Processing*, 4.6) with its edge
(-6 dB) at half the rate that comes in; what it would multiply by zero is left out. Before the first sample there are
zeros. What comes out is ``(taps - 1) / 2`` of its own samples late.
"""

from __future__ import annotations

import msgspec
import numpy as np

from app.dsp.fir import filtered
from app.dsp.stage import Floats, Marks, Result, Signal, Stage, State
from app.dsp.stages.rates._polyphase import check_taps, phases
from app.dsp.window import empty_tail

MAX_FACTOR = 256


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of the interpolation.

    Attributes
    ----------
    factor
        Values that come out for each sample.
    taps
        Coefficients of the filter at the rate that comes out, an odd number; 0 for ``20 * factor + 1``.
    """

    factor: int
    taps: int = 0

    def __post_init__(self) -> None:
        if not 2 <= self.factor <= MAX_FACTOR:
            raise ValueError(f"factor = {self.factor}: expected 2 to {MAX_FACTOR}")
        check_taps(self.taps, self.factor)


def design(params: Params) -> Floats:
    """Coefficients of each phase, (factor, k)."""
    return phases(params.factor, params.factor, params.taps)


def signal(params: Params, signal: Signal) -> Signal:
    """As many channels at ``factor`` times the rate."""
    return Signal(signal.sample_rate * params.factor, signal.channels)


def init(params: Params, signal: Signal, rows: int) -> State:
    """State: the last samples that a phase reaches back to."""
    return {"tail": empty_tail(design(params).shape[1], signal, rows)["tail"]}


def step(params: Params, signal: Signal, state: State, x: Floats, marks: Marks) -> Result:
    """Filter by each phase; the series is full from its first value."""
    h, factor = design(params), params.factor
    rows, channels, samples = x.shape
    series = np.concatenate([state["tail"], x], axis=-1)
    dense = np.empty((rows, channels, samples, factor))
    for phase, own in enumerate(h):
        dense[..., phase] = filtered(own, series)
    return Result(
        {"tail": series[..., samples:]},
        dense.reshape(rows, channels, samples * factor),
        np.ones(len(marks.rows), dtype=np.bool_),
        np.full(rows, samples * factor, dtype=np.intp),
        (marks.last + 1) * factor - 1,
    )


def settle(params: Params, signal: Signal) -> int:
    """Until the filter has no sample of before."""
    return int(design(params).shape[1])


STAGE = Stage(
    Params,
    init,
    step,
    settle,
    examples=({"factor": 4}, {"factor": 2, "taps": 31}, {"factor": 3, "taps": 7}),
    oracle="scipy.signal.upfirdn, once over the whole signal",
    signal=signal,
    changes_pace=True,
)
