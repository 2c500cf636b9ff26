"""Heart rate variability over the last ``window`` samples of a series that is 1 at each beat, as `r_peaks` gives it.

The time-domain measures of the Task Force, *Heart rate variability: standards of measurement*, Circulation 93, 1996, of
the RR intervals in ms whose beats both lie in the window::

    mean_rr = mean(RR);  sdnn = std(RR), with n - 1
    rmssd = sqrt(mean(d^2)), d the differences of intervals that follow each other
    pnn50 = 100 * (number of |d| > 50 ms) / (number of RR)

``beats`` is the number of beats in the window. Intervals outside 300 to 2000 ms are no sinus rhythm, or hide a missed
beat: they are left out, and the differences to them too. A value of too few intervals is 0.
"""

from __future__ import annotations

import msgspec
import numpy as np

from app.dsp.stage import Floats, Marks, Result, Samples, Signal, Stage, State
from app.dsp.stages.physiology._beats import check_window, last_beats, over_beats, window_of

OUTPUTS = ("rmssd", "sdnn", "pnn50", "mean_rr", "beats")
DEFAULT = 60.0
SHORTEST, LONGEST = 300.0, 2000.0
"""Intervals that count, ms."""


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters: ``window``, samples over which the intervals are taken; 0 for 60 s."""

    window: Samples = 0

    def __post_init__(self) -> None:
        check_window(self.window, "60 s")


def step(params: Params, signal: Signal, state: State, x: Floats, marks: Marks) -> Result:
    """Measure at each mark."""
    rate = signal.sample_rate
    beats = last_beats(window_of(params.window, DEFAULT, rate), state, x, marks)
    # In thousandths of a sample, which are exact where intervals and limits meet.
    interval = 1000.0 * (beats.since[..., :-1] - beats.since[..., 1:])
    counts = beats.inside[..., :-1] & (interval >= SHORTEST * rate) & (interval <= LONGEST * rate)
    interval = np.where(counts, interval, 0.0)
    number = np.count_nonzero(counts, axis=-1)
    rr = interval / rate
    mean = _over(np.add.reduce(rr, axis=-1), number)
    deviation = np.where(counts, rr - mean[..., np.newaxis], 0.0)
    sdnn = np.sqrt(_over(np.add.reduce(np.square(deviation), axis=-1), number - 1))
    both = counts[..., :-1] & counts[..., 1:]
    difference = np.where(both, np.diff(interval), 0.0)
    rmssd = np.sqrt(_over(np.add.reduce(np.square(difference / rate), axis=-1), np.count_nonzero(both, axis=-1)))
    pnn50 = _over(100.0 * np.count_nonzero(np.abs(difference) > 50.0 * rate, axis=-1), number)
    all_beats = np.count_nonzero(beats.inside, axis=-1).astype(np.float64)
    return Result(beats.state, np.stack([rmssd, sdnn, pnn50, mean, all_beats], axis=-1), beats.full)


def _over(numerator: Floats, denominator: Floats) -> Floats:
    """Quotient, 0 where the denominator is not above 0."""
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)


init, settle = over_beats(DEFAULT)

STAGE = Stage(
    Params,
    init,
    step,
    settle,
    examples=({"window": "4s"}, {"window": 500}),
    oracle="the definition with numpy, over the places of all beats",
    outputs=OUTPUTS,
)
