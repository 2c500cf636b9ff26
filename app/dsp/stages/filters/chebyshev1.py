"""Chebyshev filter of the first kind, of any order: equal ripples in the pass band, for a steeper fall after it.

``|H|**2 = 1 / (1 + eps**2 T_N(w)**2)`` for the low-pass prototype, ``T_N`` the Chebyshev polynomial and ``ripple`` the
depth of the ripples (Oppenheim & Schafer, *Discrete-Time Signal Processing*, app. B). The pass band ends where the gain
falls below ``-ripple`` for good, which is the edge that is asked for; it is -3 dB only where ripple is.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import msgspec
import numpy as np
import scipy

from app.dsp.stage import Floats, Stage
from app.dsp.stages.filters._sos import as_asked, by_sections, check_cutoff, check_order, check_within, edges_below


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of the filter.

    Attributes
    ----------
    order
        Order N as scipy counts it: a band-pass or band-stop has 2 N poles.
    cutoff
        Edges of the pass band in Hz, where the gain is ``-ripple``: one for a low-pass or high-pass, two for a band.
    ripple
        How far the gain falls within the pass band, in dB, 0.001 to 3.
    btype
        Which band passes.
    """

    order: int
    cutoff: tuple[float, ...]
    ripple: float
    btype: Literal["lowpass", "highpass", "bandpass", "bandstop"] = "lowpass"

    def __post_init__(self) -> None:
        check_order(self.order)
        check_cutoff(self.cutoff, self.btype)
        check_within("ripple", self.ripple, 0.001, 3, " dB")


@lru_cache
def design(params: Params, sample_rate: float) -> Floats:
    """Second-order sections, (sections, 6), for a sample rate in Hz.

    Raises
    ------
    ValueError
        An edge lies at or beyond half the sample rate, or where no filter can be made.
    """
    edges = edges_below(params.cutoff, sample_rate)
    sos = scipy.signal.cheby1(params.order, params.ripple, edges, params.btype, fs=sample_rate, output="sos")
    return as_asked(np.asarray(sos, dtype=np.float64), params.order, params.cutoff, sample_rate, -params.ripple)


STAGE = Stage(
    Params,
    *by_sections(design),
    examples=(
        {"order": 4, "cutoff": (0.5, 40.0), "ripple": 0.5, "btype": "bandpass"},
        {"order": 5, "cutoff": (30.0,), "ripple": 1.0},
        {"order": 2, "cutoff": (1.0,), "ripple": 0.1, "btype": "highpass"},
        {"order": 3, "cutoff": (45.0, 55.0), "ripple": 0.5, "btype": "bandstop"},
    ),
    oracle="scipy.signal.sosfilt, once over the whole signal",
    design=design,
)
