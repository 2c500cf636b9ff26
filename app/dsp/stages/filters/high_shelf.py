"""High shelf: ``gain`` dB above a frequency, 0 dB below it.

``H(s) = A (A s**2 + s sqrt(A) / q + 1) / (s**2 + s sqrt(A) / q + A)`` with ``A = 10**(gain / 40)``, through the
bilinear transform (Bristow-Johnson, *Cookbook formulae for audio EQ biquad filter coefficients*).
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
        Middle of the slope in Hz, where the gain is half of ``gain`` in dB.
    gain
        dB on the shelf, -60 to 60.
    q
        Steepness, 0.1 to 100; above 0.707 the gain overshoots beside the slope.
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
    beta, cos = math.sqrt(a) * math.sin(w) / params.q, math.cos(w)
    up, down = (a + 1) + (a - 1) * cos, (a + 1) - (a - 1) * cos
    numerator = (a * (up + beta), -2 * a * ((a - 1) + (a + 1) * cos), a * (up - beta))
    denominator = (down + beta, 2 * ((a - 1) - (a + 1) * cos), down - beta)
    return section(numerator, denominator, params.frequency, sample_rate)


STAGE = Stage(
    Params,
    *by_sections(design),
    examples=(
        {"frequency": 40.0, "gain": 6.0},
        {"frequency": 20.0, "gain": -12.0, "q": 1.0},
    ),
    oracle="its analogue prototype through scipy.signal.bilinear, and lfilter",
    design=design,
)
