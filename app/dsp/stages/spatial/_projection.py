"""Weighted sums of a frame's channels, ``y = M (x - mean)``: what stages with a fitted matrix share.

A frame is the channels' samples of one instant. Channels are added one after another, each by one operation over all
frames, so that a frame's bits do not depend on how many are beside it, as those of a matrix product do.
"""

from __future__ import annotations

import math
from functools import lru_cache

import msgspec
import numpy as np

from app.dsp.stage import Floats, Marks, Result, Signal, Stage, State

MAX_CHANNELS = 256


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters, as a trainer of `app.dsp.trainers` fits them.

    Attributes
    ----------
    matrix
        M: a row of weights for each channel that comes out, in each a weight for every channel that goes in.
    mean
        What is taken from each channel first; nothing if left out.
    """

    matrix: tuple[tuple[float, ...], ...]
    mean: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= len(self.matrix) <= MAX_CHANNELS:
            raise ValueError(f"matrix = {len(self.matrix)} rows: expected 1 to {MAX_CHANNELS}")
        for number, row in enumerate(self.matrix):
            check_weights(f"matrix: row {number}", row)
            if len(row) != len(self.matrix[0]):
                raise ValueError(f"matrix: row {number} = {len(row)} weights: expected {len(self.matrix[0])}, as row 0")
        if self.mean:
            check_weights("mean", self.mean)
            if len(self.mean) != len(self.matrix[0]):
                raise ValueError(f"mean = {len(self.mean)} values: expected {len(self.matrix[0])}, as weights in a row")


def check_weights(name: str, weights: tuple[float, ...]) -> None:
    """Check one row of weights.

    Raises
    ------
    ValueError
        Naming it, its value and what is expected.
    """
    if not 1 <= len(weights) <= MAX_CHANNELS:
        raise ValueError(f"{name} = {len(weights)} weights: expected 1 to {MAX_CHANNELS}")
    if not all(map(math.isfinite, weights)):
        raise ValueError(f"{name} = {list(weights)}: expected finite numbers")


def check_channels(weights: int, signal: Signal) -> None:
    """Check that there is a weight for each channel.

    Raises
    ------
    ValueError
        There are fewer or more.
    """
    if weights != signal.channels:
        raise ValueError(f"{weights} weights a row: expected {signal.channels}, one for each channel that goes in")


def combined(matrix: Floats, x: Floats) -> Floats:
    """Weighted sums over channels.

    Parameters
    ----------
    matrix
        (sums, channels) weights.
    x
        (rows, channels, samples).

    Returns
    -------
    (rows, sums, samples).
    """
    total: Floats = matrix[:, :1] * x[:, :1]
    product = np.empty_like(total)
    for channel in range(1, x.shape[1]):
        np.multiply(matrix[:, channel, np.newaxis], x[:, channel : channel + 1], out=product)
        total += product
    return total


def init(params: Params, signal: Signal, rows: int) -> State:
    """No state: a frame is all that is needed."""
    check_channels(len(params.matrix[0]), signal)
    return {}


def step(params: Params, signal: Signal, state: State, x: Floats, marks: Marks) -> Result:
    """Project every frame; full from the first."""
    matrix, mean = _arrays(params)
    return Result(state, combined(matrix, x - mean), np.ones(len(marks.rows), dtype=np.bool_))


@lru_cache
def _arrays(params: Params) -> tuple[Floats, Floats]:
    """Matrix (sums, channels), and mean (channels, 1)."""
    matrix = np.array(params.matrix, dtype=np.float64)
    return matrix, np.array(params.mean or np.zeros(matrix.shape[1]), dtype=np.float64)[:, np.newaxis]


def settle(params: Params, signal: Signal) -> int:
    """At once."""
    return 1


def signal(params: Params, signal: Signal) -> Signal:
    """As many channels as the matrix has rows."""
    return signal._replace(channels=len(params.matrix))


def projection(*examples: dict[str, object]) -> Stage:
    """Make a stage of this kind."""
    return Stage(
        Params,
        init,
        step,
        settle,
        examples=examples,
        oracle="numpy's matrix product, matrix @ (x - mean)",
        signal=signal,
        mixes=True,
    )
