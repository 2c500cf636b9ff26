"""The last RR interval, from a series that is 1 at each beat, as `r_peaks` gives it.

``rr`` is the time in ms between the last two beats of the last ``window`` samples, 0 where there are fewer than two;
``age`` is the time in ms since the last beat, or the window's length where it has none.
"""

from __future__ import annotations

import msgspec
import numpy as np

from app.dsp.stage import Floats, Marks, Result, Samples, Signal, Stage, State
from app.dsp.stages.physiology._beats import check_window, last_beats, over_beats, window_of

OUTPUTS = ("rr", "age")
DEFAULT = 4.0


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters: ``window``, samples in which the two beats must lie; 0 for 4 s."""

    window: Samples = 0

    def __post_init__(self) -> None:
        check_window(self.window, "4 s")


def step(params: Params, signal: Signal, state: State, x: Floats, marks: Marks) -> Result:
    """Measure at each mark."""
    window = window_of(params.window, DEFAULT, signal.sample_rate)
    beats = last_beats(window, state, x, marks)
    since, inside = beats.since[..., -2:], beats.inside[..., -2:]
    interval = np.where(inside[..., 0], since[..., 0] - since[..., 1], 0)
    age = np.where(inside[..., 1], since[..., 1], window)
    output = np.stack([interval, age], axis=-1) * (1000.0 / signal.sample_rate)
    return Result(beats.state, output, beats.full)


init, settle = over_beats(DEFAULT)

STAGE = Stage(
    Params,
    init,
    step,
    settle,
    examples=({}, {"window": 256}, {"window": "1.5s"}),
    oracle="the definition, over the places of all beats",
    outputs=OUTPUTS,
)
