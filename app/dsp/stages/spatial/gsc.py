"""Front end of a generalised side-lobe canceller: what a beam hears, and what it does not.

::

    y[1] = w x            the steered beam: a source in its direction, and what is left of others
    y[0] = sum(B x)       the blocking branch: others alone, as the rows of B let nothing pass from that direction

(Griffiths & Jim, *IEEE Trans. Antennas Propag.* 30, 1982). An adaptive filter behind it takes channel 0 as its
input and channel 1 as the desired signal, and its error is the beam without what it shares with the others.
`app.dsp.trainers.beamformer` gives w and B from positions, direction and frequency.
"""

from __future__ import annotations

from functools import lru_cache

import msgspec
import numpy as np

from app.dsp.stage import Floats, Marks, Result, Signal, Stage, State
from app.dsp.stages.spatial._projection import MAX_CHANNELS, check_channels, check_weights, combined


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of the front end.

    Attributes
    ----------
    steering
        w: a weight for each channel.
    blocking
        B: rows of a weight for each channel.
    """

    steering: tuple[float, ...]
    blocking: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        check_weights("steering", self.steering)
        if not 1 <= len(self.blocking) <= MAX_CHANNELS:
            raise ValueError(f"blocking = {len(self.blocking)} rows: expected 1 to {MAX_CHANNELS}")
        for number, row in enumerate(self.blocking):
            check_weights(f"blocking: row {number}", row)
            if len(row) != len(self.steering):
                raise ValueError(
                    f"blocking: row {number} = {len(row)} weights: expected {len(self.steering)}, as in steering"
                )


@lru_cache
def matrix(params: Params) -> Floats:
    """(2, channels) weights of the two outputs: the sum of the blocking rows' outputs is that of their weights."""
    return np.array([np.sum(np.array(params.blocking), axis=0), params.steering], dtype=np.float64)


def signal(params: Params, signal: Signal) -> Signal:
    """Two channels: the blocking branch and the beam."""
    return signal._replace(channels=2)


def init(params: Params, signal: Signal, rows: int) -> State:
    """No state: a frame is all that is needed."""
    check_channels(len(params.steering), signal)
    return {}


def step(params: Params, signal: Signal, state: State, x: Floats, marks: Marks) -> Result:
    """Weigh every frame; full from the first."""
    return Result(state, combined(matrix(params), x), np.ones(len(marks.rows), dtype=np.bool_))


def settle(params: Params, signal: Signal) -> int:
    """At once."""
    return 1


STAGE = Stage(
    Params,
    init,
    step,
    settle,
    examples=(
        {"steering": (0.25, 0.5, 0.25), "blocking": ((1.0, -1.0, 0.0), (0.0, 1.0, -1.0))},
        {"steering": (0.5, 0.5), "blocking": ((0.7, -0.7),)},
    ),
    oracle="numpy's matrix products, steering @ x and the sum of blocking @ x",
    signal=signal,
    mixes=True,
)
