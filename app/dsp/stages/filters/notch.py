"""Notch: takes one frequency away, with a width of ``frequency / q`` between the points of half the power.

Zeros on the unit circle and poles just inside it, through the bilinear transform (Orfanidis, *Introduction to Signal
Processing*, 11.3)::

    H(z) = g (1 - 2 cos w z**-1 + z**-2) / (1 - 2 g cos w z**-1 + (2 g - 1) z**-2),  g = 1 / (1 + tan(w / (2 q)))
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
        What is taken away, in Hz.
    q
        Frequency over width, 0.1 to 10,000: the greater, the narrower, and the longer it rings.
    """

    frequency: float
    q: float = 30.0

    def __post_init__(self) -> None:
        check_frequency(self.frequency)
        check_within("q", self.q, 0.1, 10_000)


@lru_cache
def design(params: Params, sample_rate: float) -> Floats:
    """Second-order sections, (1, 6), for a sample rate in Hz.

    Raises
    ------
    ValueError
        The frequency lies at or beyond half the sample rate, or where no filter can be made.
    """
    w = angle(params.frequency, sample_rate)
    if w / params.q >= math.pi:
        raise ValueError(f"q = {params.q}: expected above {w / math.pi:.6g}, for a width below half the sample rate")
    g, cos = 1 / (1 + math.tan(w / (2 * params.q))), math.cos(w)
    return section((g, -2 * g * cos, g), (1.0, -2 * g * cos, 2 * g - 1), params.frequency, sample_rate)


STAGE = Stage(
    Params,
    *by_sections(design),
    examples=(
        {"frequency": 50.0},
        {"frequency": 60.0, "q": 5.0},
        {"frequency": 0.5, "q": 1.0},
    ),
    oracle="half the sum of the signal and an all-pass of it",
    design=design,
)
