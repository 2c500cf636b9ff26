"""When samples were taken, by the time that each of them says: which count, where there are gaps, and jitter taken out.

Times are counted from the one at which the grid starts, so that their resolution is that of differences, not that of
milliseconds since 1970. All is decided sample by sample from those before it, so that it does not matter how they are
cut into calls.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.dsp.stage import Floats, State

DROPPED, SAMPLE, GAP, RESTART = range(4)
"""What a sample is: one that does not count, one in its place, the first after a gap, the first of a grid."""

Compensation = Literal["none", "regression", "pll"]

FADE = 1 - 1 / 4096
"""Weight of a sample in the regression, as a share of that of the next one."""

PHASE_GAIN = 0.1
INTERVAL_GAIN = (1 - math.sqrt(1 - PHASE_GAIN)) ** 2
"""Shares of its error by which the loop corrects time and interval: critically damped."""


@dataclass(frozen=True)
class Clock:
    """How times are read, all in ms.

    Parameters
    ----------
    nominal
        Interval of the samples by their rate.
    gap
        Longer intervals are gaps.
    forward, backward
        Greater jumps start the grid anew.
    compensation
        How jitter is taken out.
    """

    nominal: float
    gap: float
    forward: float
    backward: float
    compensation: Compensation


class Ticks(NamedTuple):
    """Times of a call's samples."""

    time: Floats
    """(rows, samples) since the grid's start; not to be used of a sample that does not count."""
    kind: NDArray[np.uint8]
    """(rows, samples) what each sample is."""
    state: State
    """``origin`` and what compensation keeps."""


def fresh_clock(clock: Clock, rows: int) -> State:
    """State of rows that have seen nothing."""
    state: State = {"origin": np.zeros(rows)}
    if clock.compensation != "none":
        state["interval"] = np.full(rows, clock.nominal)
    if clock.compensation == "regression":
        state["sums"] = np.zeros((rows, 3))
    return state


def read(clock: Clock, state: State, started: NDArray[np.bool_], last: Floats, t: Floats) -> Ticks:
    """Tell what the samples of a call are.

    Parameters
    ----------
    clock
        How.
    state
        As `fresh_clock` gives.
    started
        (rows,) whether a row has any sample.
    last
        (rows,) time of the last one that counts, since the grid's start.
    t
        (rows, samples) times as samples say them.
    """
    if clock.compensation != "none":
        return _compensated(clock, state, started, last, t)
    origin = np.where(started, state["origin"], t[:, 0])
    time = t - origin[:, np.newaxis]
    # The latest time before each sample is that of the last one that counts, unless the grid starts anew.
    latest = np.maximum.accumulate(np.concatenate([last[:, np.newaxis], time], axis=-1), axis=-1)[:, :-1]
    ahead = time - latest
    kind = np.where(ahead > clock.gap, GAP, np.where(ahead > 0, SAMPLE, DROPPED)).astype(np.uint8)
    kind[~started, 0] = RESTART
    jumping = np.flatnonzero(((ahead > clock.forward) | (ahead < -clock.backward)).any(axis=-1))
    if len(jumping):
        own = _jumping(clock, origin[jumping], started[jumping], last[jumping], t[jumping])
        time[jumping], kind[jumping], origin[jumping] = own.time, own.kind, own.state["origin"]
    return Ticks(time, kind, {"origin": origin})


def _jumping(clock: Clock, origin: Floats, started: NDArray[np.bool_], last: Floats, t: Floats) -> Ticks:
    """Read times of rows whose grids start anew on the way."""
    time, kind = np.empty(t.shape), np.empty(t.shape, dtype=np.uint8)
    for sample, said in enumerate(t.T):
        now = said - origin
        ahead = now - last
        counts = ahead > 0
        restart = (ahead > clock.forward) | (ahead < -clock.backward)
        if sample == 0:
            restart |= ~started
        kind[:, sample] = np.where(
            restart, RESTART, np.where(ahead > clock.gap, GAP, np.where(counts, SAMPLE, DROPPED))
        )
        origin = np.where(restart, said, origin)
        last = np.where(restart, 0.0, np.where(counts, now, last))
        time[:, sample] = last
    return Ticks(time, kind, {"origin": origin})


def _compensated(clock: Clock, state: State, started: NDArray[np.bool_], last: Floats, t: Floats) -> Ticks:
    """Read times that jitter."""
    time, kind = np.empty(t.shape), np.empty(t.shape, dtype=np.uint8)
    origin, interval = np.where(started, state["origin"], t[:, 0]), state["interval"]
    least, most = 0.5 * clock.nominal, 2 * clock.nominal
    phase_gain: Floats | float = PHASE_GAIN
    interval_gain: Floats | float = INTERVAL_GAIN
    sums = _Sums(state["sums"]) if clock.compensation == "regression" else None
    for sample, said in enumerate(t.T):
        now = said - origin
        ahead = now - last
        # The tick of the samples' own clock that it is nearest to, counted from the one before.
        ticks = np.floor(ahead / clock.nominal + 0.5)
        counts = ticks >= 1
        restart = (ahead > clock.forward) | (ahead < -clock.backward)
        if sample == 0:
            restart |= ~started
        begins = restart | (ahead > clock.gap)
        steady = counts & ~begins
        all_steady = steady.all()
        if not all_steady:
            ticks, ahead = np.where(steady, ticks, 1.0), np.where(steady, ahead, 0.0)
        predicted = ticks * interval
        error = ahead - predicted
        if sums is not None:
            phase_gain, interval_gain = sums.add(ticks, None if all_steady else (steady, begins))
        corrected = np.minimum(np.maximum(interval + interval_gain * error, least), most)
        moved = last + (predicted + phase_gain * error)
        if all_steady:
            kind[:, sample], interval, last = SAMPLE, corrected, moved
        else:
            kind[:, sample] = np.where(restart, RESTART, np.where(begins, GAP, np.where(counts, SAMPLE, DROPPED)))
            interval = np.where(steady, corrected, np.where(restart, clock.nominal, interval))
            last = np.where(restart, 0.0, np.where(steady, moved, np.where(begins, now, last)))
            origin = np.where(restart, said, origin)
        time[:, sample] = last
    after = {"origin": origin, "interval": interval}
    return Ticks(time, kind, after if sums is None else {**after, "sums": sums.array()})


class _Sums:
    """Sums of a recursive least-squares line: of weights, times powers of ticks, the last sample's being 0.

    Parameters
    ----------
    sums
        (rows, 3) of powers 0, 1 and 2.
    """

    def __init__(self, sums: Floats) -> None:
        self._s0, self._s1, self._s2 = (np.ascontiguousarray(own) for own in sums.T)

    def array(self) -> Floats:
        """(rows, 3)."""
        return np.stack([self._s0, self._s1, self._s2], axis=-1)

    def add(self, ticks: Floats, where: tuple[NDArray[np.bool_], NDArray[np.bool_]] | None) -> tuple[Floats, Floats]:
        """Add a sample, so many ticks on; if not to all rows, then where they are steady and where they begin anew.

        Returns
        -------
        By which share of a sample's error the line's value there, and its slope, change.
        """
        s2 = FADE * (self._s2 + ticks * (ticks * self._s0 - 2 * self._s1))
        s1 = FADE * (self._s1 - ticks * self._s0)
        s0 = FADE * self._s0 + 1.0
        determinant = s0 * s2 - s1 * s1
        gain = s2, -s1
        if where is not None:
            steady, begins = where
            determinant = np.where(steady, determinant, 1.0)
            s0 = np.where(steady, s0, np.where(begins, 1.0, self._s0))
            s1 = np.where(steady, s1, np.where(begins, 0.0, self._s1))
            s2 = np.where(steady, s2, np.where(begins, 0.0, self._s2))
        self._s0, self._s1, self._s2 = s0, s1, s2
        return gain[0] / determinant, gain[1] / determinant
