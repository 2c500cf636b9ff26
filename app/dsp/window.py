"""What moving stages share: the check of a window, the tail of samples that it still needs, sums over every window."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from app.dsp.stage import Floats, Marks, Signal, State

MAX_WINDOW = 1 << 20
"""Samples of the longest window."""


def check_window(window: int, least: int = 1, why: str = "", most: int = MAX_WINDOW) -> None:
    """Refuse a ``window`` out of range; ``why`` says what it must have at least so many samples for."""
    if not least <= window <= most:
        raise ValueError(f"window = {window}: expected {least} to {most} samples{why and f'; {why}'}")


class HasWindow(Protocol):
    """Parameters of a stage that looks at the last ``window`` samples."""

    @property
    def window(self) -> int:
        """Samples."""


def init(params: HasWindow, signal: Signal, rows: int) -> State:
    """State: the last ``window - 1`` samples, and how many have been seen."""
    return empty_tail(params.window, signal, rows)


def settle(params: HasWindow, signal: Signal) -> int:  # noqa: ARG001 - as every stage's
    """Until the window is full."""
    return params.window


def empty_tail(window: int, signal: Signal, rows: int) -> State:
    """State of a window that has seen nothing: ``tail`` (rows, channels, window - 1) and ``count`` (rows,)."""
    return {
        "tail": np.zeros((rows, signal.channels, window - 1)),
        "count": np.zeros(rows, dtype=np.int64),
    }


class Windowed(NamedTuple):
    """Samples joined to the tail before them."""

    series: Floats
    """(rows, channels, window - 1 + samples): the window that ends at sample i is ``series[..., i : i + window]``."""
    state: State
    """The state after the samples."""
    full: NDArray[np.bool_]
    """(marks,) whether a whole window of samples had been seen at each mark."""


def join(window: int, state: State, x: Floats, marks: Marks) -> Windowed:
    """Join samples ``x`` (rows, channels, samples) to the tail, and give the state that follows."""
    series = np.concatenate([state["tail"], x], axis=-1)
    tail = series[..., x.shape[-1] :]
    full = state["count"][marks.rows] + marks.last + 1 >= window
    return Windowed(series, {"tail": tail, "count": state["count"] + x.shape[-1]}, full)


def windows_at(series: Floats, window: int, marks: Marks) -> Floats:
    """Take the windows that end at marks out of samples joined to their tail: (marks, channels, window), C-contiguous.

    Sums along a window then run in one order, whatever array it was taken from.
    """
    rows, last = marks
    at_ends = len(rows) == len(series) and (last == series.shape[-1] - window).all()
    if at_ends and (rows == np.arange(len(rows))).all():
        return np.ascontiguousarray(series[..., -window:])
    return np.ascontiguousarray(sliding_window_view(series, window, axis=-1)[rows, :, last])


def window_sums(series: Floats, window: int) -> Floats:
    """Sum over every run of ``window`` values along the last axis.

    Sums of 1, 2, 4, ... neighbours are made by adding two sums half as long, and those whose lengths are the
    binary digits of ``window`` are put together. Each result is made from the values of its own window alone,
    in an order that depends on nothing else: it cannot drift, a burst leaves no trace once it has left the
    window, and the same window gives the same bits wherever it lies. log2(window) additions a value.

    Parameters
    ----------
    series
        (..., n) values.
    window
        Values in a sum, 1 to n.

    Returns
    -------
    (..., n - window + 1) sums; the i-th is of ``series[..., i : i + window]``.
    """
    count = series.shape[-1] - window + 1
    total: Floats | None = None
    is_own = False
    partial, width, offset = series, 1, 0
    while width <= window:
        if window & width:
            piece = partial[..., offset : offset + count]
            if total is None:
                total = piece
            elif is_own:
                total += piece
            else:
                total, is_own = total + piece, True
            offset += width
        if 2 * width <= window:
            partial = partial[..., :-width] + partial[..., width:]
        width *= 2
    if total is None:
        raise ValueError(f"window = {window}: expected at least 1")
    return total
