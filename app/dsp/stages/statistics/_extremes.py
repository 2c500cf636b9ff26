"""The least or the greatest value of every window, in log2(window) comparisons a value."""

from __future__ import annotations

import numpy as np

from app.dsp.stage import Floats, Marks, Result, State
from app.dsp.window import join


def window_extremes(window: int, state: State, x: Floats, marks: Marks, of: np.ufunc, nothing: float) -> Result:
    """Take the extreme of the samples seen in every window.

    A zero comes out as +0.0, whatever its sign: which of two zeros a comparison gives depends on the processor.

    Parameters
    ----------
    window
        Samples of a window.
    state, x, marks
        As of a stage's step; state as of `app.dsp.window.empty_tail`.
    of
        ``np.minimum`` or ``np.maximum``.
    nothing
        What stands where no sample has been seen: a value that is never the extreme.
    """
    joined = join(window, state, x, marks)
    series, absent = joined.series, window - 1 - state["count"]
    if absent.max(initial=0) > 0:
        series = np.where(np.arange(series.shape[-1]) < absent[:, np.newaxis, np.newaxis], nothing, series)
    width = 1
    while 2 * width <= window:
        series = of(series[..., :-width], series[..., width:])
        width *= 2
    if rest := window - width:
        series = of(series[..., :-rest], series[..., rest:])
    return Result(joined.state, series + 0.0, joined.full)
