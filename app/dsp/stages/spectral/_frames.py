"""Frames of a series, for stages that give a spectrum each ``hop`` samples.

The first frame ends with the ``window``-th sample of the stream, and one more with each ``hop`` samples after it: no
frame is filled up with zeros. Tapers are periodic, as is usual for spectra: `scipy.signal.get_window` with its default
of ``fftbins``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
import scipy
from numpy.lib.stride_tricks import sliding_window_view

from app.dsp.stage import Floats, Indices, Marks, Result, State
from app.dsp.window import join

MAX_WINDOW = 1 << 16
MAX_OVERLAP = 256
"""Frames that a sample may lie in: what comes out is about half as many values a sample."""

_AT_ONCE = 1 << 16
"""Values of the frames that are worked on at once, so that they stay in the processor's cache."""

Taper = Literal["none", "hann", "hamming", "blackman", "bartlett"]


class Framing(NamedTuple):
    """How a series is cut into frames."""

    window: int
    """Samples of a frame."""
    hop: int
    """Samples from one frame's end to the next one's."""
    taper: Taper


def check_framing(framing: Framing, name: str = "window") -> None:
    """Check a framing whose window a pipeline calls ``name``.

    Raises
    ------
    ValueError
        Naming the parameter, its value and what is expected.
    """
    window, hop, _ = framing
    if not 2 <= window <= MAX_WINDOW:
        raise ValueError(f"{name} = {window}: expected 2 to {MAX_WINDOW} samples")
    if not 1 <= hop <= window:
        raise ValueError(f"hop = {hop}: expected 1 to the window's {window} samples")
    if hop * MAX_OVERLAP < window:
        raise ValueError(f"hop = {hop}: expected at least 1/{MAX_OVERLAP} of the window's {window} samples")


@lru_cache
def taper_of(framing: Framing) -> Floats:
    """(window,) weights."""
    name = "boxcar" if framing.taper == "none" else framing.taper
    weights = np.asarray(scipy.signal.get_window(name, framing.window), dtype=np.float64)
    weights.flags.writeable = False
    return weights


def over_frames(
    framing: Framing, state: State, x: Floats, marks: Marks, values: Callable[[Floats], Floats], width: int
) -> Result:
    """Give what ``values`` makes of each frame as a series, which is full from its first value.

    Parameters
    ----------
    framing
        How ``x`` is cut.
    state, x, marks
        As a stage's step has them; the state is `empty_tail` of the window.
    values
        ``values(frames)`` gives (n, channels, width) from tapered frames (n, channels, window), each from its own
        alone.
    width
        Values of a frame.

    Returns
    -------
    The series, (rows, channels * width, frames), channel by channel.
    """
    rows, channels, samples = x.shape
    joined = join(framing.window, state, x, marks)
    ends = _ends(framing, state["count"], samples, marks)
    most = ends.at.shape[1]
    row, place = np.nonzero(np.arange(most) < ends.lengths[:, np.newaxis])
    windows = sliding_window_view(joined.series, framing.window, axis=-1)
    weights, out = taper_of(framing), np.zeros((rows, most, channels * width))
    at_once = max(1, _AT_ONCE // (channels * framing.window))
    for begin in range(0, len(row), at_once):
        some, theirs = row[begin : begin + at_once], place[begin : begin + at_once]
        frames = np.multiply(windows[some, :, ends.at[some, theirs]], weights, order="C")
        out[some, theirs] = values(frames).reshape(len(some), -1)
    series = np.ascontiguousarray(out.transpose(0, 2, 1))
    return Result(joined.state, series, joined.full, ends.lengths, ends.last)


class _Ends(NamedTuple):
    at: Indices
    """(rows, most) index along the call's samples of each frame's last one."""
    lengths: Indices
    """(rows,) frames that end in the call."""
    last: Indices
    """(marks,) index of the last of them at or before each mark, -1 where there is none."""


def _ends(framing: Framing, seen: Indices, samples: int, marks: Marks) -> _Ends:
    """Find where frames end; rows had ``seen`` so many samples before the call."""

    def complete(count: Indices) -> Indices:
        return np.maximum((count - framing.window + framing.hop) // framing.hop, 0)

    before = complete(seen)
    lengths = complete(seen + samples) - before
    first = framing.window + before * framing.hop - seen - 1
    at = first[:, np.newaxis] + framing.hop * np.arange(lengths.max(initial=0))
    last = complete(seen[marks.rows] + marks.last + 1) - before[marks.rows] - 1
    return _Ends(at.astype(np.intp), lengths.astype(np.intp), last.astype(np.intp))
