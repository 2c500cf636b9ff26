"""Chebyshev filter of the second kind, of any order: a flat pass band, and equal ripples in the stop band.

``|H|**2 = 1 / (1 + 1 / (eps**2 T_N(1 / w)**2))`` for the low-pass prototype, ``T_N`` the Chebyshev polynomial
(Oppenheim & Schafer, *Discrete-Time Signal Processing*, app. B). The edge that is asked for is the stop band's, from
which on the gain is at most ``-attenuation``; the gain is -3 dB some way into the pass band.
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
        Edges of the stop band in Hz, where the gain is ``-attenuation``: one for a low-pass or high-pass, two for a
        band.
    attenuation
        How far the gain falls in the stop band, in dB, 10 to 160.
    btype
        Which band passes.
    """

    order: int
    cutoff: tuple[float, ...]
    attenuation: float
    btype: Literal["lowpass", "highpass", "bandpass", "bandstop"] = "lowpass"

    def __post_init__(self) -> None:
        check_order(self.order)
        check_cutoff(self.cutoff, self.btype)
        check_within("attenuation", self.attenuation, 10, 160, " dB")


@lru_cache
def design(params: Params, sample_rate: float) -> Floats:
    """Second-order sections, (sections, 6), for a sample rate in Hz.

    Raises
    ------
    ValueError
        An edge lies at or beyond half the sample rate, or where no filter can be made.
    """
    edges = edges_below(params.cutoff, sample_rate)
    sos = scipy.signal.cheby2(params.order, params.attenuation, edges, params.btype, fs=sample_rate, output="sos")
    return as_asked(np.asarray(sos, dtype=np.float64), params.order, params.cutoff, sample_rate, -params.attenuation)


STAGE = Stage(
    Params,
    *by_sections(design),
    examples=(
        {"order": 6, "cutoff": (0.1, 60.0), "attenuation": 40.0, "btype": "bandpass"},
        {"order": 5, "cutoff": (50.0,), "attenuation": 60.0},
        {"order": 2, "cutoff": (0.5,), "attenuation": 20.0, "btype": "highpass"},
        {"order": 4, "cutoff": (48.0, 52.0), "attenuation": 40.0, "btype": "bandstop"},
    ),
    oracle="scipy.signal.sosfilt, once over the whole signal",
    design=design,
)
