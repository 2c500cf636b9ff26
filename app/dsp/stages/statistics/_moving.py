"""What moving statistics share: their parameters, and means over the samples seen so far."""

from __future__ import annotations

import msgspec
import numpy as np

from app.dsp.stage import Floats, Indices, Samples
from app.dsp.window import check_window, window_sums


def check_not_negative(threshold: float) -> None:
    """Refuse a ``threshold`` below 0, infinite or no number."""
    if not 0 <= threshold < np.inf:
        raise ValueError(f"threshold = {threshold}: expected a finite number, at least 0")


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters: ``window``, samples that a value is taken over."""

    window: Samples

    def __post_init__(self) -> None:
        check_window(self.window)


def counts(window: int, seen: Indices, samples: int) -> int | Indices:
    """Count the samples in the window at each sample of a call: (rows, 1, samples), or the window where all are full.

    Parameters
    ----------
    window
        Of the stage.
    seen
        (rows,) samples that each row had seen before the call.
    samples
        Of the call.
    """
    if seen.min(initial=window) >= window - 1:
        return window
    so_far: Indices = np.minimum(seen[:, np.newaxis, np.newaxis] + np.arange(1, samples + 1), window)
    return so_far


def means(series: Floats, window: int, seen: Indices) -> Floats:
    """Mean over every window of a joined series whose places before the first sample are 0."""
    sums = window_sums(series, window)
    # In place where the sums are new: of a window of one they are the series itself.
    return np.divide(sums, counts(window, seen, sums.shape[-1]), out=None if window == 1 else sums)
