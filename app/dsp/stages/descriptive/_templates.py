"""What sample and approximate entropy share: runs of ``m`` values, the templates, and which of them are alike."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from app.dsp.stage import Floats, Samples
from app.dsp.stages.descriptive._windows import centred, scaled
from app.dsp.window import check_window

MAX_WINDOW = 2048
"""Each mark compares all pairs of the window's values."""

MAX_M = 10
MAX_R = 10.0


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of sample and of approximate entropy.

    Attributes
    ----------
    window
        Values the entropy is of; its cost at a mark grows with their square.
    m
        Values of a template.
    r
        Templates are alike where no value is further from the other's than this share of the window's standard
        deviation.
    """

    window: Samples
    m: int = 2
    r: float = 0.2

    def __post_init__(self) -> None:
        if not 1 <= self.m <= MAX_M:
            raise ValueError(f"m = {self.m}: expected 1 to {MAX_M}")
        check_window(self.window, self.m + 2, f"m = {self.m} takes two templates of {self.m + 1}", MAX_WINDOW)
        if not 0 < self.r <= MAX_R:
            raise ValueError(f"r = {self.r}: expected above 0, at most {MAX_R}")


class Prepared(NamedTuple):
    """Series to compare templates in."""

    x: Floats
    """(n, series) values: time comes first, so that each comparison is of whole stretches of memory."""
    tolerance: Floats
    """(series,) greatest distance of what is alike; NaN where a value is not finite."""


def prepare(x: Floats, r: float) -> Prepared:
    """Lay out (..., n) values, with a tolerance of ``r`` times their population standard deviation."""
    values = scaled(x.reshape(-1, x.shape[-1]))[0]
    variance = np.add.reduce(np.square(centred(values)), axis=-1) / x.shape[-1]
    return Prepared(np.ascontiguousarray(values.T), r * np.sqrt(variance))


class Alike(NamedTuple):
    """Which templates are alike to the one ``lag`` later, by where they begin; 1 where they are."""

    lag: int
    of_m: NDArray[np.uint8]
    """(n - m + 1 - lag, series), of ``m`` values."""
    of_more: NDArray[np.uint8]
    """(n - m - lag, series), of ``m + 1`` values."""


def alike(prepared: Prepared, m: int) -> Iterator[Alike]:
    """Compare each template with all later ones, by how much later they begin."""
    x, tolerance = prepared
    n = len(x)
    room = np.empty_like(x)
    for lag in range(1, n - m + 1):
        distance = np.subtract(x[lag:], x[:-lag], out=room[lag:])
        near = np.abs(distance, out=distance) <= tolerance
        of_m = near[: n - m + 1 - lag]
        for place in range(1, m):
            of_m = of_m & near[place : place + n - m + 1 - lag]
        of_more = of_m[:-1] & near[m:]
        yield Alike(lag, of_m.view(np.uint8), of_more.view(np.uint8))


def no_counts(templates: int, prepared: Prepared) -> NDArray[np.unsignedinteger]:
    """Room for each template to count others, in the narrowest type that holds the window's length."""
    n, series = prepared.x.shape
    return np.zeros((templates, series), dtype=np.min_scalar_type(n))
