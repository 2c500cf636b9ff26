"""Signal-to-noise ratio in decibels, of channel 0, the signal, to channel 1, the noise: one channel comes out.

::

    y[n] = 10 log10((Ps + 1e-10) / (Pn + 1e-10)), between -100 and 100

with the mean squares Ps and Pn of the last ``k = min(n + 1, window)`` samples. Where Pn is below 1e-10 there is no
noise to speak of, and the ratio is 100.
"""

from __future__ import annotations

import numpy as np

from app.dsp.stage import Floats, Marks, Result, Signal, Stage, State
from app.dsp.stages.statistics._moving import Params, means
from app.dsp.window import init, join, settle

LEAST = 1e-10
"""Power that is added to both, and below which noise is none, in the signal's unit squared."""
MOST = 100.0
"""dB."""


def signal(params: Params, signal: Signal) -> Signal:
    """One channel of two."""
    if signal.channels != 2:
        raise ValueError(
            f"{signal.channels} channel(s): expected 2, signal and noise; choose them with a stage before it"
        )
    return signal._replace(channels=1)


def step(params: Params, signal: Signal, state: State, x: Floats, marks: Marks) -> Result:
    """Take the power of both in each window anew."""
    joined = join(params.window, state, x, marks)
    power = means(np.square(joined.series), params.window, state["count"])
    level = np.log10(power + LEAST)
    ratio = np.clip(10 * (level[:, :1] - level[:, 1:]), -MOST, MOST)
    return Result(joined.state, np.where(power[:, 1:] < LEAST, MOST, ratio), joined.full)


STAGE = Stage(
    Params,
    init,
    step,
    settle,
    examples=({"window": 250}, {"window": 1}, {"window": 25}),
    oracle="the definition, window by window",
    signal=signal,
    mixes=True,
)
