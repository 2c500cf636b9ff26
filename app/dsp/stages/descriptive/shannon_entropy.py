"""Shannon entropy of the amplitudes in the last ``window`` values, in bits (Shannon, *Bell Syst. Tech. J.* 27, 1948).

``-sum(p * log2(p))`` over the shares of a histogram of ``bins`` equal bins between the window's least and greatest
value, each of which has its lower edge but not its upper one; the last has both, as in `numpy.histogram`. At most
``log2(min(bins, window))``; 0 where all values are equal. It knows nothing of the values' order or scale.
"""

from __future__ import annotations

from functools import lru_cache

import msgspec
import numpy as np

from app.dsp.stage import Floats, Indices, Marks, Result, Samples, Signal, Stage, State
from app.dsp.stages.descriptive._windows import measured, scaled
from app.dsp.window import check_window, init, settle

MAX_BINS = 4096


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of the entropy.

    Attributes
    ----------
    window
        Values the histogram is of.
    bins
        Bins of the histogram.
    """

    window: Samples
    bins: int = 256

    def __post_init__(self) -> None:
        check_window(self.window, 2, "one value has no distribution")
        if not 2 <= self.bins <= MAX_BINS:
            raise ValueError(f"bins = {self.bins}: expected 2 to {MAX_BINS}")


def step(params: Params, signal: Signal, state: State, x: Floats, marks: Marks) -> Result:
    """Measure the window that ends at each mark."""
    bins = params.bins
    return measured(params.window, state, x, marks, lambda own: shannon_entropy(own, bins)[..., np.newaxis], bins)


def shannon_entropy(x: Floats, bins: int = 256) -> Floats:
    """Entropy in bits along the last axis of (..., n) values: (...,)."""
    values = scaled(x.reshape(-1, x.shape[-1]))[0]
    low, high = (reduce(values, axis=-1, keepdims=True) for reduce in (np.minimum.reduce, np.maximum.reduce))
    span = high - low
    counts = _counts(_binned(values, low, span, bins), bins)
    entropy = np.add.reduce(_terms(x.shape[-1])[counts], axis=-1)
    known: Floats = np.where(np.isfinite(span[:, 0]), entropy, np.nan)
    return known.reshape(x.shape[:-1])


def _binned(x: Floats, low: Floats, span: Floats, bins: int) -> Indices:
    """Bin of each value: the last whose lower edge, ``low + number * span / bins`` as rounded, is not above it."""
    width = span / bins
    share = np.divide(x - low, span, out=np.zeros_like(x), where=np.isfinite(span) & (span > 0))
    number: Floats = np.minimum(np.floor(share * bins), bins - 1)
    # A quotient may be rounded over an edge that it only touches.
    number -= x < low + number * width
    number += (x >= low + (number + 1) * width) & (number < bins - 1)
    return number.astype(np.intp)


def _counts(number: Indices, bins: int) -> Indices:
    rows = len(number)
    places = number + bins * np.arange(rows)[:, np.newaxis]
    counts: Indices = np.bincount(places.ravel(), minlength=rows * bins).reshape(rows, bins)
    return counts


@lru_cache
def _terms(window: int) -> Floats:
    """``-p * log2(p)`` for each count of 0 to ``window`` values."""
    share = np.arange(1, window + 1) / window
    terms: Floats = np.concatenate([[0.0], 0.0 - share * np.log2(share)])
    return terms


STAGE = Stage(
    Params,
    init,
    step,
    settle,
    examples=({"window": 64, "bins": 16}, {"window": 40}),
    oracle="the definition with numpy.histogram, window by window",
    outputs=("value",),
)
