"""Kalman filter of each channel's level (Bar-Shalom, Li & Kirubarajan, *Estimation with Applications*, 2001, 5, 6.2).

A sample is the level and noise of variance ``measurement_noise``. The level wanders, in continuous time, sampled every
``dt = 1 / sample rate`` seconds; the times of blocks play no part.

- *level*: a random walk; its variance grows by ``process_noise`` a second;
- *trend*: the level goes on at a speed, and the speed is a random walk, whose variance grows by ``process_noise``
  (unit squared per s cubed) a second: ``Q = process_noise * [[dt^3 / 3, dt^2 / 2], [dt^2 / 2, dt]]``.

What comes out is the level given all samples so far. The first sample is the first level, with its noise's variance;
the speed is 0 then, with that variance over ``dt`` squared. With variances in units of the measurement's, and speed per
sample, s = P00 + 1 after prediction::

    K = [P00, P01] / s;  level += K0 * (x - level);  speed += K1 * (x - level);  P -= K K' * s
"""

from __future__ import annotations

import cmath
import math
from typing import Literal

import msgspec
import numpy as np

from app.dsp.stage import NEVER, SETTLED, Floats, Marks, Result, Signal, Stage, State


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of the filter.

    Attributes
    ----------
    process_noise
        By how much the level's variance grows in a second (level), or the speed's (trend); 0 for none.
    measurement_noise
        Variance of a sample about the level, in its unit squared.
    model
        Whether the level wanders, or its speed.
    """

    process_noise: float
    measurement_noise: float
    model: Literal["level", "trend"] = "level"

    def __post_init__(self) -> None:
        if not 0 <= self.process_noise <= 1e30:
            raise ValueError(f"process_noise = {self.process_noise}: expected 0 to 1e30")
        if not 1e-30 <= self.measurement_noise <= 1e30:
            raise ValueError(f"measurement_noise = {self.measurement_noise}: expected 1e-30 to 1e30")


def wander(params: Params, signal: Signal) -> float:
    """Give what an interval adds to the variance of level, or of speed per sample, over the measurement's."""
    interval = 1 / signal.sample_rate
    unit = interval if params.model == "level" else interval**3
    return params.process_noise * unit / params.measurement_noise


def init(params: Params, signal: Signal, rows: int) -> State:
    """State: whether a row has begun, level and speed of its channels, and their variances P00, P01 and P11."""
    shape = (rows, signal.channels)
    state: State = {"begun": np.zeros(rows, dtype=np.uint8), "level": np.zeros(shape)}
    if params.model == "level":
        return {**state, "variance": np.ones((rows, 1))}
    variance = np.zeros((rows, 3))
    variance[:] = 1.0, 0.0, 1.0
    return {**state, "speed": np.zeros(shape), "variance": variance}


def step(params: Params, signal: Signal, state: State, x: Floats, marks: Marks) -> Result:
    """Filter, sample by sample; the series is full from its first sample."""
    added, first = wander(params, signal), state["begun"] == 0
    level, variance = np.where(first[:, np.newaxis], x[..., 0], state["level"]), state["variance"]
    speed = state.get("speed")
    output = np.empty_like(x)
    for n in range(x.shape[-1]):
        variance, gain = _updated(params, variance, added)
        if n == 0:
            gain = np.where(first[:, np.newaxis], 0.0, gain)
            variance = np.where(first[:, np.newaxis], state["variance"], variance)
        if speed is not None:
            level = level + speed
        error = x[..., n] - level
        level = level + gain[:, :1] * error
        if speed is not None:
            speed = speed + gain[:, 1:] * error
        output[..., n] = level
    after: State = {"begun": np.ones_like(state["begun"]), "level": level, "variance": variance}
    if speed is not None:
        after["speed"] = speed
    return Result(after, output, np.ones(len(marks.rows), dtype=np.bool_))


def _updated(params: Params, variance: Floats, added: float) -> tuple[Floats, Floats]:
    """Variances after the next sample (rows, 1 or 3), and its gains (rows, 1 or 2)."""
    if params.model == "level":
        predicted = variance + added
        gain = predicted / (predicted + 1)
        return gain, gain
    p00, p01, p11 = variance.T
    p00 = p00 + 2 * p01 + p11 + added / 3
    p01 = p01 + p11 + added / 2
    p11 = p11 + added
    gain = np.stack([p00, p01], axis=-1) / (p00 + 1)[:, np.newaxis]
    return np.stack([gain[:, 0], gain[:, 1], p11 - p01 * gain[:, 1]], axis=-1), gain


def settle(params: Params, signal: Signal) -> int:
    """Until what the slowest pole of the filter rings on has died away, once its gain is steady.

    The poles z are the roots within the unit circle of the spectrum of a sample's innovation, where with
    ``s = z + 1 / z - 2`` and w of `wander`: ``s - w`` (level), ``s^2 + w * (s + 6) / 6`` (trend).
    """
    added = wander(params, signal)
    roots: list[complex] = [added]
    if params.model == "trend":
        root = cmath.sqrt(added * added / 36 - 4 * added)
        roots = [(-added / 6 + root) / 2, (-added / 6 - root) / 2]
    spread = [cmath.sqrt(s + s * s / 4) for s in roots]
    radius = min(max(abs(1 + s / 2 + w), abs(1 + s / 2 - w)) for s, w in zip(roots, spread, strict=True))
    return 1 + math.ceil(-math.log(SETTLED) / math.log(radius)) if radius > 1 else NEVER


STAGE = Stage(
    Params,
    init,
    step,
    settle,
    examples=(
        {"process_noise": 0.5, "measurement_noise": 0.01},
        {"process_noise": 40.0, "measurement_noise": 0.01, "model": "trend"},
        {"process_noise": 0.0, "measurement_noise": 1.0, "model": "trend"},
    ),
    oracle="the filter in matrices, as textbooks give it",
)
