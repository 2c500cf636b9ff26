"""Samples that were taken at any times, put on a uniform grid.

One channel holds the time of each sample in ms (since 1970, or since anything); the others are put on a grid of
``target_rate`` that starts at the first sample's time and goes on through all blocks. A value comes out as soon as the
samples that it is made from are there: with the sample after its place (linear), one more (cubic) or three more (sinc).

Methods: a line; the Catmull-Rom cubic (Catmull & Rom, 1974); a sinc over eight samples, Hamming-weighted, with weights
that add up to 1. The last two take the samples around as if they lay as far apart as the two next to the place; where
there is none, before the first and beyond gaps that are not interpolated, the nearest stands in for it.

Which samples count: one whose time is not later than that of the one before is dropped. An interval of more than
``gap_threshold`` of the signal's own is a gap. A jump of time by more than `MAX_GAP` intervals of the signal or of the
grid, whichever is shorter, forwards or backwards, starts the grid anew at the sample behind it: a clock was set, and
there is no sense in filling it in, nor in waiting for time to come round again. So do times in another unit, at every
sample, rather than to make a thousand values of each.

A sensor's own clock may jitter. Compensated, a sample's time is that of an even clock which follows the times that
samples say: each is taken to be the nearest whole number of nominal intervals after the one before, and is dropped if
that is none; so jitter must stay within half an interval. What its time is off the predicted one corrects time and
interval

- *regression*: by the gains of recursive least squares, so that they are those of a line through all times since the
  grid's start or the last gap, older ones weighing 1/4096 less for each sample since: for steady clocks;
- *pll*: by a tenth of it and by 0.0026 of it, a critically damped second-order loop from the nominal interval on: it
  follows a clock that drifts.

The interval stays between half and twice the nominal one. At a gap time is taken as the sample says it.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from app.dsp.stage import NEVER, Floats, Indices, Marks, Result, Signal, Stage, State
from app.dsp.stages.rates._between import REACH, Method, weights
from app.dsp.stages.rates._clock import DROPPED, GAP, RESTART, SAMPLE, Clock, Compensation, Ticks, fresh_clock, read

MAX_GAP = 512
MAX_RATIO = 64
MIN_RATIO = 1e-6

GapPolicy = Literal["interpolate", "zero", "hold", "extrapolate", "reset"]

_SAME_PLACE = 1e-9
"""A sample is at a grid point if it is nearer by less, in intervals of the grid."""

_SHORTEST = 1e-3
"""Samples nearer to each other, in nominal intervals, count as that far apart for the line through them."""


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of the alignment.

    Attributes
    ----------
    target_rate
        Of the grid, Hz.
    time_channel
        Index of the channel with the times, in ms.
    method
        How values between samples are made.
    gap_policy
        What becomes of grid points in a gap: as elsewhere, zeros, the last sample, the line through the two last
        samples, or none, as the grid starts anew behind it.
    gap_threshold
        Longest interval that is no gap, in intervals of the signal.
    drift_compensation
        How jitter of the times is taken out.
    """

    target_rate: float
    time_channel: int = 0
    method: Method = "linear"
    gap_policy: GapPolicy = "interpolate"
    gap_threshold: float = 2.0
    drift_compensation: Compensation = "none"

    def __post_init__(self) -> None:
        if not 0 < self.target_rate < float("inf"):
            raise ValueError(f"target_rate = {self.target_rate}: expected Hz above 0")
        if self.time_channel < 0:
            raise ValueError(f"time_channel = {self.time_channel}: expected the index of a channel, from 0")
        if not 1 <= self.gap_threshold <= MAX_GAP:
            raise ValueError(f"gap_threshold = {self.gap_threshold}: expected 1 to {MAX_GAP} intervals of the signal")

    @property
    def kept(self) -> int:
        """Samples that are kept for values to come."""
        return max(2, 2 * REACH[self.method] - 1)


def signal(params: Params, signal: Signal) -> Signal:
    """All channels but that of the times, at the grid's rate."""
    if signal.channels < 2:
        raise ValueError(f"channels = {signal.channels}: expected at least 2, one with times in ms and one with values")
    if params.time_channel >= signal.channels:
        raise ValueError(f"time_channel = {params.time_channel}: expected 0 to {signal.channels - 1}")
    if not MIN_RATIO * signal.sample_rate <= params.target_rate <= MAX_RATIO * signal.sample_rate:
        raise ValueError(
            f"target_rate = {params.target_rate}: expected {MIN_RATIO:g} to {MAX_RATIO} times the rate that comes in,"
            f" {signal.sample_rate} Hz"
        )
    return Signal(params.target_rate, signal.channels - 1)


def _clock(params: Params, signal: Signal) -> Clock:
    nominal = 1000 / signal.sample_rate
    gap, jump = params.gap_threshold * nominal, MAX_GAP * min(nominal, 1000 / params.target_rate)
    forward = min(gap, jump) if params.gap_policy == "reset" else jump
    return Clock(nominal, gap, forward, jump, params.drift_compensation)


def init(params: Params, signal: Signal, rows: int) -> State:
    """State: the grid's start, the last samples with their times since then, and what compensation keeps."""
    return {
        "kept": np.zeros(rows, dtype=np.int64),
        "time": np.zeros((rows, params.kept)),
        "value": np.zeros((rows, signal.channels - 1, params.kept)),
        **fresh_clock(_clock(params, signal), rows),
    }


class _Line(NamedTuple):
    """All samples that count, kept ones before those of the call, one row's after another's."""

    row: Indices
    place: Indices
    """Index along the call's samples; of kept ones below 0."""
    time: Floats
    kind: NDArray[np.uint8]
    begin: Indices
    """Index of the first sample of the stretch that each belongs to: samples between which there is nothing that the
    neighbours of a place do not reach over."""
    end: Indices
    """Index of the stretch's last sample."""
    value: Floats
    """(channels, samples)."""


def _joined(params: Params, state: State, ticks: Ticks, values: Floats) -> _Line:
    kept = params.kept
    is_held = np.arange(kept) >= kept - state["kept"][:, np.newaxis]
    kind = np.concatenate([np.where(is_held, SAMPLE, DROPPED).astype(np.uint8), ticks.kind], axis=-1)
    row, place = np.nonzero(kind != DROPPED)
    time = np.concatenate([state["time"], ticks.time], axis=-1)[row, place]
    value = np.concatenate([state["value"], values], axis=-1)[row, :, place]
    kind = kind[row, place]
    apart = kind == RESTART
    if params.gap_policy != "interpolate":
        apart |= kind == GAP
    apart[np.flatnonzero(np.diff(row, prepend=-1))] = True
    starts = np.flatnonzero(apart)
    ends = np.append(starts[1:], len(row)) - 1
    stretch = np.cumsum(apart) - 1
    return _Line(row, place - kept, time, kind, starts[stretch], ends[stretch], np.ascontiguousarray(value.T))


def step(params: Params, signal: Signal, state: State, x: Floats, marks: Marks) -> Result:
    """Put on the grid; full from the first sample, whose own value is the first one."""
    rows, _, samples = x.shape
    started = state["kept"] > 0
    ticks = read(_clock(params, signal), state, started, state["time"][:, -1], x[:, params.time_channel])
    line = _joined(params, state, ticks, np.delete(x, params.time_channel, axis=1))
    grid = 1000 / params.target_rate

    # A place belongs to the sample at or after it.
    passed = np.floor(line.time / grid + _SAME_PLACE).astype(np.int64)
    counts = np.diff(passed, prepend=0)
    counts[line.kind == RESTART] = 1
    known = _known_at(params, line)
    ready = known < len(line.row)
    ready[ready] = (line.row[known[ready]] == line.row[ready]) & (line.place[known[ready]] >= 0)
    counts[~ready] = 0

    after = np.repeat(np.arange(len(counts)), counts)
    number = np.arange(len(after)) - np.repeat(np.cumsum(counts) - counts, counts)
    output_row = line.row[after]
    lengths = np.bincount(output_row, minlength=rows).astype(np.intp)
    index = np.arange(len(after)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    output = np.zeros((rows, line.value.shape[0], lengths.max(initial=0)))
    output[output_row, :, index] = _values(params, signal, line, after, (passed[after - 1] + 1 + number) * grid).T

    given = np.zeros((rows, samples), dtype=np.intp)
    np.add.at(given, (line.row[ready], line.place[known[ready]]), counts[ready])
    last = np.cumsum(given, axis=-1)[marks.rows, marks.last] - 1
    return Result(
        {**_kept(params, line, rows), **ticks.state}, output, np.ones(len(last), dtype=np.bool_), lengths, last
    )


def _known_at(params: Params, line: _Line) -> Indices:
    """Index of the sample with which the places that belong to each sample can be computed."""
    own = np.arange(len(line.row))
    known = np.minimum(own - 1 + REACH[params.method], line.end + 1)
    return np.where(line.begin == own, own, known)


def _values(params: Params, signal: Signal, line: _Line, after: Indices, places: Floats) -> Floats:
    """(channels, n) values at places in time, which belong to the samples ``after``."""
    before, first = after - 1, line.kind[after] == RESTART
    span = np.where(first, 1.0, line.time[after] - line.time[before])
    share = np.where(first, 1.0, np.clip((places - line.time[before]) / span, 0.0, 1.0))
    behind_gap = (line.kind[after] == GAP) & (params.gap_policy != "interpolate")
    low, high = line.begin[np.where(first | behind_gap, after, before)], line.end[after]
    reach = REACH[params.method]
    total = np.zeros((len(line.value), len(after)))
    for offset, weight in enumerate(weights(params.method, share), 1 - reach):
        total += weight * line.value[:, np.clip(before + offset, low, high)]
    inside = np.flatnonzero(behind_gap & (share < 1))
    if len(inside):
        passed = places[inside] - line.time[before[inside]]
        total[:, inside] = _filling(params, signal, line, before[inside], passed)
    return total


def _filling(params: Params, signal: Signal, line: _Line, before: Indices, passed: Floats) -> Floats:
    """Values in a gap, ``passed`` ms after the last samples ``before`` it."""
    last = line.value[:, before]
    if params.gap_policy == "zero":
        return np.zeros_like(last)
    if params.gap_policy == "hold":
        return last
    previous = np.maximum(before - 1, line.begin[before])
    interval = np.maximum(line.time[before] - line.time[previous], _SHORTEST * 1000 / signal.sample_rate)
    return last + (last - line.value[:, previous]) * (passed / interval)


def _kept(params: Params, line: _Line, rows: int) -> State:
    """Keep the last samples of each row's last stretch."""
    kept, channels = params.kept, len(line.value)
    final = np.searchsorted(line.row, np.arange(rows), side="right") - 1
    index = final[:, np.newaxis] + np.arange(1 - kept, 1)
    begin = line.begin[final]
    is_own = index >= begin[:, np.newaxis]
    index = np.maximum(index, 0)
    value = np.where(is_own, line.value[:, index], 0.0)
    return {
        "kept": np.minimum(kept, final + 1 - begin).astype(np.int64),
        "time": np.where(is_own, line.time[index], 0.0),
        "value": np.ascontiguousarray(value.transpose(1, 0, 2)).reshape(rows, channels, kept),
    }


def settle(params: Params, signal: Signal) -> int:
    """Never: the grid's start stays."""
    return NEVER


STAGE = Stage(
    Params,
    init,
    step,
    settle,
    examples=(
        {"target_rate": 250.0},
        {
            "target_rate": 100.0,
            "method": "cubic",
            "gap_policy": "hold",
            "gap_threshold": 1.5,
            "drift_compensation": "pll",
        },
        {
            "target_rate": 400.0,
            "time_channel": 1,
            "method": "sinc",
            "gap_policy": "extrapolate",
            "drift_compensation": "regression",
        },
    ),
    oracle="numpy.interp, scipy's CubicHermiteSpline and the sums of the sinc, stretch by stretch",
    signal=signal,
    mixes=True,
    changes_pace=True,
)
