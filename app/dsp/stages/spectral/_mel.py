"""Energies in bands of equal width on the mel scale, as HTK has them.

``mel = 2595 log10(1 + f / 700)`` (O'Shaughnessy, *Speech Communication*, 1987). Band b is a triangle over the
frequencies of the bins, in Hz: it rises from 0 at one edge to 1 at the next and falls to 0 at the one after it, where
``bands + 2`` edges lie equally far apart on the mel scale from the lowest frequency to the highest. Its energy is the
sum of the bins' power times the triangle.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from app.dsp.stage import Floats, Indices
from app.dsp.stages.spectral._spectrum import power

MAX_BANDS = 512


class Bank(NamedTuple):
    """Triangles; each but its zeros, one after another."""

    bins: Indices
    """(weights,) which bin each weight is for."""
    weights: Floats
    """(weights,) all above 0."""
    starts: Indices
    """(bands,) index of each band's first weight."""


def check_bank(bands: int, frequency_range: tuple[float, float] | None) -> None:
    """Check what can be without a signal.

    Raises
    ------
    ValueError
        Naming the parameter, its value and what is expected.
    """
    if not 1 <= bands <= MAX_BANDS:
        raise ValueError(f"bands = {bands}: expected 1 to {MAX_BANDS}")
    if frequency_range is not None and not 0 <= frequency_range[0] < frequency_range[1]:
        raise ValueError(f"frequency_range = {list(frequency_range)}: expected two rising frequencies from 0 Hz on")


def mel(frequency: Floats | float) -> Floats:
    """Mel of a frequency in Hz."""
    return 2595.0 * np.log10(1.0 + np.asarray(frequency) / 700.0)


def hertz(mels: Floats) -> Floats:
    """Give the frequency in Hz of a mel."""
    return 700.0 * (10.0 ** (mels / 2595.0) - 1.0)


@lru_cache
def bank(window: int, sample_rate: float, bands: int, frequency_range: tuple[float, float] | None) -> Bank:
    """Triangles for frames of ``window`` samples.

    Parameters
    ----------
    window
        Samples of a frame.
    sample_rate
        Hz.
    bands
        How many.
    frequency_range
        Where the first begins and the last ends, Hz; None: all frequencies.

    Raises
    ------
    ValueError
        The range ends beyond half the rate, or a band lies between two bins.
    """
    low, high = frequency_range or (0.0, sample_rate / 2)
    if high > sample_rate / 2:
        raise ValueError(
            f"frequency_range = {[low, high]}: expected at most half the sample rate, {sample_rate / 2} Hz"
        )
    edges = hertz(np.linspace(mel(low), mel(high), bands + 2))
    frequencies = np.arange(window // 2 + 1) * (sample_rate / window)
    rise = (frequencies - edges[:-2, np.newaxis]) / np.diff(edges)[:-1, np.newaxis]
    fall = (edges[2:, np.newaxis] - frequencies) / np.diff(edges)[1:, np.newaxis]
    triangles = np.maximum(np.minimum(rise, fall), 0.0)
    empty = np.flatnonzero(~triangles.any(axis=1))
    if len(empty):
        band = empty[0]
        raise ValueError(
            f"bands = {bands}: band {band}, {edges[band]:.4g} to {edges[band + 2]:.4g} Hz, holds none of the bins,"
            f" which lie {sample_rate / window:.4g} Hz apart; take fewer bands, a longer window or a wider range"
        )
    band, bins = np.nonzero(triangles)
    return Bank(bins, triangles[band, bins], np.searchsorted(band, np.arange(bands)))


def mel_energies(bank: Bank, frames: Floats) -> Floats:
    """Energies (..., bands) of frames (..., window)."""
    return np.add.reduceat(power(frames)[..., bank.bins] * bank.weights, bank.starts, axis=-1)
