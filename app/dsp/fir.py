"""Finite impulse responses over joined series, each output summed in an order that depends on its own window alone.

`scipy.signal.lfilter` with a single denominator coefficient convolves the samples of a call as one, and its last bits
depend on how many they are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from app.dsp.partitioned import Partitioned
from app.dsp.stage import Floats, Indices, Signal, State

MAX_TAPS = 16_384
"""Of a response that a stage may have."""

MOST_DIRECT = 128
"""Taps up to which products are summed one by one; longer responses are worked on by FFT."""


def filtered(h: Floats, series: Floats, spacing: int = 1) -> Floats:
    """``y[n] = sum(h[k] * x[n - spacing * k])``, where ``series`` has the samples before the first one too.

    Parameters
    ----------
    h
        (taps,) coefficients.
    series
        (..., spacing * (taps - 1) + n) values.
    spacing
        Samples from one coefficient to the next.

    Returns
    -------
    (..., n) outputs.
    """
    before = spacing * (len(h) - 1)
    count = series.shape[-1] - before
    total: Floats = h[0] * series[..., before:]
    product = np.empty_like(total)
    for k in range(1, len(h)):
        start = before - spacing * k
        np.multiply(series[..., start : start + count], h[k], out=product)
        total += product
    return total


def filtered_at(h: Floats, series: Floats, at: Indices) -> Floats:
    """As `filtered`, at some places only.

    Parameters
    ----------
    h
        (taps,) coefficients.
    series
        (rows, channels, taps - 1 + n) values.
    at
        (rows, kept) places among the n.

    Returns
    -------
    (rows, channels, kept) outputs.
    """
    windows = sliding_window_view(series, len(h), axis=-1)
    rows = np.arange(len(series))[:, np.newaxis]
    products = windows[rows, :, at] * h[::-1]  # (rows, kept, channels, taps), contiguous
    return np.ascontiguousarray(np.add.reduce(products, axis=-1).transpose(0, 2, 1))


@dataclass(frozen=True, eq=False)
class Direct:
    """A short response to convolve streams with.

    Parameters
    ----------
    taps
        (taps,) its coefficients.
    """

    taps: Floats

    def at_rest(self, signal: Signal, rows: int) -> State:
        """State: the last ``taps - 1`` samples."""
        return {"tail": np.zeros((rows, signal.channels, len(self.taps) - 1))}

    def run(self, state: State, x: Floats) -> tuple[State, Floats]:
        """Convolve samples ``x`` (rows, channels, samples); gives the state that follows, and as many outputs."""
        series = np.concatenate([state["tail"], x], axis=-1)
        return {"tail": series[..., x.shape[-1] :]}, filtered(self.taps, series)


Convolver = Direct | Partitioned


def convolver(taps: Floats) -> Convolver:
    """Choose how streams are convolved with a response.

    Parameters
    ----------
    taps
        (taps,) its coefficients.
    """
    return Direct(taps) if len(taps) <= MOST_DIRECT else Partitioned(taps)
