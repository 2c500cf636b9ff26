"""Filter of a finite impulse response: a windowed sinc, which delays all alike, by ``(taps - 1) / 2`` samples.

The impulse response of an ideal filter, for a low-pass ``sin(w n) / (pi n)``, times a window (Oppenheim & Schafer,
*Discrete-Time Signal Processing*, 7.2), scaled to a gain of 1 in the middle of the pass band: at 0 Hz, at half the
sample rate, or between the edges. The gain is one half, -6 dB, at the edges, if these are farther apart, and farther
from 0 Hz and half the sample rate, than the fall is wide: about ``3.3 / taps`` of the sample rate (Hamming).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import msgspec
import numpy as np
import scipy

from app.dsp.fir import MAX_TAPS
from app.dsp.stage import Floats, Stage
from app.dsp.stages.filters._sos import check_cutoff, check_within, edges_below
from app.dsp.stages.filters._taps import by_taps


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of the filter.

    Attributes
    ----------
    taps
        Coefficients; an odd number for a high-pass or band-stop.
    cutoff
        Edge frequencies at -6 dB in Hz: one for a low-pass or high-pass, two for a band.
    btype
        Which band passes.
    window
        From Bartlett to Blackman ever less passes the stop band; a Kaiser window is as its beta says.
    beta
        Shape of a Kaiser window, 0 (a rectangle) to 50; only with one.
    """

    taps: int
    cutoff: tuple[float, ...]
    btype: Literal["lowpass", "highpass", "bandpass", "bandstop"] = "lowpass"
    window: Literal["bartlett", "hann", "hamming", "blackman", "kaiser"] = "hamming"
    beta: float | None = None

    def __post_init__(self) -> None:
        if not 3 <= self.taps <= MAX_TAPS:
            raise ValueError(f"taps = {self.taps}: expected 3 to {MAX_TAPS}")
        if self.btype in ("highpass", "bandstop") and self.taps % 2 == 0:
            raise ValueError(
                f"taps = {self.taps}: expected an odd number for a {self.btype}; an even one passes nothing at half"
                " the sample rate"
            )
        check_cutoff(self.cutoff, self.btype)
        if (self.window == "kaiser") != (self.beta is not None):
            raise ValueError(
                f"beta = {self.beta}: expected with window = 'kaiser', and only then; it is {self.window!r}"
            )
        if self.beta is not None:
            check_within("beta", self.beta, 0, 50)


@lru_cache
def design(params: Params, sample_rate: float) -> Floats:
    """Coefficients, (taps,), for a sample rate in Hz.

    Raises
    ------
    ValueError
        An edge lies at or beyond half the sample rate.
    """
    edges = edges_below(params.cutoff, sample_rate)
    window = params.window if params.beta is None else (params.window, params.beta)
    taps = scipy.signal.firwin(params.taps, edges, window=window, pass_zero=params.btype, fs=sample_rate)
    return np.asarray(taps, dtype=np.float64)


STAGE = Stage(
    Params,
    *by_taps(design),
    examples=(
        {"taps": 101, "cutoff": (0.5, 40.0), "btype": "bandpass"},
        {"taps": 32, "cutoff": (30.0,), "window": "hann"},
        {"taps": 251, "cutoff": (2.0,), "btype": "highpass", "window": "kaiser", "beta": 6.0},
        {"taps": 65, "cutoff": (45.0, 55.0), "btype": "bandstop", "window": "blackman"},
    ),
    oracle="the window method written out, and numpy.convolve",
    design=design,
)
