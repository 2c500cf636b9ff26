"""Least-squares line through the last ``k = min(n + 1, window)`` samples, at abscissas 0 (the oldest) to ``k - 1``.

With ``u = i - (k - 1) / 2``, whose sum is 0::

    slope = sum(u x) / sum(u**2);  intercept = mean(x) - slope (k - 1) / 2;  prediction = mean(x) + slope (k - 1) / 2

so the slope is per sample, the intercept the line's value at the oldest sample and the prediction that at the newest;
the residual is the newest sample less the prediction. At the stream's first sample, of which there is no line, all are
0.
"""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from app.dsp.stage import Floats, Indices, Marks, Result, Samples, Signal, Stage, State
from app.dsp.window import check_window, init, join, settle

OUTPUTS = ("slope", "intercept", "residual", "prediction")

AT_ONCE = 1 << 15
"""Values of windows that are looked at together: enough for numpy's pace, few enough for the processor's cache."""


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters: ``window``, samples the line is drawn through."""

    window: Samples

    def __post_init__(self) -> None:
        check_window(self.window, 2)


def step(params: Params, signal: Signal, state: State, x: Floats, marks: Marks) -> Result:
    """Draw the line that ends at each mark."""
    joined = join(params.window, state, x, marks)
    windows = sliding_window_view(joined.series, params.window, axis=-1)
    seen = np.minimum(state["count"][marks.rows] + marks.last + 1, params.window)
    output = np.zeros((len(seen), signal.channels, len(OUTPUTS)))
    most = max(1, AT_ONCE // (params.window * signal.channels))
    for start in range(0, len(seen), most):
        part = slice(start, start + most)
        output[part] = lines(windows[marks.rows[part], :, marks.last[part]], seen[part])
    return Result(joined.state, output, joined.full)


def lines(x: Floats, seen: Indices) -> Floats:
    """Fit windows.

    Parameters
    ----------
    x
        (windows, channels, n) values, whose ``seen`` (windows,) last ones are samples.

    Returns
    -------
    (windows, channels, 4) values, in the order of `OUTPUTS`.
    """
    count = seen[:, np.newaxis]
    half = (count - 1) / 2
    newest = x[..., -1]
    # What the samples lie above the newest: an offset is gone before anything is summed.
    above = np.subtract(x, newest[..., np.newaxis], order="C")
    place = np.arange(x.shape[-1]) - (x.shape[-1] - count)
    u = place - half
    if seen.min() < x.shape[-1]:
        there = place >= 0
        above, u = np.where(there[:, np.newaxis], above, 0.0), np.where(there, u, 0.0)
    mean = np.add.reduce(above, axis=-1) / count
    above *= u[:, np.newaxis]
    squares = np.maximum(count * (count * count - 1.0) / 12, 0.5)  # of two samples 0.5, of a single one 0
    slope = np.add.reduce(above, axis=-1) / squares
    rise = slope * half
    fitted = np.stack([slope, newest + (mean - rise), -(mean + rise), newest + (mean + rise)], axis=-1)
    return np.where(count[..., np.newaxis] > 1, fitted, 0.0)


STAGE = Stage(
    Params,
    init,
    step,
    settle,
    examples=({"window": 250}, {"window": 2}, {"window": 25}),
    oracle="numpy.polyfit, window by window",
    outputs=OUTPUTS,
)
