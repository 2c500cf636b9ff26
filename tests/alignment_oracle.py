"""Alignment in time by definition: the whole signal at once, sample by sample and stretch by stretch."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy.interpolate import CubicHermiteSpline

from app.dsp.stage import EXAMPLE_RATE, Floats

NOMINAL = 1000 / EXAMPLE_RATE


def irregular(x: Floats, *, time_channel: int = 0, **_: Any) -> Floats:
    """Make times of a channel: uneven, with gaps, repetitions, and a clock that is set now and then, by the ECG."""
    chance = (np.abs(x[time_channel]) * 977.31 + 0.618034 * np.arange(x.shape[1])) % 1
    intervals = NOMINAL * (0.5 + chance)
    for below, odd in ((0.05, 25.0), (0.03, 60.0), (0.02, 0.0), (0.015, -30.0), (0.008, 1e5), (0.004, -1e5)):
        intervals[chance < below] = odd
    made = x.copy()
    made[time_channel] = np.cumsum(intervals)
    return made


class Counted(NamedTuple):
    """A sample that counts."""

    time: float
    """Since the grid's start."""
    index: int
    apart: bool
    """Whether a stretch begins with it."""


def time_alignment(
    x: Floats,
    *,
    target_rate: float,
    time_channel: int = 0,
    method: str = "linear",
    gap_policy: str = "interpolate",
    gap_threshold: float = 2.0,
    drift_compensation: str = "none",
) -> Floats:
    """Align (channels, n); (channels - 1, any number) comes out."""
    values = np.delete(x, time_channel, axis=0)
    grid = 1000 / target_rate
    runs = _runs(x[time_channel], grid, gap_policy, gap_threshold * NOMINAL, drift_compensation)
    reach = {"linear": 1, "cubic": 2, "sinc": 4}[method]
    found = []
    for number, run in enumerate(runs):
        is_open = number == len(runs) - 1
        times, own = np.array([sample.time for sample in run]), values[:, [sample.index for sample in run]]
        starts = [place for place, sample in enumerate(run) if sample.apart]
        stretches = [slice(start, end) for start, end in zip(starts, [*starts[1:], len(run)], strict=True)]
        found.append(own[:, :1])
        for place, part in enumerate(stretches):
            if place:
                at, last = _grid(grid, times[part.start - 1], times[part.start]), stretches[place - 1]
                found.append(_filled(gap_policy, at, times, own, last, part.start))
            closed = not is_open or place < len(stretches) - 1
            final = part.stop - 1 if closed else max(part.start, part.stop - reach)
            found.append(_between(method, _grid(grid, times[part.start], times[final]), times[part], own[:, part]))
    return np.concatenate(found, axis=1)


def _grid(grid: float, after: float, until: float) -> Floats:
    """Points of the grid after a time and until another, where they are at it if less than 1e-9 of an interval off."""
    numbers = np.arange(np.floor(after / grid) - 1, np.ceil(until / grid) + 2)
    return numbers[(numbers > after / grid + 1e-9) & (numbers <= until / grid + 1e-9)] * grid


def _runs(said: Floats, grid: float, gap_policy: str, gap: float, compensation: str) -> list[list[Counted]]:
    far = 512 * min(NOMINAL, grid)
    runs: list[list[Counted]] = []
    origin = last = interval = 0.0
    line: list[tuple[float, float]] = []  # tick and time of each sample since the last gap
    for index, time in enumerate(said.tolist()):
        ahead = time - origin - last
        is_gap = ahead > gap
        if not runs or abs(ahead) > far or (is_gap and gap_policy == "reset"):
            origin, last, interval, line = time, 0.0, NOMINAL, [(0.0, 0.0)]
            runs.append([Counted(0.0, index, apart=True)])
            continue
        ticks = np.floor(ahead / NOMINAL + 0.5)
        if ahead <= 0 or (compensation != "none" and ticks < 1):
            continue
        if is_gap or compensation == "none":
            last, line = time - origin, [(0.0, time - origin)]
        elif compensation == "pll":
            error = ahead - ticks * interval
            last += ticks * interval + 0.1 * error
            interval += (1 - 0.9**0.5) ** 2 * error
        else:
            line.append((line[-1][0] + ticks, time - origin))
            tick, told = np.array(line).T
            weight = (1 - 1 / 4096) ** np.arange(len(line))[::-1]
            last = float(np.polyfit(tick - tick[-1], told, 1, w=np.sqrt(weight))[1])
        runs[-1].append(Counted(last, index, apart=is_gap and gap_policy != "interpolate"))
    return runs


def _filled(policy: str, at: Floats, times: Floats, values: Floats, before: slice, after: int) -> Floats:
    """Points of a gap, which lies between the end of one stretch and the begin of another."""
    end = before.stop - 1
    begin = max(before.start, end - 1)
    filled = {"zero": np.zeros_like, "hold": np.ones_like}.get(policy, np.zeros_like)(at) * values[:, end : end + 1]
    if policy == "extrapolate":
        slope = (values[:, end] - values[:, begin]) / max(times[end] - times[begin], 1e-3 * NOMINAL)
        filled = values[:, end : end + 1] + slope[:, np.newaxis] * (at - times[end])
    filled[:, at >= times[after]] = values[:, after : after + 1]
    return filled


def _between(method: str, at: Floats, times: Floats, values: Floats) -> Floats:
    """Points of a stretch."""
    if method == "linear":
        return np.stack([np.interp(at, times, own) for own in values])
    places = np.interp(at, times, np.arange(len(times)))
    if len(times) == 1:
        return np.repeat(values, len(at), axis=1)
    around = np.pad(values, ((0, 0), (4, 4)), mode="edge")
    if method == "cubic":
        slopes = (around[:, 5:-3] - around[:, 3:-5]) / 2
        return np.asarray(CubicHermiteSpline(np.arange(len(times)), values, slopes, axis=1)(places))
    total = np.zeros((len(values), len(at)))
    for column, place in enumerate(places):
        left = int(np.ceil(place)) - 1
        offset = place - np.arange(left - 3, left + 5)
        weight = np.sinc(offset) * (0.54 + 0.46 * np.cos(np.pi * offset / 4))
        total[:, column] = around[:, left + 1 : left + 9] @ weight / weight.sum()
    return total
