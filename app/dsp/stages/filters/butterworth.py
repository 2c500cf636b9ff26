"""Butterworth filter of any order as second-order sections: the flattest pass band."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import msgspec

from app.dsp.designs import at_hand, butterworth
from app.dsp.stage import Floats, Stage
from app.dsp.stages.filters._sos import HALF_POWER, as_asked, by_sections, check_cutoff, check_order, edges_below


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
    known = at_hand(params.order, params.cutoff, params.btype, sample_rate)
    if known is not None:
        return known
    edges_below(params.cutoff, sample_rate)
    sos = butterworth(params.order, params.cutoff, params.btype, sample_rate)
    return as_asked(sos, params.order, params.cutoff, sample_rate, HALF_POWER)


STAGE = Stage(
    Params,
    *by_sections(design),
    examples=(
        {"btype": "bandpass", "order": 4, "cutoff": (0.5, 100.0)},
        {"btype": "lowpass", "order": 3, "cutoff": (40.0,)},
        {"btype": "highpass", "order": 1, "cutoff": (0.05,)},
        {"btype": "bandstop", "order": 16, "cutoff": (40.0, 60.0)},
    ),
    oracle="scipy.signal.sosfilt, once over the whole signal",
    design=design,
)
