"""Heart rate over the last ``window`` samples of a series that is 1 at each beat, as `r_peaks` gives it.

``bpm`` is 60 s over the mean RR interval, which is the time from the window's first beat to its last over their number
less one; 0 where there are fewer than two. ``beats`` is how many there are. No interval is left out, so that a pause
shows as a low rate.
"""

from __future__ import annotations

import msgspec
import numpy as np

from app.dsp.stage import Floats, Marks, Result, Samples, Signal, Stage, State
from app.dsp.stages.physiology._beats import check_window, last_beats, over_beats, window_of

OUTPUTS = ("bpm", "beats")
DEFAULT = 10.0


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters: ``window``, samples over which the rate is taken; 0 for 10 s."""

    window: Samples = 0

    def __post_init__(self) -> None:
        check_window(self.window, "10 s")


def step(params: Params, signal: Signal, state: State, x: Floats, marks: Marks) -> Result:
    """Measure at each mark."""
    beats = last_beats(window_of(params.window, DEFAULT, signal.sample_rate), state, x, marks)
    number = np.count_nonzero(beats.inside, axis=-1)
    span = np.where(beats.inside, beats.since, 0).max(axis=-1) - beats.since[..., -1]
    bpm = np.zeros(number.shape)
    np.divide(60.0 * signal.sample_rate * (number - 1), span, out=bpm, where=number > 1)
    return Result(beats.state, np.stack([bpm, number.astype(np.float64)], axis=-1), beats.full)


init, settle = over_beats(DEFAULT)

STAGE = Stage(
    Params,
    init,
    step,
    settle,
    examples=({}, {"window": 256}, {"window": "2s"}),
    oracle="the definition, over the places of all beats",
    outputs=OUTPUTS,
)
