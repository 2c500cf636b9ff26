"""What recursive filters share: checks of their parameters and of the design, and their memory.

Each second-order section is a biquad in direct form II transposed (Smith, *Introduction to Digital Filters*, 2007)::

    y = b0 x + z0;  z0 <- b1 x - a1 y + z1;  z1 <- b2 x - a2 y

so a channel's whole memory is two numbers a section, scipy's ``zi``.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import scipy

from app.dsp.sections import sosfilt
from app.dsp.stage import NEVER, SETTLED, Design, Floats, Init, Marks, Result, Settle, Signal, State, Step

MAX_ORDER = 16

HALF_POWER = 10 * math.log10(0.5)
"""dB."""

EDGE_TOLERANCE = 0.1
"""dB by which a design may miss what is asked at its edges; none does before its coefficients run out of digits."""


def check_order(order: int) -> None:
    """Refuse an order that is out of range, with a ValueError."""
    if not 1 <= order <= MAX_ORDER:
        raise ValueError(f"order = {order}: expected 1 to {MAX_ORDER}")


def check_cutoff(cutoff: tuple[float, ...], btype: str) -> None:
    """Refuse edges that are not those of such a filter, with a ValueError."""
    edges = 2 if btype.startswith("band") else 1
    if len(cutoff) != edges:
        raise ValueError(f"cutoff = {list(cutoff)}: {btype} takes {edges} edge(s) in Hz")
    if not all(low < high for low, high in zip((0.0, *cutoff), cutoff, strict=False)):
        raise ValueError(f"cutoff = {list(cutoff)}: expected rising frequencies above 0 Hz")


def check_within(name: str, value: float, low: float, high: float, unit: str = "") -> None:
    """Refuse a parameter that is out of range or not finite, with a ValueError."""
    if not low <= value <= high:
        raise ValueError(f"{name} = {value}: expected {low:g} to {high:g}{unit}")


def check_frequency(frequency: float) -> None:
    """Refuse what is not a frequency above 0 Hz, with a ValueError."""
    if not frequency > 0:
        raise ValueError(f"frequency = {frequency}: expected Hz above 0")


def edges_below(cutoff: tuple[float, ...], sample_rate: float) -> float | tuple[float, ...]:
    """Give edges as scipy takes them; a ValueError where one is at or beyond half the sample rate."""
    if cutoff[-1] >= sample_rate / 2:
        raise ValueError(f"cutoff = {list(cutoff)}: expected below half the sample rate, {sample_rate / 2} Hz")
    return cutoff if len(cutoff) > 1 else cutoff[0]


def as_asked(sos: Floats, order: int, cutoff: tuple[float, ...], sample_rate: float, gain: float) -> Floats:
    """Give second-order sections that are stable and have a gain in dB at their edges; else raise ValueError.

    Edges so near 0 Hz, half the sample rate or each other that 53 bits cannot say where the poles are give filters
    that are not what was asked, or ring for ever.
    """
    _, response = scipy.signal.freqz_sos(sos, cutoff, fs=sample_rate)
    size = np.abs(response)
    if not (radius(sos) < 1 and (np.abs(size / 10 ** (gain / 20) - 1) < EDGE_TOLERANCE * math.log(10) / 20).all()):
        raise ValueError(
            f"cutoff = {list(cutoff)}: expected edges farther from 0 Hz, from half the sample rate and from each other,"
            f" or a lower order than {order}: numbers have too few digits for the poles of such a filter"
        )
    return sos


def section(b: tuple[float, ...], a: tuple[float, ...], frequency: float, sample_rate: float) -> Floats:
    """Give one biquad, normalised, as second-order sections (1, 6); a ValueError where it is not a stable filter.

    Parameters
    ----------
    b, a
        Its three coefficients each.
    frequency
        Where it acts, in Hz.
    sample_rate
        In Hz.
    """
    sos = np.array([[*b, *a]]) / a[0]
    if not radius(sos) < 1:
        raise ValueError(
            f"frequency = {frequency}: expected farther from 0 Hz and from half the sample rate, {sample_rate / 2} Hz,"
            " or a lower q: numbers have too few digits for the poles of such a filter"
        )
    return sos


def angle(frequency: float, sample_rate: float) -> float:
    """Give a frequency in radians a sample; a ValueError where it is at or beyond half the sample rate."""
    if frequency >= sample_rate / 2:
        raise ValueError(f"frequency = {frequency}: expected below half the sample rate, {sample_rate / 2} Hz")
    return 2 * math.pi * frequency / sample_rate


def radius(sos: Floats) -> float:
    """Give the distance from 0 of the pole nearest the unit circle; infinity of what is not finite."""
    if not np.isfinite(sos).all():
        return math.inf
    return float(max(abs(pole) for own in sos for pole in np.roots(own[3:])))


def settled(sos: Floats) -> int:
    """Count samples until what the pole nearest the unit circle rings on has died away."""
    own = radius(sos)
    return min(NEVER, math.ceil(math.log(SETTLED) / math.log(own))) if own > 0 else 2 * len(sos)


def by_sections(design: Design) -> tuple[Init, Step, Settle]:
    """Give ``init``, ``step`` and ``settle`` of a stage that is nothing but a design of second-order sections."""

    def init(params: Any, signal: Signal, rows: int) -> State:
        """State ``zi`` (rows, channels, sections, 2) at rest."""
        return {"zi": np.zeros((rows, signal.channels, len(design(params, signal.sample_rate)), 2))}

    def step(params: Any, signal: Signal, state: State, x: Floats, marks: Marks) -> Result:
        """Filter; the series is full from its first sample."""
        y, zi = sosfilt(design(params, signal.sample_rate), x, state["zi"])
        return Result({"zi": zi}, y, np.ones(len(marks.rows), dtype=np.bool_))

    def settle(params: Any, signal: Signal) -> int:
        """Until what the pole nearest the unit circle rings on has died away."""
        return settled(design(params, signal.sample_rate))

    return init, step, settle
