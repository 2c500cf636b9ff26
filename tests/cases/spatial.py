"""Cases of stages that combine, choose or copy channels."""

from __future__ import annotations

from typing import Any

import numpy as np

from app.dsp.stage import Floats
from tests.stage_cases import StageCase

Matrix = tuple[tuple[float, ...], ...]


def projection(x: Floats, *, matrix: Matrix, mean: tuple[float, ...] = ()) -> Floats:
    """One matrix product over the whole signal."""
    return np.array(matrix) @ (x - np.array(mean or [0.0] * len(x))[:, np.newaxis])


def gsc(x: Floats, *, steering: tuple[float, ...], blocking: Matrix) -> Floats:
    """The sum of the blocking outputs, and the beam."""
    return np.stack([(np.array(blocking) @ x).sum(axis=0), np.array(steering) @ x])


EYE = ((1.0, 0.0), (0.0, 1.0))

PROJECTION_REFUSED: list[tuple[dict[str, Any], str]] = [
    ({}, "missing required field `matrix`"),
    ({"matrix": ()}, "matrix = 0 rows: expected 1 to 256"),
    ({"matrix": ((1.0,),) * 257}, "matrix = 257 rows: expected 1 to 256"),
    ({"matrix": ((),)}, "matrix: row 0 = 0 weights: expected 1 to 256"),
    ({"matrix": ((1.0, 2.0), (1.0,))}, "matrix: row 1 = 1 weights: expected 2, as row 0"),
    ({"matrix": ((1.0, float("nan")),)}, "matrix: row 0 = [1.0, nan]: expected finite numbers"),
    ({"matrix": EYE, "mean": (1.0,)}, "mean = 1 values: expected 2, as weights in a row"),
    ({"matrix": EYE, "mean": (0.0, float("inf"))}, "mean = [0.0, inf]: expected finite numbers"),
    ({"matrix": ((1.0, 0.0, 0.0),)}, "3 weights a row: expected 2, one for each channel that goes in"),
    ({"matrix": EYE, "components": 1}, "unknown field `components`"),
]

PROJECTION = StageCase(
    refused=PROJECTION_REFUSED,
    oracle=projection,
    warm_up=lambda **_: 1,
    atol=1e-12,
    channels=2,
)

CASES = {
    "channel_merge": StageCase(
        refused=[
            ({}, "missing required field `groups`"),
            ({"groups": ()}, "groups = 0 groups: expected 1 to 256"),
            ({"groups": ((0,), ())}, "groups: group 1 = []: expected channels' numbers from 0 on"),
            ({"groups": ((0, -1),)}, "groups: group 0 = [0, -1]: expected channels' numbers from 0 on"),
            ({"groups": ((0, 0),)}, "groups: group 0 = [0, 0]: expected every channel once"),
            ({"groups": ((0,), (0, 2))}, "groups: group 1 = [0, 2]: expected numbers below 2, the channels"),
            ({"groups": ((0, 0.5),)}, "Expected `int`, got `float` - at `$.groups[0][1]`"),
        ],
        oracle=lambda x, *, groups: np.stack([x[list(group)].mean(axis=0) for group in groups]),
        warm_up=lambda **_: 1,
        atol=1e-12,
        channels=2,
    ),
    "channel_select": StageCase(
        refused=[
            ({}, "missing required field `channels`"),
            ({"channels": ()}, "channels = []: expected 1 to 256 numbers"),
            ({"channels": (0, -1)}, "channels = [0, -1]: expected numbers from 0 on"),
            ({"channels": (0, 2)}, "channels = [0, 2]: expected numbers below 2, the channels"),
            ({"channels": (0,), "first": 1}, "unknown field `first`"),
        ],
        oracle=lambda x, *, channels: x[list(channels)],
        warm_up=lambda **_: 1,
        rtol=0.0,
        channels=2,
    ),
    "csp": PROJECTION,
    "gsc": StageCase(
        refused=[
            ({"steering": (0.5, 0.5)}, "missing required field `blocking`"),
            ({"steering": (), "blocking": ((),)}, "steering = 0 weights: expected 1 to 256"),
            ({"steering": (0.5, 0.5), "blocking": ()}, "blocking = 0 rows: expected 1 to 256"),
            (
                {"steering": (0.5, 0.5), "blocking": ((1.0,),)},
                "blocking: row 0 = 1 weights: expected 2, as in steering",
            ),
            (
                {"steering": (0.5, 0.5), "blocking": ((1.0, float("inf")),)},
                "blocking: row 0 = [1.0, inf]: expected finite",
            ),
            ({"steering": (float("nan"), 0.5), "blocking": EYE}, "steering = [nan, 0.5]: expected finite numbers"),
            ({"steering": (1.0,), "blocking": ((1.0,),)}, "1 weights a row: expected 2, one for each channel"),
        ],
        oracle=gsc,
        warm_up=lambda **_: 1,
        atol=1e-12,
        channels=2,
    ),
    "ica": PROJECTION,
    "pca": PROJECTION,
    "whitening": PROJECTION,
}
