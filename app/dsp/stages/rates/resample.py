"""A rate that is ``up / down`` of the signal's: zeros between the samples, a low-pass filter, one value in ``down``.

The filter is a windowed sinc (Hamming; Crochiere & Rabiner, *Multirate Digital Signal Processing*, 1983, 3.3) with its
edge (-6 dB) at half the lower of the two rates. Only values that are kept are computed, each from the coefficients
that meet a sample. Value m lies at place ``m * down`` of the series that is ``up`` times as dense, wherever calls end:
n samples give ``ceil(n * up / down)`` values. Before the first sample there are zeros. What comes out is
``(taps - 1) / 2`` samples of the dense series late.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from app.dsp.stage import Floats, Indices, Marks, Result, Signal, Stage, State
from app.dsp.stages.rates._polyphase import check_taps, phases
from app.dsp.window import empty_tail

MAX_FACTOR = 10_000
MAX_RATIO = 256

_AT_ONCE = 1 << 18
"""Products that are made before they are summed."""


class _Ratio(NamedTuple):
    up: int
    down: int


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of the change of rate.

    Attributes
    ----------
    up, down
        The rate that comes out is ``up / down`` of the one that comes in; a common divisor is taken out.
    taps
        Coefficients of the filter at ``up`` times the rate that comes in, an odd number; 0 for
        ``20 * max(up, down) + 1``, up and down without their common divisor.
    """

    up: int
    down: int
    taps: int = 0

    def __post_init__(self) -> None:
        given = f"up = {self.up}, down = {self.down}"
        if self.up < 1 or self.down < 1:
            raise ValueError(f"{given}: expected at least 1")
        up, down = self.ratio
        if up == down:
            raise ValueError(f"{given}: expected another rate; leave the stage out")
        if max(up, down) > MAX_FACTOR:
            raise ValueError(f"{given}, or {up}/{down}: expected at most {MAX_FACTOR}; take a simpler ratio near it")
        if up > MAX_RATIO * down:
            raise ValueError(f"{given}: expected at most {MAX_RATIO} times the rate")
        check_taps(self.taps, max(up, down))

    @property
    def ratio(self) -> _Ratio:
        """``up`` and ``down`` without their common divisor."""
        divisor = math.gcd(self.up, self.down)
        return _Ratio(self.up // divisor, self.down // divisor)


def design(params: Params) -> Floats:
    """Coefficients of each phase, (up, k)."""
    return phases(params.ratio.up, max(params.ratio), params.taps)


def signal(params: Params, signal: Signal) -> Signal:
    """As many channels at ``up / down`` of the rate."""
    return Signal(signal.sample_rate * params.ratio.up / params.ratio.down, signal.channels)


def init(params: Params, signal: Signal, rows: int) -> State:
    """State: the last samples that a phase reaches back to, and how far on in the dense series the next value lies."""
    tail = empty_tail(design(params).shape[1], signal, rows)["tail"]
    return {"tail": tail, "ahead": np.zeros(rows, dtype=np.int64)}


def step(params: Params, signal: Signal, state: State, x: Floats, marks: Marks) -> Result:
    """Filter where a value is kept; the series is full from its first value, which comes with the first sample."""
    (up, down), h, ahead = params.ratio, design(params), state["ahead"]
    samples = x.shape[-1]
    series = np.concatenate([state["tail"], x], axis=-1)
    lengths = _kept(ahead, samples * up, down)
    dense = ahead[:, np.newaxis] + down * np.arange(lengths.max(initial=0))
    # What is not a row's own is computed at its last sample, and left.
    dense = np.minimum(dense, samples * up - 1)
    output = _filtered(h, series, dense // up, dense % up)
    last = _kept(ahead[marks.rows], (marks.last + 1) * up, down) - 1
    after = {"tail": series[..., samples:], "ahead": ahead + lengths * down - samples * up}
    return Result(after, output, np.ones(len(last), dtype=np.bool_), lengths, last)


def _kept(ahead: Indices, places: Indices | int, down: int) -> Indices:
    """How many values lie in so many places of the dense series, the first of them at ``ahead``."""
    return np.asarray((places - ahead + down - 1) // down, dtype=np.intp)


def _filtered(h: Floats, series: Floats, at: Indices, phase: Indices) -> Floats:
    """Filter samples ``at`` (rows, kept) by a phase each."""
    taps = h.shape[1]
    h = np.ascontiguousarray(h[:, ::-1])
    windows = sliding_window_view(series, taps, axis=-1)
    rows, channels = series.shape[:2]
    kept = at.shape[1]
    output = np.empty((rows, channels, kept))
    row = np.arange(rows)[:, np.newaxis]
    some = max(1, _AT_ONCE // max(1, rows * channels * taps))
    for begin in range(0, kept, some):
        part = slice(begin, begin + some)
        own = windows[row, :, at[:, part]]
        products = np.empty(own.shape)  # contiguous, so that each sum runs in one order
        np.multiply(own, h[phase[:, part], np.newaxis], out=products)
        output[..., part] = np.add.reduce(products, axis=-1).transpose(0, 2, 1)
    return output


def settle(params: Params, signal: Signal) -> int:
    """Until the filter has no sample of before."""
    return int(design(params).shape[1])


STAGE = Stage(
    Params,
    init,
    step,
    settle,
    examples=({"up": 128, "down": 125}, {"up": 6, "down": 10, "taps": 51}, {"up": 3, "down": 1}, {"up": 1, "down": 5}),
    oracle="scipy.signal.upfirdn, once over the whole signal",
    signal=signal,
    changes_pace=True,
)
