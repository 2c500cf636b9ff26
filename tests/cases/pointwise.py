"""Cases of stages that take a sample at a time, or it and its neighbours."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.dsp.stage import Floats
from tests.stage_cases import StageCase, each_channel

Series = NDArray[Any]


def integrator(x: Series, *, alpha: float = 0.99) -> Floats:
    if alpha == 1:
        return np.array([math.fsum(x[: n + 1]) for n in range(len(x))])
    values, last = [], 0.0
    for sample in x:
        last = sample + alpha * last
        values.append(last)
    return np.array(values)


def peak_detection(x: Series, *, threshold: float, min_distance: int = 1) -> Floats:
    marks, last = np.zeros(len(x)), -math.inf
    for n in range(1, len(x) - 1):
        if x[n - 1] < x[n] > x[n + 1] and x[n] >= threshold and n - last >= min_distance:
            marks[n + 1], last = 1, n
    return marks


def refused_numbers(name: str, text: str, *values: float) -> list[tuple[dict[str, Any], str]]:
    return [({name: value}, f"{name} = {value}: expected {text}") for value in (*values, math.inf, math.nan)]


CASES = {
    "amplify": StageCase(
        refused=[
            *refused_numbers("gain", "a finite number above 0", 0.0, -1.0),
            ({"gian": 2.0}, "unknown field `gian`"),
        ],
        oracle=each_channel(lambda x, *, gain=1.0: np.array([gain * sample for sample in x.tolist()])),
        warm_up=lambda **_: 1,
    ),
    "clip_detection": StageCase(
        refused=[
            *refused_numbers("threshold", "a finite number above 0", 0.0, -1.0),
            ({}, "missing required field `threshold`"),
        ],
        oracle=each_channel(lambda x, *, threshold: np.array([float(abs(sample) >= threshold) for sample in x])),
        warm_up=lambda **_: 1,
    ),
    "differentiator": StageCase(
        refused=[({"per_second": True}, "unknown field `per_second`")],
        oracle=each_channel(lambda x: np.ediff1d(x, to_begin=x[0])),
        warm_up=lambda: 2,
    ),
    "integrator": StageCase(
        refused=[
            *refused_numbers("alpha", "above 0, up to 1", 0.0, -0.5, 1.01),
            ({"alfa": 0.5}, "unknown field `alfa`"),
        ],
        oracle=each_channel(integrator),
        warm_up=lambda **_: 1,
        atol=1e-15,
    ),
    "peak_detection": StageCase(
        refused=[
            *refused_numbers("threshold", "a finite number, at least 0", -0.1),
            ({"threshold": 0.1, "min_distance": 0}, "min_distance = 0: expected 1 to "),
            ({"threshold": 0.1, "min_distance": 2**50}, "min_distance = 1125899906842624: expected 1 to "),
            ({"threshold": 0.1, "min_distance": 1.5}, "Expected `int`, got `float` - at `$.min_distance`"),
            ({"threshold": 0.1, "window": 3}, "unknown field `window`"),
            ({}, "missing required field `threshold`"),
        ],
        oracle=each_channel(peak_detection),
        warm_up=lambda **_: 3,
    ),
    "rectify": StageCase(
        refused=[
            ({"mode": "double"}, "Invalid enum value 'double' - at `$.mode`"),
            ({"threshold": 1.0}, "unknown field `threshold`"),
        ],
        oracle=lambda x, *, mode="full": np.abs(x) if mode == "full" else np.maximum(x, 0),
        warm_up=lambda **_: 1,
    ),
    "square": StageCase(
        refused=[({"power": 2}, "unknown field `power`")],
        oracle=each_channel(lambda x: np.array([sample * sample for sample in x.tolist()])),
        warm_up=lambda: 1,
    ),
}
