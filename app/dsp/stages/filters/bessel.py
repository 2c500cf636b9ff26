"""Bessel (Thomson) filter of any order: a step passes almost without overshoot, all it holds delayed alike.

The prototype is the reciprocal of a reverse Bessel polynomial (Thomson, *Proc. IEE* 96, 1949), scaled such that half
the power passes at the edges. The bilinear transform keeps the flat delay only well below half the sample rate.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import scipy

from app.dsp.stage import Floats, Stage
from app.dsp.stages.filters._sos import HALF_POWER, as_asked, by_sections, edges_below
from app.dsp.stages.filters.butterworth import Params


@lru_cache
def design(params: Params, sample_rate: float) -> Floats:
    """Second-order sections, (sections, 6), for a sample rate in Hz.

    Raises
    ------
    ValueError
        An edge lies at or beyond half the sample rate, or where no filter can be made.
    """
    edges = edges_below(params.cutoff, sample_rate)
    sos = scipy.signal.bessel(params.order, edges, params.btype, fs=sample_rate, output="sos", norm="mag")
    return as_asked(np.asarray(sos, dtype=np.float64), params.order, params.cutoff, sample_rate, HALF_POWER)


STAGE = Stage(
    Params,
    *by_sections(design),
    examples=(
        {"order": 4, "cutoff": (0.5, 40.0), "btype": "bandpass"},
        {"order": 5, "cutoff": (30.0,)},
        {"order": 2, "cutoff": (1.0,), "btype": "highpass"},
        {"order": 3, "cutoff": (45.0, 55.0), "btype": "bandstop"},
    ),
    oracle="scipy.signal.sosfilt, once over the whole signal",
    design=design,
)
