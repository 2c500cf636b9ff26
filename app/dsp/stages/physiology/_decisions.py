"""Which peaks of an ECG are beats: the decisions of a QRS detector, for many signals at once.

A *lane* is one channel of one row. What happens in a lane happens in an order that its samples alone fix: a peak is
judged at the sample at which it is known to be one, and a beat is missed at the sample at which it is overdue. Lanes
take their events side by side, one each in every round; how the samples were cut into calls makes no difference.

`app.dsp.stages.physiology.r_peaks` tells the rules.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.dsp.stage import Array, Floats, Indices, State

Ints = NDArray[np.int64]

KEPT = 8
"""Beats, intervals and other peaks that a level is taken from."""

LONG_AGO = -(1 << 48)

SECOND = 0.5
"""Share of the threshold that a beat must reach which is looked for a second time."""

OVERDUE = 1.66
"""Mean intervals without a beat after which one is looked for again."""

EARLY = 0.8
"""Mean intervals after the last beat at which a missed one may lie: it is looked for while it can still be told."""

LEANING = 1 / KEPT
"""Share that a beat has in which way R waves point."""


class Times(NamedTuple):
    """Spans in samples."""

    delay: int
    """From an R peak to the place that tells of it."""
    lag: int
    """At most, from an R peak to the sample at which its peak is known."""
    learning: int
    refractory: int
    """At least, between two beats."""
    t_wave: int
    """A peak that comes sooner after a beat may be its T wave."""
    longest: int
    """Interval that still counts into the mean."""
    silent: int
    """Without a beat, after which levels are learnt anew."""


class Peaks(NamedTuple):
    """Peaks, ordered by lane and then by time."""

    lane: Indices
    known: Ints
    """Sample at which each is known to be a peak."""
    height: Floats
    slope: Floats
    """Its steepest slope."""
    extremes: Floats
    """(peaks, 2) greatest value of the band-passed signal, and its least value's opposite."""
    at: Ints
    """(peaks, 2) samples of the input that these stem from."""

    def chosen(self, which: Indices) -> Peaks:
        """Give some of them."""
        return Peaks(
            self.lane[which],
            self.known[which],
            self.height[which],
            self.slope[which],
            self.extremes[which],
            self.at[which],
        )


def fresh(times: Times, shape: tuple[int, int], rate: float) -> State:
    """State of lanes, (rows, channels), that have seen nothing.

    ``signal``, ``noise`` and ``intervals`` hold what the levels and the mean interval are of; ``last`` and ``slope``
    are the last beat's; ``quiet`` is since when there has been none, or levels were learnt; ``due`` when one is looked
    for again; ``seen`` and ``seen_at`` are the last peaks' height, slope and swing, and their places; ``pending`` holds
    the places of beats that are still to be told.
    """
    # Neither peaks nor beats come closer than the refractory time.
    seen = (times.lag + max(times.learning, times.delay)) // times.refractory + 2
    pending = times.delay // times.refractory + 2
    return {
        "signal": np.zeros((*shape, KEPT)),
        "noise": np.zeros((*shape, KEPT)),
        "intervals": np.full((*shape, KEPT), round(rate), dtype=np.int64),
        "last": np.full(shape, LONG_AGO, dtype=np.int64),
        "slope": np.zeros(shape),
        "leaning": np.zeros(shape),
        "learned": np.zeros(shape, dtype=np.uint8),
        "quiet": np.zeros(shape, dtype=np.int64),
        "due": np.full(shape, times.learning, dtype=np.int64),
        "seen": np.zeros((*shape, seen, 3)),
        "seen_at": np.full((*shape, seen), LONG_AGO, dtype=np.int64),
        "pending": np.full((*shape, pending), -1, dtype=np.int64),
    }


class Decisions:
    """Decides on the peaks of one call.

    Parameters
    ----------
    times
        Spans.
    threshold
        Where between noise (0) and signal (1) a beat begins.
    state
        What `fresh` gave, or `state` after the call before.
    start
        (lanes,) index of the call's first sample.
    samples
        Of the call.
    """

    def __init__(self, times: Times, threshold: float, state: State, start: Ints, samples: int) -> None:
        self._times, self._threshold = times, threshold
        self._shape = state["last"].shape
        self._state = {name: array.reshape(len(start), *array.shape[2:]).copy() for name, array in state.items()}
        self._start, self._end = start, start + samples - 1
        self._out = np.zeros((len(start), samples))
        pending = self._state["pending"]
        places = np.where(pending <= self._end[:, np.newaxis], pending, -1)
        lanes, slots = np.nonzero(places >= 0)
        self._out[lanes, places[lanes, slots] - start[lanes]] = 1.0
        pending[places >= 0] = -1
        self._state["pending"] = np.take_along_axis(pending, np.argsort(pending < 0, axis=1, kind="stable"), axis=1)
        self._waiting = np.count_nonzero(self._state["pending"] >= 0, axis=1)

    def run(self, peaks: Peaks) -> tuple[Floats, State]:
        """Judge all peaks of the call; gives (rows, channels, samples) that are 1 where a beat is told, and the state.

        Of events at the same sample the overdue beat comes before the peak.
        """
        number = np.searchsorted(peaks.lane, np.arange(len(self._start)))
        behind = np.searchsorted(peaks.lane, np.arange(len(self._start)), side="right")
        known = np.append(peaks.known, 0)
        while True:
            due = self._state["due"]
            peak_at = np.where(number < behind, known[number], self._end + 1)
            overdue = np.flatnonzero((due <= peak_at) & (due <= self._end))
            ready = np.flatnonzero((peak_at < due) & (number < behind))
            if not len(overdue) and not len(ready):
                break
            if len(overdue):
                self._look_again(overdue, due[overdue])
            if len(ready):
                self._judge(ready, peaks.chosen(number[ready]))
                number[ready] += 1
        state = {name: array.reshape(*self._shape, *array.shape[1:]) for name, array in self._state.items()}
        return self._out.reshape(*self._shape, -1), state

    def _judge(self, lanes: Indices, peaks: Peaks) -> None:
        """Decide on one peak of each lane; its R wave points as those before did."""
        state = self._state
        leaning, difference = state["leaning"][lanes], peaks.extremes[:, 0] - peaks.extremes[:, 1]
        down = np.where(leaning == 0, difference, leaning) < 0
        at = np.where(down, peaks.at[:, 1], peaks.at[:, 0])
        traits = np.stack([peaks.height, peaks.slope, difference], axis=1)
        self._push("seen", lanes, traits)
        self._push("seen_at", lanes, at)
        learned = np.flatnonzero(state["learned"][lanes])
        self._decide(lanes[learned], at[learned], traits[learned], peaks.known[learned])

    def _decide(self, lanes: Indices, at: Ints, traits: Floats, now: Ints) -> None:
        """Take a peak of each lane as a beat, or as noise."""
        later = at - self._state["last"][lanes] >= self._times.refractory
        beat = (traits[:, 0] > self._level(lanes)) & ~self._is_t_wave(lanes, at, traits[:, 1])
        other, beat = later & ~beat, later & beat
        self._push("noise", lanes[other], traits[other, 0])
        self._accept(lanes[beat], at[beat], traits[beat], now[beat])

    def _look_again(self, lanes: Indices, now: Ints) -> None:
        """Take the greatest peak since the last beat that reaches the second threshold, where a beat is overdue."""
        state, times = self._state, self._times
        unlearned = state["learned"][lanes] == 0
        self._learn(lanes[unlearned], now[unlearned])
        lanes, now = lanes[~unlearned], now[~unlearned]
        at, traits = state["seen_at"][lanes], state["seen"][lanes]
        height = traits[..., 0]
        fits = (at + times.delay >= now[:, np.newaxis]) & (at - state["last"][lanes, np.newaxis] >= times.refractory)
        fits &= height > SECOND * self._level(lanes)[:, np.newaxis]
        fits &= ~self._is_t_wave(lanes[:, np.newaxis], at, traits[..., 1])
        best = np.argmax(np.where(fits, height, -1.0), axis=1)
        found = fits.any(axis=1)
        own = np.flatnonzero(found)
        self._accept(lanes[own], at[own, best[own]], traits[own, best[own]], now[own])
        lanes, now = lanes[~found], now[~found]
        state["due"][lanes] = now + self._overdue(lanes)
        silent = now - state["quiet"][lanes] >= times.silent
        self._learn(lanes[silent], now[silent])

    def _learn(self, lanes: Indices, now: Ints) -> None:
        """Set levels by the greatest of the last peaks, and decide on them; where there are none, try again later."""
        state, times = self._state, self._times
        recent = state["seen_at"][lanes] >= (now - times.learning - times.lag)[:, np.newaxis]
        greatest = np.where(recent, state["seen"][lanes, :, 0], 0.0).max(axis=1)
        state["due"][lanes] = now + times.learning
        some = greatest > 0
        lanes, now = lanes[some], now[some]
        state["signal"][lanes] = greatest[some, np.newaxis]
        state["noise"][lanes] = 0.0
        state["learned"][lanes] = 1
        state["quiet"][lanes] = now
        state["due"][lanes] = now + self._overdue(lanes)
        for at, traits in zip(state["seen_at"][lanes].T, state["seen"][lanes].swapaxes(0, 1), strict=True):
            timely = at + times.delay >= now
            self._decide(lanes[timely], at[timely], traits[timely], now[timely])

    def _accept(self, lanes: Indices, at: Ints, traits: Floats, now: Ints) -> None:
        """Take peaks as beats."""
        state, times = self._state, self._times
        interval = at - state["last"][lanes]
        counts = interval <= times.longest
        self._push("intervals", lanes[counts], interval[counts])
        self._push("signal", lanes, traits[:, 0])
        state["slope"][lanes] = traits[:, 1]
        state["leaning"][lanes] += LEANING * (traits[:, 2] - state["leaning"][lanes])
        state["last"][lanes] = at
        state["quiet"][lanes] = at
        state["due"][lanes] = np.maximum(now, at + times.lag + self._overdue(lanes))
        place = at + times.delay
        here = place <= self._end[lanes]
        self._out[lanes[here], (place - self._start[lanes])[here]] = 1.0
        lanes = lanes[~here]
        state["pending"][lanes, self._waiting[lanes]] = place[~here]
        self._waiting[lanes] += 1

    def _level(self, lanes: Indices) -> Floats:
        """Height from which on a peak is a beat."""
        noise, signal = (_median(self._state[name][lanes]) for name in ("noise", "signal"))
        level: Floats = noise + self._threshold * (signal - noise)
        return level

    def _is_t_wave(self, lanes: Indices, at: Ints, slope: Floats) -> NDArray[np.bool_]:
        """Whether a peak comes soon after a beat and is less than half as steep."""
        state = self._state
        found: NDArray[np.bool_] = at - state["last"][lanes] < self._times.t_wave
        return found & (slope < 0.5 * state["slope"][lanes])

    def _overdue(self, lanes: Indices) -> Ints:
        """Count the samples without a beat after which one is looked for again."""
        mean = np.add.reduce(self._state["intervals"][lanes], axis=-1) / KEPT
        overdue: Floats = np.minimum(OVERDUE * mean, EARLY * mean + (self._times.delay - self._times.lag))
        return overdue.astype(np.int64)

    def _push(self, name: str, lanes: Indices, values: Array) -> None:
        """Put a value behind the others, the first of which goes."""
        own = self._state[name]
        own[lanes] = np.concatenate([own[lanes, 1:], values[:, np.newaxis]], axis=1)


def _median(values: Floats) -> Floats:
    middle = np.sort(values, axis=-1)[..., KEPT // 2 - 1 : KEPT // 2 + 1]
    median: Floats = (middle[..., 0] + middle[..., 1]) / 2
    return median
