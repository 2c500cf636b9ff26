"""Butterworth filter of any order as second-order sections: the flattest pass band."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import msgspec
import numpy as np
from scipy.signal import butter

from app.dsp.stage import Floats, Marks, Result, Signal, Stage, State
from app.dsp.stages.filters._sos import (
    HALF_POWER,
    as_asked,
    at_rest,
    check_cutoff,
    check_order,
    edges_below,
    run,
    settled,
)


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
        check_order(self.order)
        check_cutoff(self.cutoff, self.btype)


@lru_cache
def design(params: Params, sample_rate: float) -> Floats:
    """Second-order sections, (sections, 6), for a sample rate in Hz.

    Raises
    ------
    ValueError
        An edge lies at or beyond half the sample rate, or where no filter can be made.
    """
    edges = edges_below(params.cutoff, sample_rate)
    sos = butter(params.order, edges, params.btype, fs=sample_rate, output="sos")
    return as_asked(np.asarray(sos, dtype=np.float64), params.order, params.cutoff, sample_rate, HALF_POWER)


def init(params: Params, signal: Signal, rows: int) -> State:
    """State ``zi`` (rows, channels, sections, 2) at rest."""
    return at_rest(design(params, signal.sample_rate), signal, rows)


def step(params: Params, signal: Signal, state: State, x: Floats, marks: Marks) -> Result:
    """Filter; the series is full from its first sample."""
    return run(design(params, signal.sample_rate), state, x, marks)


def settle(params: Params, signal: Signal) -> int:
    """Until what the pole nearest the unit circle rings on has died away."""
    return settled(design(params, signal.sample_rate))


STAGE = Stage(
    Params,
    init,
    step,
    settle,
    examples=(
        {"btype": "bandpass", "order": 4, "cutoff": (0.5, 100.0)},
        {"btype": "lowpass", "order": 3, "cutoff": (40.0,)},
        {"btype": "highpass", "order": 1, "cutoff": (0.05,)},
        {"btype": "bandstop", "order": 16, "cutoff": (40.0, 60.0)},
    ),
    oracle="scipy.signal.sosfilt, once over the whole signal",
    design=design,
)
