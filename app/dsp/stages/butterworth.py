"""Butterworth filter of any order as second-order sections.

Each section is a biquad in direct form II transposed (Smith, *Introduction to Digital Filters*, 2007)::

    y = b0 x + z0;  z0 <- b1 x - a1 y + z1;  z1 <- b2 x - a2 y

so a channel's whole memory is two numbers a section, scipy's ``zi``.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Literal

import msgspec
import numpy as np
from scipy.signal import butter, sosfilt

from app.dsp.stage import SETTLED, Floats, Marks, Result, Signal, Stage, State

MAX_ORDER = 16


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of the filter.

    Attributes
    ----------
    order
        Order N as scipy counts it: a band-pass or band-stop has 2 N poles.
    cutoff
        Edge frequencies at -3 dB in Hz: one for a low-pass or high-pass, two for a band.
    btype
        Which band passes.
    """

    order: int
    cutoff: tuple[float, ...]
    btype: Literal["lowpass", "highpass", "bandpass", "bandstop"] = "lowpass"

    def __post_init__(self) -> None:
        if not 1 <= self.order <= MAX_ORDER:
            raise ValueError(f"order = {self.order}: expected 1 to {MAX_ORDER}")
        edges = 2 if self.btype.startswith("band") else 1
        if len(self.cutoff) != edges:
            raise ValueError(f"cutoff = {list(self.cutoff)}: {self.btype} takes {edges} edge(s) in Hz")
        if not all(low < high for low, high in zip((0.0, *self.cutoff), self.cutoff, strict=False)):
            raise ValueError(f"cutoff = {list(self.cutoff)}: expected rising frequencies above 0 Hz")


@lru_cache
def design(params: Params, sample_rate: float) -> Floats:
    """Second-order sections, (sections, 6), for a sample rate in Hz.

    Raises
    ------
    ValueError
        An edge lies at or beyond half the sample rate.
    """
    if params.cutoff[-1] >= sample_rate / 2:
        raise ValueError(f"cutoff = {list(params.cutoff)}: expected below half the sample rate, {sample_rate / 2} Hz")
    edges = params.cutoff if len(params.cutoff) > 1 else params.cutoff[0]
    return np.asarray(butter(params.order, edges, params.btype, fs=sample_rate, output="sos"), dtype=np.float64)


def init(params: Params, signal: Signal, rows: int) -> State:
    """State ``zi`` (rows, channels, sections, 2) at rest."""
    sections = len(design(params, signal.sample_rate))
    return {"zi": np.zeros((rows, signal.channels, sections, 2))}


def step(params: Params, signal: Signal, state: State, x: Floats, marks: Marks) -> Result:
    """Filter; the series is full from its first sample."""
    sos = design(params, signal.sample_rate)
    y, zi = sosfilt(sos, x, axis=-1, zi=np.moveaxis(state["zi"], 2, 0))
    return Result({"zi": np.moveaxis(zi, 0, 2)}, y, np.ones(len(marks.rows), dtype=np.bool_))


def settle(params: Params, signal: Signal) -> int:
    """Until what the pole nearest the unit circle rings on has died away."""
    sos = design(params, signal.sample_rate)
    radius = max(abs(pole) for section in sos for pole in np.roots(section[3:]))
    return math.ceil(math.log(SETTLED) / math.log(radius))


STAGE = Stage(Params, init, step, settle)
