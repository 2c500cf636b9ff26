"""The `ecg` pipelines as one offline pass over a whole signal, with plain scipy and numpy.

An independent reference: it shares no code with `app.dsp`. The demo checks every feature record against it,
and so do the tests.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray
from scipy.signal import butter, sosfilt

SAMPLE_RATE = 250.0
RMS_WINDOW = 50
HJORTH_WINDOW = 256
FEATURES = ("rms", "hjorth_mobility", "hjorth_complexity", "hjorth_activity")

Floats = NDArray[np.float64]


class Parameters(NamedTuple):
    """What `ecg` filters with, and the windows that it looks through."""

    cutoff: tuple[float, float] = (0.5, 100.0)
    """Edges of the band, Hz."""
    rms_window: int = RMS_WINDOW
    hjorth_window: int = HJORTH_WINDOW


SHIPPED = Parameters()


class Policies(NamedTuple):
    """What a pipeline makes of samples that are missing: its settings of these names."""

    gap: str = "reset"
    max_gap: float = 1.0
    non_finite: str = "reject"


DEFAULT_POLICIES = Policies()


class Stretch(NamedTuple):
    """Samples that a filter sees one after another, from where its state began."""

    signal: Floats
    """(n,) samples, those made up among them."""
    ends: list[int]
    """Number of samples up to and including each block."""
    gaps: list[int]
    """Samples missing before each block."""
    quality: list[float]
    """Share of measured samples among those that came with each block."""


def stretches(
    signal: ArrayLike, starts: Sequence[int], lengths: Sequence[int], policies: Policies = DEFAULT_POLICIES
) -> list[Stretch]:
    """Give what the filters see of a signal sent in blocks, some of which may be missing.

    Parameters
    ----------
    signal
        (n,) samples at 250 Hz; those that are not finite are repaired.
    starts, lengths
        (blocks,) index of the first sample and number of samples of each block sent, in order.
    policies
        Of the pipeline.
    """
    x = np.asarray(signal, dtype=np.float64)
    found: list[Stretch] = []
    pieces: list[list[Floats]] = []
    following = starts[0] if starts else 0
    for start, length in zip(starts, lengths, strict=True):
        gap, following = start - following, start + length
        filled = gap if policies.gap != "reset" and gap <= policies.max_gap * SAMPLE_RATE else 0
        if not found or gap > filled:
            found.append(Stretch(np.zeros(0), [0], [], []))
            pieces.append([np.zeros(1)])
        stretch = found[-1]
        last = pieces[-1][-1][-1:]
        own = x[start:following]
        stretch.quality.append(float(np.isfinite(own).sum() / (length + filled)))
        if not np.isfinite(own).all():
            own = _without_holes(np.concatenate([last, own]), policies.non_finite)[1:]
        if filled:
            holes = np.full(filled, 0.0 if policies.gap == "zero" else np.nan)
            pieces[-1].append(_without_holes(np.concatenate([last, holes, own[:1]]), policies.gap)[1:-1])
        pieces[-1].append(own)
        stretch.ends.append(stretch.ends[-1] + filled + length)
        stretch.gaps.append(gap)
    return [
        stretch._replace(signal=np.concatenate(own[1:]), ends=stretch.ends[1:])
        for stretch, own in zip(found, pieces, strict=True)
    ]


def _without_holes(x: Floats, policy: str) -> Floats:
    """Fill what is not finite of a series whose first sample is: by the sample before, or on a line."""
    known = np.flatnonzero(np.isfinite(x))
    if policy == "interpolate":
        return np.interp(np.arange(len(x)), known, x[known])
    held = x.copy()
    for place in np.flatnonzero(~np.isfinite(x)):
        held[place] = held[place - 1]
    return held


def ecg_features(
    signal: ArrayLike, ends: ArrayLike, *, branched: bool = False, parameters: Parameters = SHIPPED
) -> Floats:
    """Features at the end of each block of a signal.

    Parameters
    ----------
    signal
        (n,) samples at 250 Hz, from the stream's beginning and without gaps.
    ends
        (blocks,) number of samples up to and including each block.
    branched
        Take the Hjorth parameters of the filtered signal (`ecg-branched`), not of its moving RMS (`ecg`).
    parameters
        Other than those of the shipped pipelines.

    Returns
    -------
    (blocks, 4) values in the order of `FEATURES`; NaN where a window is not full yet.
    """
    x = np.asarray(signal, dtype=np.float64)
    last = np.asarray(ends, dtype=np.intp) - 1
    cutoff, rms_window, hjorth_window = parameters
    sos = butter(4, cutoff, "bandpass", fs=SAMPLE_RATE, output="sos")
    filtered = sosfilt(sos, x)
    squares = np.concatenate([np.zeros(rms_window - 1), filtered**2])
    counts = np.minimum(np.arange(1, len(x) + 1), rms_window)
    rms = np.sqrt(sliding_window_view(squares, rms_window).sum(axis=-1) / counts)
    features = np.full((len(last), len(FEATURES)), np.nan)
    full = last >= rms_window - 1
    features[full, 0] = rms[last[full]]
    full = last >= hjorth_window - 1
    if full.any():
        windows = sliding_window_view(filtered if branched else rms, hjorth_window)[last[full] - hjorth_window + 1]
        features[full, 1:] = _hjorth(windows)
    return features


def _hjorth(windows: NDArray[Any]) -> Floats:
    """Mobility, complexity and activity of each row."""
    activity = np.var(windows, axis=1)
    first = np.var(np.diff(windows, axis=1), axis=1)
    second = np.var(np.diff(windows, n=2, axis=1), axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        mobility = np.where(activity > 0, np.sqrt(first / activity), 0.0)
        of_first = np.where(first > 0, np.sqrt(second / first), 0.0)
        complexity = np.where(mobility > 0, of_first / mobility, 0.0)
    return np.stack([mobility, complexity, activity], axis=1)
