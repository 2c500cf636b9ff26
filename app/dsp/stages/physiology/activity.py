"""How much, and at which pace, someone moves: an accelerometer of one channel or three axes, over ``window`` samples.

``magnitude`` is the mean length of the acceleration in g; ``enmo`` the mean of what it has above 1 g, at least 0 each
(Euclidean norm minus one: van Hees et al., *PLoS ONE* 8, 2013).

``steps`` counts peaks of the band-passed length, 0.75 to 3.5 Hz (Butterworth of order 2, causal): values above
``threshold`` that are greater than all within 250 ms before them, and not less than those within 250 ms after them. A
step is counted when it is known, 250 ms after its peak, which the filter makes late by some 0.2 s more. ``cadence`` is
60 s over the mean time between the window's steps, 0 where there are fewer than two. Until the window is full, all
are of the samples seen so far.
"""

from __future__ import annotations

import math
from functools import lru_cache

import msgspec
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from app.dsp.designs import at_hand, butterworth
from app.dsp.sections import sosfilt
from app.dsp.stage import SETTLED, Floats, Marks, Result, Samples, Signal, Stage, State
from app.dsp.stages.physiology._moving_max import moving_max

OUTPUTS = ("magnitude", "enmo", "steps", "cadence")
DEFAULT = 10.0
MAX_WINDOW = 1 << 16
MIN_RATE = 10.0

STRIDE = (0.75, 3.5)
"""Band of steps, Hz."""
APART = 0.25
"""Seconds between two steps, at least."""


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of the activity.

    Attributes
    ----------
    window
        Samples over which it is measured; 0 for 10 s.
    gravity
        What 1 g is in the signal's unit: 9.81 for m/s^2.
    threshold
        Least height of a step's peak, in g.
    """

    window: Samples = 0
    gravity: float = 1.0
    threshold: float = 0.05

    def __post_init__(self) -> None:
        if not 0 <= self.window <= MAX_WINDOW:
            raise ValueError(f"window = {self.window}: expected at most {MAX_WINDOW} samples, or 0 for 10 s")
        if not 1e-3 <= self.gravity <= 1e6:
            raise ValueError(f"gravity = {self.gravity}: expected 1 g in the signal's unit, 0.001 to 1000000")
        if not 0 < self.threshold < math.inf:
            raise ValueError(f"threshold = {self.threshold}: expected a height above 0 in g")


def _window(params: Params, rate: float) -> int:
    window = params.window or round(DEFAULT * rate)
    if window > MAX_WINDOW:
        raise ValueError(f"window = {window}: expected at most {MAX_WINDOW} samples")
    return window


@lru_cache
def design(rate: float) -> Floats:
    """Second-order sections of the band-pass for a sample rate in Hz."""
    known = at_hand(2, STRIDE, "bandpass", rate)
    return butterworth(2, STRIDE, "bandpass", rate) if known is None else known


def signal(params: Params, signal: Signal) -> Signal:
    """One channel, whatever the axes.

    Raises
    ------
    ValueError
        There are neither one nor three channels, or the rate is too low to tell steps.
    """
    if signal.channels not in (1, 3):
        raise ValueError(f"channels = {signal.channels}: expected 1, or 3 axes; choose them by a stage before")
    if not signal.sample_rate >= MIN_RATE:
        raise ValueError(f"sample rate {signal.sample_rate} Hz: expected at least {MIN_RATE} Hz, to tell steps")
    return Signal(signal.sample_rate, 1)


def init(params: Params, signal: Signal, rows: int) -> State:
    """State: the window's lengths and steps, the band-pass, and the values that may yet turn out as peaks."""
    window, apart = _window(params, signal.sample_rate), round(APART * signal.sample_rate)
    return {
        "count": np.zeros(rows, dtype=np.int64),
        "first": np.zeros(rows),
        "length": np.zeros((rows, window - 1)),
        "zi": np.zeros((rows, len(design(signal.sample_rate)), 2)),
        "band": np.zeros((rows, 2 * apart)),
        "step": np.zeros((rows, window - 1), dtype=np.uint8),
    }


def step(params: Params, signal: Signal, state: State, x: Floats, marks: Marks) -> Result:
    """Measure the window that ends at each mark."""
    rate, samples, count = signal.sample_rate, x.shape[-1], state["count"]
    length = np.abs(x[:, 0]) if x.shape[1] == 1 else np.hypot(np.hypot(x[:, 0], x[:, 1]), x[:, 2])
    length = length / params.gravity
    # From the first sample on, so that gravity is no step.
    first = np.where(count == 0, length[:, 0], state["first"])
    y, zi = sosfilt(design(rate), length - first[:, np.newaxis], state["zi"])
    band = np.concatenate([state["band"], y], axis=-1)
    lengths = np.concatenate([state["length"], length], axis=-1)
    steps = np.concatenate([state["step"], _steps(band, round(APART * rate), params.threshold)], axis=-1)
    after = {
        "count": count + samples,
        "first": first,
        "length": lengths[:, samples:],
        "zi": zi,
        "band": band[:, samples:],
        "step": steps[:, samples:],
    }
    window = _window(params, rate)
    seen = count[marks.rows] + marks.last + 1
    of_window = sliding_window_view(lengths, window, axis=-1)[marks.rows, marks.last]
    number = np.minimum(seen, window)
    magnitude = np.add.reduce(of_window, axis=-1) / number
    enmo = np.add.reduce(np.maximum(of_window - 1.0, 0.0), axis=-1) / number
    stepped = sliding_window_view(steps, window, axis=-1)[marks.rows, marks.last]
    output = np.stack([magnitude, enmo, *_pace(stepped, rate)], axis=-1)
    return Result(after, output[:, np.newaxis], seen >= window)


def _steps(band: Floats, apart: int, threshold: float) -> NDArray[np.uint8]:
    """Give 1 where a step becomes known, ``apart`` samples after its peak."""
    most = moving_max(band, apart)
    samples = band.shape[-1] - 2 * apart
    middle = band[:, apart : apart + samples]
    found = (middle > threshold) & (middle > most[:, :samples]) & (middle >= most[:, apart + 1 :])
    return found.astype(np.uint8)


def _pace(stepped: NDArray[np.uint8], rate: float) -> tuple[Floats, Floats]:
    """Count the steps of windows, and tell how many a minute."""
    number = np.count_nonzero(stepped, axis=-1)
    span = stepped.shape[-1] - 1 - np.argmax(stepped[:, ::-1], axis=-1) - np.argmax(stepped, axis=-1)
    cadence = np.zeros(len(number))
    np.divide(60.0 * rate * (number - 1), span, out=cadence, where=number > 1)
    return number.astype(np.float64), cadence


def settle(params: Params, signal: Signal) -> int:
    """Until the band-pass has forgotten, and the window is full after that."""
    sos = design(signal.sample_rate)
    radius = max(abs(pole) for section in sos for pole in np.roots(section[3:]))
    forgotten = math.ceil(math.log(SETTLED) / math.log(radius))
    return forgotten + 2 * round(APART * signal.sample_rate) + _window(params, signal.sample_rate)


STAGE = Stage(
    Params,
    init,
    step,
    settle,
    examples=({"window": "1s"}, {"window": 100, "gravity": 9.81, "threshold": 0.02}, {"window": 1}),
    oracle="the definition with numpy.linalg.norm and scipy.signal.sosfilt once over the whole signal",
    outputs=OUTPUTS,
    signal=signal,
    mixes=True,
)
