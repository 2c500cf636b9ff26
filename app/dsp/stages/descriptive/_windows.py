"""What measures of a window share: taking the windows that end at the marks, and bringing them to one scale."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from app.dsp.stage import Floats, Marks, Result, State
from app.dsp.window import join, windows_at

AT_ONCE = 1 << 15
"""Values that are measured at once: however many marks there are, what is made on the way stays in the processor's
cache, or is a few windows long."""


def measured(
    window: int, state: State, x: Floats, marks: Marks, measure: Callable[[Floats], Floats], size: int = 0
) -> Result:
    """Measure the windows that end at the marks, `AT_ONCE` values at a time.

    Parameters
    ----------
    window
        Samples of a window.
    state, x, marks
        As of a stage's step; state as of `app.dsp.window.empty_tail`.
    measure
        Makes (windows, channels, outputs) of (windows, channels, window). A window's values must not depend on
        those beside it.
    size
        Values that a window takes on the way, where they are more than its samples.
    """
    joined = join(window, state, x, marks)
    step = max(1, AT_ONCE // (x.shape[1] * max(window, size)))
    if len(marks.rows) <= step:
        return Result(joined.state, measure(windows_at(joined.series, window, marks)), joined.full)
    some = [
        Marks(marks.rows[start : start + step], marks.last[start : start + step])
        for start in range(0, len(marks.rows), step)
    ]
    parts = [measure(windows_at(joined.series, window, own)) for own in some]
    return Result(joined.state, np.concatenate(parts), joined.full)


def scaled(x: Floats) -> tuple[Floats, Floats]:
    """Divide by a power of two, which rounds nothing, so that the greatest magnitude lies in [1, 2).

    No power of such values overflows, and none of the greatest comes to nothing.

    Parameters
    ----------
    x
        (..., n) values.

    Returns
    -------
    (..., n) values over the scale, laid out so that sums along a row run in one order whatever array the row was taken
    from, and (...,) the scale.
    """
    x = np.ascontiguousarray(x)
    greatest = np.maximum(np.maximum.reduce(x, axis=-1), -np.minimum.reduce(x, axis=-1))
    scale: Floats = np.ldexp(1.0, np.frexp(greatest)[1] - 1)
    return x / scale[..., np.newaxis], scale


def centred(x: Floats) -> Floats:
    """Deviations from the mean along the last axis; of a constant they are 0 exactly, since the first value goes first.

    A large offset is gone before anything is summed.
    """
    deviation: Floats = x - x[..., :1]
    deviation -= np.add.reduce(deviation, axis=-1, keepdims=True) / x.shape[-1]
    return deviation


def ratio(numerator: Floats, denominator: Floats) -> Floats:
    """Divide; 0 where the denominator is 0."""
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator != 0)
