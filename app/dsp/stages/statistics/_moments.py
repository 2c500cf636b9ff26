"""Mean and squared deviations of every window, in log2(window) steps and without a large number to cancel.

The moments of a run of values are put together from those of its two halves (Chan, Golub & LeVeque, *The American
Statistician* 37, 1983)::

    d = mean(b) - mean(a);  mean = mean(b) - d na / (na + nb);  spread = spread(a) + spread(b) + d**2 na nb / (na + nb)

and a run's mean is kept as what it differs from the run's newest value, so that only differences between values enter:
an offset, however large, is gone before anything is squared, and a constant has a spread of exactly 0. A result is made
of its own window's values alone, as by `app.dsp.window.window_sums`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from app.dsp.stage import Floats, Indices


class Moments(NamedTuple):
    """Of runs of values."""

    offset: Floats
    """What the mean lies above the run's newest value."""
    spread: Floats
    """Sum of the squared deviations from the mean."""


def window_moments(series: Floats, window: int, seen: Indices) -> Moments:
    """Moments of the samples seen in every window.

    Parameters
    ----------
    series
        (rows, channels, window - 1 + samples) joined to the tail; anything finite before the first sample.
    window
        Samples of a window.
    seen
        (rows,) samples that each row had seen before the call.

    Returns
    -------
    Moments, (rows, channels, samples) each.
    """
    absent = window - 1 - np.minimum(seen, window - 1)[:, np.newaxis, np.newaxis]
    warming = bool(absent.any())

    def count(width: int, start: int, runs: int) -> Any:
        """How many samples there are in runs of a width, the first of which begins at ``start``."""
        if not warming:
            return float(width)
        return np.clip(np.arange(start, start + runs) + float(width) - absent, 0.0, width)

    samples = series.shape[-1] - window + 1
    total: Moments | None = None
    partial, width, begun = Moments(np.zeros_like(series), np.zeros_like(series)), 1, 0
    while width <= window:
        if window & width:
            piece = Moments(*(part[..., begun : begun + samples] for part in partial))
            if total is not None:
                rise = _rise(series, begun - 1, begun + width - 1, samples)
                total = _joined(total, piece, count(begun, 0, samples), count(width, begun, samples), rise)
            else:
                total = piece
            begun += width
        if 2 * width <= window:
            runs = partial.offset.shape[-1] - width
            older = Moments(*(part[..., :-width] for part in partial))
            newer = Moments(*(part[..., width:] for part in partial))
            rise = _rise(series, width - 1, 2 * width - 1, runs)
            partial = _joined(older, newer, count(width, 0, runs), count(width, width, runs), rise)
        width *= 2
    if total is None:
        raise ValueError(f"window = {window}: expected at least 1")
    return total


def _rise(series: Floats, older: int, newer: int, runs: int) -> Floats:
    rise: Floats = series[..., newer : newer + runs] - series[..., older : older + runs]
    return rise


def _joined(a: Moments, b: Moments, in_a: Any, in_b: Any, rise: Floats) -> Moments:
    """Put neighbours together; ``rise`` is what the newest value of ``b`` lies above that of ``a``, and is used up."""
    share = in_a / np.maximum(in_a + in_b, 1.0)  # where nothing has been seen it is 0
    delta = rise
    delta += b.offset
    delta -= a.offset
    offset = b.offset - delta * share
    np.square(delta, out=delta)
    delta *= share * in_b
    delta += a.spread
    delta += b.spread
    return Moments(offset, delta)
