"""Elliptic (Cauer) filter of any order: equal ripples in both bands, the steepest fall between them for its order.

``|H|**2 = 1 / (1 + eps**2 R_N(w)**2)`` for the low-pass prototype, ``R_N`` the elliptic rational function (Oppenheim &
Schafer, *Discrete-Time Signal Processing*, app. B). The edge that is asked for is the pass band's, where the gain is
``-ripple``.
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
    attenuation
        How far the gain falls in the stop band, in dB, 10 to 160.
    btype
        Which band passes.
    """

    order: int
    cutoff: tuple[float, ...]
    ripple: float
    attenuation: float
    btype: Literal["lowpass", "highpass", "bandpass", "bandstop"] = "lowpass"

    def __post_init__(self) -> None:
        check_order(self.order)
        check_cutoff(self.cutoff, self.btype)
        check_within("ripple", self.ripple, 0.001, 3, " dB")
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
    sos = scipy.signal.ellip(
        params.order, params.ripple, params.attenuation, edges, params.btype, fs=sample_rate, output="sos"
    )
    return as_asked(np.asarray(sos, dtype=np.float64), params.order, params.cutoff, sample_rate, -params.ripple)


STAGE = Stage(
    Params,
    *by_sections(design),
    examples=(
        {"order": 4, "cutoff": (0.5, 40.0), "ripple": 0.5, "attenuation": 60.0, "btype": "bandpass"},
        {"order": 5, "cutoff": (30.0,), "ripple": 1.0, "attenuation": 40.0},
        {"order": 2, "cutoff": (1.0,), "ripple": 0.1, "attenuation": 30.0, "btype": "highpass"},
        {"order": 3, "cutoff": (45.0, 55.0), "ripple": 0.5, "attenuation": 50.0, "btype": "bandstop"},
    ),
    oracle="scipy.signal.sosfilt, once over the whole signal",
    design=design,
)
