"""Butterworth designs, those of the shipped pipelines at hand.

scipy makes any; but to import `scipy.signal` takes a second, which a cold function would wait for before its first
feature. What is at hand is, to the last bit, what scipy makes: a test compares.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import scipy

from app.dsp.stage import Floats

Sections = tuple[tuple[float, float, float, float, float, float], ...]

AT_HAND: dict[tuple[int, tuple[float, ...], str, float], Sections] = {
    (2, (0.5, 70.0), "bandpass", 256.0): (
        (0.33356796379417514, 0.6671359275883503, 0.33356796379417514, 1.0, 0.1669299161334512, 0.17908521919990142),
        (1.0, -2.0, 1.0, 1.0, -1.9826457816539071, 0.9827966627065958),
    ),
    (2, (0.75, 3.5), "bandpass", 10.0): (
        (0.3404479805013084, 0.6808959610026168, 0.3404479805013084, 1.0, 0.6901150704684124, 0.325843795088017),
        (1.0, -2.0, 1.0, 1.0, -1.342802949837616, 0.5449792864084789),
    ),
    (2, (8.0, 13.0), "bandpass", 256.0): (
        (
            0.0034606847613782533,
            0.006921369522756507,
            0.0034606847613782533,
            1.0,
            -1.8194012944310902,
            0.9034624001511947,
        ),
        (1.0, -2.0, 1.0, 1.0, -1.8880332558077908, 0.9305045234188172),
    ),
    (4, (0.5, 100.0), "bandpass", 250.0): (
        (0.42535862666593083, 0.8507172533318617, 0.42535862666593083, 1.0, 1.046212745173074, 0.29512754196462665),
        (1.0, 2.0, 1.0, 1.0, 1.3213075220567245, 0.633640625182009),
        (1.0, -2.0, 1.0, 1.0, -1.9768246329932804, 0.9769818214579493),
        (1.0, -2.0, 1.0, 1.0, -1.9902986120065413, 0.9904559568967909),
    ),
    (4, (20.0, 450.0), "bandpass", 1000.0): (
        (0.5597939753636623, 1.1195879507273245, 0.5597939753636623, 1.0, 1.4727072982383067, 0.5512194161882683),
        (1.0, -2.0, 1.0, 1.0, -1.775225707139887, 0.7898310129469704),
        (1.0, 2.0, 1.0, 1.0, 1.703066904412495, 0.7912205716038404),
        (1.0, -2.0, 1.0, 1.0, -1.894566110555583, 0.9097098295426526),
    ),
}
"""Second-order sections by order, edges (Hz), kind of band and sample rate (Hz)."""


def at_hand(order: int, cutoff: tuple[float, ...], btype: str, sample_rate: float) -> Floats | None:
    """Give the second-order sections (sections, 6) of a design that need not be made; None of any other."""
    known = AT_HAND.get((order, cutoff, btype, sample_rate))
    return None if known is None else np.array(known)


def butterworth(
    order: int,
    cutoff: tuple[float, ...],
    btype: Literal["lowpass", "highpass", "bandpass", "bandstop"],
    sample_rate: float,
) -> Floats:
    """Make the second-order sections (sections, 6) of a filter, its edges in Hz."""
    edges = cutoff if len(cutoff) > 1 else cutoff[0]
    return np.asarray(scipy.signal.butter(order, edges, btype, fs=sample_rate, output="sos"), dtype=np.float64)
