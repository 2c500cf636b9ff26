"""The last beats of a series that is 1 at each beat, as `r_peaks` gives it.

A beat is a place where the series rises through 0.5. Of each channel the places of the last beats are kept, counted in
samples of the stream, so that an interval is exact however long the stream. Five beats a second of a window are kept,
more than hearts beat: of a busier series the last ones count.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from app.dsp.stage import Floats, Init, Marks, Settle, Signal, State
from app.dsp.window import HasWindow

MIN_RATE = 100.0
"""Sample rate from which on beats can be told, Hz."""

MAX_WINDOW = 3600.0
"""Longest window, s."""

MOST_A_SECOND = 5

_NONE = -(1 << 48)


def window_of(window: int, default: float, rate: float) -> int:
    """Give the samples of a window, of which 0 stands for ``default`` seconds.

    Raises
    ------
    ValueError
        The rate is too low to tell beats, or the window too long.
    """
    if not rate >= MIN_RATE:
        raise ValueError(f"sample rate {rate} Hz: expected a series of beats of at least {MIN_RATE} Hz")
    if window > (longest := int(MAX_WINDOW * rate)):
        raise ValueError(f"window = {window}: expected at most {longest} samples, {MAX_WINDOW} s at {rate} Hz")
    return window or round(default * rate)


def check_window(window: int, default: str) -> None:
    """Refuse a negative window."""
    if window < 0:
        raise ValueError(f"window = {window}: expected samples, or 0 for {default}")


def no_beats(window: int, signal: Signal, rows: int) -> State:
    """State: whether the last sample was high, the last beats' places, and how many samples have been seen."""
    kept = math.ceil(MOST_A_SECOND * window / signal.sample_rate) + 1
    return {
        "high": np.zeros((rows, signal.channels), dtype=np.uint8),
        "beats": np.full((rows, signal.channels, kept), _NONE, dtype=np.int64),
        "count": np.zeros(rows, dtype=np.int64),
    }


class Beats(NamedTuple):
    """The beats in the window that ends at each mark."""

    state: State
    """The state after the samples."""
    since: NDArray[np.int64]
    """(marks, channels, kept) samples from each beat to the mark, the last beat's last."""
    inside: NDArray[np.bool_]
    """(marks, channels, kept) whether there is such a beat, and it lies in the window."""
    full: NDArray[np.bool_]
    """(marks,) whether a whole window had been seen."""


def last_beats(window: int, state: State, x: Floats, marks: Marks) -> Beats:
    """Find the beats in samples ``x`` (rows, channels, samples) and before."""
    rows, channels, samples = x.shape
    high = x > 0.5
    rises = high.copy()
    rises[..., 1:] &= ~high[..., :-1]
    rises[..., 0] &= state["high"] == 0
    lane, place = np.nonzero(rises.reshape(rows * channels, samples))
    counts = np.bincount(lane, minlength=rows * channels)
    rank = np.arange(len(lane)) - (np.cumsum(counts) - counts)[lane]
    before = state["beats"].reshape(rows * channels, -1)
    kept = before.shape[1]
    joined = np.full((len(before), kept + counts.max(initial=0)), _NONE, dtype=np.int64)
    joined[:, :kept] = before
    joined[lane, kept + rank] = state["count"][lane // channels] + place
    runs = sliding_window_view(joined, kept, axis=-1)

    lanes = marks.rows[:, np.newaxis] * channels + np.arange(channels)
    key = lane * samples + place
    passed = np.searchsorted(key, lanes * samples + marks.last[:, np.newaxis], side="right")
    own = runs[lanes, passed - np.searchsorted(key, lanes * samples)]
    now = state["count"][marks.rows] + marks.last
    after = {
        "high": high[..., -1].astype(np.uint8),
        "beats": runs[np.arange(len(before)), counts].reshape(rows, channels, kept),
        "count": state["count"] + samples,
    }
    since = now[:, np.newaxis, np.newaxis] - own
    return Beats(after, since, since < window, now + 1 >= window)


def over_beats(default: float) -> tuple[Init, Settle]:
    """Give ``init`` and ``settle`` of a measure of the beats in a window, of which 0 stands for ``default`` seconds."""

    def init(params: HasWindow, signal: Signal, rows: int) -> State:
        """State: the last beats' places."""
        return no_beats(window_of(params.window, default, signal.sample_rate), signal, rows)

    def settle(params: HasWindow, signal: Signal) -> int:
        """Until the window is full."""
        return window_of(params.window, default, signal.sample_rate) + 1

    return init, settle
