"""Peaking equaliser: a bell of ``gain`` dB around a frequency, 0 dB far from it.

``H(s) = (s**2 + s A / q + 1) / (s**2 + s / (A q) + 1)`` with ``A = 10**(gain / 40)``, through the bilinear transform
(Bristow-Johnson, *Cookbook formulae for audio EQ biquad filter coefficients*).
"""

from __future__ import annotations

import math
from functools import lru_cache

import msgspec

from app.dsp.stage import Floats, Stage
from app.dsp.stages.filters._sos import angle, by_sections, check_frequency, check_within, section


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of the filter.

    Attributes
    ----------
    frequency
        Centre in Hz.
    gain
        dB at the centre, -60 to 60.
    q
        Centre over width, 0.1 to 100; the width is that between the points of half the gain in dB.
    """

    frequency: float
    gain: float
    q: float = 0.7071067811865476

    def __post_init__(self) -> None:
        check_frequency(self.frequency)
        check_within("gain", self.gain, -60, 60, " dB")
        check_within("q", self.q, 0.1, 100)


@lru_cache
def design(params: Params, sample_rate: float) -> Floats:
    """Second-order sections, (1, 6), for a sample rate in Hz.

    Raises
    ------
    ValueError
        The frequency lies at or beyond half the sample rate, or where no filter can be made.
    """
    w, a = angle(params.frequency, sample_rate), 10 ** (params.gain / 40)
    alpha, cos = math.sin(w) / (2 * params.q), math.cos(w)
    numerator = (1 + alpha * a, -2 * cos, 1 - alpha * a)
    denominator = (1 + alpha / a, -2 * cos, 1 - alpha / a)
    return section(numerator, denominator, params.frequency, sample_rate)


STAGE = Stage(
    Params,
    *by_sections(design),
    examples=(
        {"frequency": 10.0, "gain": 6.0},
        {"frequency": 50.0, "gain": -20.0, "q": 5.0},
    ),
    oracle="its analogue prototype through scipy.signal.bilinear, and lfilter",
    design=design,
)
