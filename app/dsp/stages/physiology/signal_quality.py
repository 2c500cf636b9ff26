"""How far a raw ECG can be trusted over its last ``window`` samples, in any unit.

``flat`` is the share of samples in stretches of at least 200 ms without a change; ``clipped`` the share in stretches of
at least 20 ms, and three samples, at the window's greatest or least value, as at the end of a converter's range; 0
where the whole window is flat. Values count as equal that differ by no more than 1e-6 of the greatest absolute value.

``noise`` is the share of the power outside 0.5 to 40 Hz, where an ECG has little: below lie movements of the baseline,
above them mains and muscles. The spectrum is one periodogram with a Hann window, less the mean; a window without power
has none of it outside. Of clean ECGs it is a few hundredths.

``quality = (1 - flat) (1 - clipped) (1 - noise)``, from 0 to 1. Each share is of the window's samples; until the window
is full, of a window of zeros before them.
"""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from app.dsp.stage import Floats, Marks, Result, Samples, Signal, Stage, State
from app.dsp.stages.physiology._moving_max import covered, moving_max
from app.dsp.window import empty_tail, join

OUTPUTS = ("flat", "clipped", "noise", "quality")
DEFAULT = 5.0
MAX_WINDOW = 1 << 16
MIN_RATE = 100.0

STILL, AT_THE_END = 0.2, 0.02
"""Shortest stretches that are flat, and clipped, s."""

EQUAL = 1e-6
BAND = (0.5, 40.0)

TOGETHER = 1 << 15
"""Values that are judged at once: what is made of them stays in the processor's cache."""


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters: ``window``, samples that are judged; 0 for 5 s."""

    window: Samples = 0

    def __post_init__(self) -> None:
        if not 0 <= self.window <= MAX_WINDOW:
            raise ValueError(f"window = {self.window}: expected at most {MAX_WINDOW} samples, or 0 for 5 s")


def _window(params: Params, rate: float) -> int:
    if not rate >= MIN_RATE:
        raise ValueError(f"sample rate {rate} Hz: expected an ECG of at least {MIN_RATE} Hz")
    window = params.window or round(DEFAULT * rate)
    if not rate <= window <= MAX_WINDOW:
        raise ValueError(f"window = {window}: expected at least 1 s, and at most {MAX_WINDOW} samples, at {rate} Hz")
    return window


def init(params: Params, signal: Signal, rows: int) -> State:
    """State: the last ``window - 1`` samples, and how many have been seen."""
    return empty_tail(_window(params, signal.sample_rate), signal, rows)


def step(params: Params, signal: Signal, state: State, x: Floats, marks: Marks) -> Result:
    """Judge the window that ends at each mark."""
    window = _window(params, signal.sample_rate)
    joined = join(window, state, x, marks)
    windows = sliding_window_view(joined.series, window, axis=-1)
    output = np.empty((len(marks.rows), signal.channels, len(OUTPUTS)))
    size = max(1, TOGETHER // (signal.channels * window))
    for begin in range(0, len(output), size):
        some = slice(begin, begin + size)
        own = np.ascontiguousarray(windows[marks.rows[some], :, marks.last[some]])
        output[some] = quality(own, signal.sample_rate)
    return Result(joined.state, output, joined.full)


def quality(x: Floats, rate: float) -> Floats:
    """Judge windows.

    Parameters
    ----------
    x
        (..., n) samples, of at least 1 s.
    rate
        Hz.

    Returns
    -------
    (..., 4) values, in the order of `OUTPUTS`.
    """
    greatest = np.abs(x).max(axis=-1, keepdims=True)
    x = x / np.where(greatest > 0, greatest, 1.0)
    still = round(STILL * rate)
    steady = moving_max(x, still) + moving_max(-x, still) <= EQUAL
    flat = _share(covered(steady, still))
    top, bottom = x.max(axis=-1, keepdims=True), x.min(axis=-1, keepdims=True)
    run = max(3, round(AT_THE_END * rate))
    ends = covered(~moving_max(x < top - EQUAL, run), run) | covered(~moving_max(x > bottom + EQUAL, run), run)
    clipped = np.where((top - bottom)[..., 0] > EQUAL, _share(ends), 0.0)
    noise = _noise(x, rate)
    return np.stack([flat, clipped, noise, (1 - flat) * (1 - clipped) * (1 - noise)], axis=-1)


def _noise(x: Floats, rate: float) -> Floats:
    count = x.shape[-1]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(count) / count)
    spectrum = np.fft.rfft((x - np.add.reduce(x, axis=-1, keepdims=True) / count) * hann)[..., 1:]
    power = np.square(spectrum.real) + np.square(spectrum.imag)
    frequency = np.arange(1, count // 2 + 1) * (rate / count)
    outside = np.where((frequency < BAND[0]) | (frequency > BAND[1]), power, 0.0)
    total = np.add.reduce(power, axis=-1)
    noise: Floats = np.divide(np.add.reduce(outside, axis=-1), total, out=np.zeros_like(total), where=total > 0)
    return noise


def _share(samples: NDArray[np.bool_]) -> Floats:
    share: Floats = np.count_nonzero(samples, axis=-1) / samples.shape[-1]
    return share


def settle(params: Params, signal: Signal) -> int:
    """Until the window is full."""
    return _window(params, signal.sample_rate)


STAGE = Stage(
    Params,
    init,
    step,
    settle,
    examples=({"window": "1s"}, {"window": 256}),
    oracle="the definition with scipy.signal.periodogram and runs one by one, window by window",
    outputs=OUTPUTS,
)
