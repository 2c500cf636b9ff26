"""Mel-frequency cepstral coefficients of the last ``window`` samples, each ``hop`` samples.

Of the energies E of `mel_spectrogram`, the orthonormal cosine transform (DCT-II) of their logarithms::

    c[i] = s[i] sum(ln(E[b] + 1e-10) cos(pi i (b + 1/2) / bands) for b < bands)
    s[0] = sqrt(1 / bands),  s[i] = sqrt(2 / bands)

(Davis & Mermelstein, *IEEE Trans. ASSP* 28, 1980), each times ``1 + lifter / 2 sin(pi i / lifter)`` where there is a
lifter (Juang, Rabiner & Wilpon, 1987). The stage takes samples. What comes out has ``coefficients`` channels for each
channel, one channel's after another's, at the rate ``sample_rate / hop``; the first frame ends with the ``window``-th
sample.
"""

from __future__ import annotations

import math
from functools import lru_cache, partial
from typing import Literal

import msgspec
import numpy as np

from app.dsp.stage import Floats, Marks, Result, Samples, Signal, Stage, State
from app.dsp.stages.spectral._frames import Framing, check_framing, over_frames
from app.dsp.stages.spectral._mel import Bank, bank, check_bank, mel_energies
from app.dsp.window import empty_tail

FLOOR = 1e-10
"""What is added to an energy before its logarithm is taken."""


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of the coefficients.

    Attributes
    ----------
    window
        Samples of a frame.
    hop
        Samples from one frame to the next, at most ``window``; half a window if left out.
    bands
        Mel bands.
    coefficients
        How many come out, from ``c[0]`` on; at most ``bands``.
    frequency_range
        Where the first band begins and the last ends, Hz; 0 to half the sample rate if left out.
    lifter
        Length of the lifter, 22 in HTK; 0 for none.
    taper
        Weights of the samples of a frame.
    """

    window: Samples
    hop: Samples | None = None
    bands: int = 26
    coefficients: int = 13
    frequency_range: tuple[float, float] | None = None
    lifter: float = 0.0
    taper: Literal["none", "hann", "hamming", "blackman", "bartlett"] = "hann"

    def __post_init__(self) -> None:
        check_framing(self.framing)
        check_bank(self.bands, self.frequency_range)
        if not 1 <= self.coefficients <= self.bands:
            raise ValueError(f"coefficients = {self.coefficients}: expected 1 to the {self.bands} bands")
        if not (self.lifter == 0 or 1 <= self.lifter < math.inf):
            raise ValueError(f"lifter = {self.lifter}: expected at least 1, or 0 for none")

    @property
    def framing(self) -> Framing:
        """Frames that may overlap."""
        return Framing(self.window, self.window // 2 if self.hop is None else self.hop, self.taper)


@lru_cache
def cosines(bands: int, coefficients: int, lifter: float) -> Floats:
    """Give the transform's and the lifter's product, (coefficients, bands)."""
    number = np.arange(coefficients)[:, np.newaxis]
    rows: Floats = np.sqrt(2 / bands) * np.cos(np.pi * number * (np.arange(bands) + 0.5) / bands)
    rows[0] = np.sqrt(1 / bands)
    if lifter:
        rows *= 1 + lifter / 2 * np.sin(np.pi * number / lifter)
    rows.flags.writeable = False
    return rows


def signal(params: Params, signal: Signal) -> Signal:
    """Coefficients as channels, a ``hop``-th of the rate."""
    return Signal(signal.sample_rate / params.framing.hop, signal.channels * params.coefficients)


def init(params: Params, signal: Signal, rows: int) -> State:
    """State: the last ``window - 1`` samples, and how many have been seen."""
    bank(params.window, signal.sample_rate, params.bands, params.frequency_range)
    return empty_tail(params.window, signal, rows)


def step(params: Params, signal: Signal, state: State, x: Floats, marks: Marks) -> Result:
    """Take the coefficients of the frames that end here."""
    own = bank(params.window, signal.sample_rate, params.bands, params.frequency_range)
    rows = cosines(params.bands, params.coefficients, params.lifter)
    return over_frames(params.framing, state, x, marks, partial(_cepstra, own, rows), params.coefficients)


def _cepstra(own: Bank, rows: Floats, frames: Floats) -> Floats:
    logarithms = np.log(mel_energies(own, frames) + FLOOR)
    # The sum runs along the product's contiguous last axis: its order depends on the number of bands alone.
    cepstra: Floats = np.add.reduce(logarithms[..., np.newaxis, :] * rows, axis=-1)
    return cepstra


def settle(params: Params, signal: Signal) -> int:
    """Until a whole frame has come since."""
    return params.window + params.framing.hop


STAGE = Stage(
    Params,
    init,
    step,
    settle,
    examples=(
        {"window": 128, "hop": 64, "bands": 14},
        {
            "window": 100,
            "bands": 10,
            "coefficients": 5,
            "frequency_range": (4.0, 120.0),
            "lifter": 22.0,
            "taper": "hamming",
        },
    ),
    oracle="scipy.fft.dct of the logarithms of the mel energies",
    signal=signal,
    changes_pace=True,
)
