"""Power in bands of equal width on the mel scale, of the last ``window`` samples, each ``hop`` samples.

::

    E[b] = sum(F[b, k] |X[k]|**2 over k),  X the tapered frame's Fourier transform, unscaled

with triangles F of height 1 between ``bands + 2`` edges that lie equally far apart in ``mel = 2595 log10(1 + f / 700)``
(as HTK has them: no band is scaled by its width). The stage takes samples, not spectra. The first frame ends with the
``window``-th sample; a frame tells of what lies half a window back. What comes out has ``bands`` channels for each
channel, one channel's after another's, at the rate ``sample_rate / hop``. A band that holds none of the bins is
refused; powers beyond 1e303 are taken as that.
"""

from __future__ import annotations

from functools import partial
from typing import Literal

import msgspec

from app.dsp.stage import Floats, Marks, Result, Samples, Signal, Stage, State
from app.dsp.stages.spectral._frames import Framing, check_framing, over_frames
from app.dsp.stages.spectral._mel import bank, check_bank, mel_energies
from app.dsp.window import empty_tail


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of the spectrogram.

    Attributes
    ----------
    window
        Samples of a frame.
    hop
        Samples from one frame to the next, at most ``window``; half a window if left out.
    bands
        How many bands.
    frequency_range
        Where the first band begins and the last ends, Hz; 0 to half the sample rate if left out.
    taper
        Weights of the samples of a frame.
    """

    window: Samples
    hop: Samples | None = None
    bands: int = 40
    frequency_range: tuple[float, float] | None = None
    taper: Literal["none", "hann", "hamming", "blackman", "bartlett"] = "hann"

    def __post_init__(self) -> None:
        check_framing(self.framing)
        check_bank(self.bands, self.frequency_range)

    @property
    def framing(self) -> Framing:
        """Frames that may overlap."""
        return Framing(self.window, self.window // 2 if self.hop is None else self.hop, self.taper)


def signal(params: Params, signal: Signal) -> Signal:
    """Bands as channels, a ``hop``-th of the rate."""
    return Signal(signal.sample_rate / params.framing.hop, signal.channels * params.bands)


def init(params: Params, signal: Signal, rows: int) -> State:
    """State: the last ``window - 1`` samples, and how many have been seen."""
    bank(params.window, signal.sample_rate, params.bands, params.frequency_range)
    return empty_tail(params.window, signal, rows)


def step(params: Params, signal: Signal, state: State, x: Floats, marks: Marks) -> Result:
    """Take the energies of the frames that end here."""
    own = bank(params.window, signal.sample_rate, params.bands, params.frequency_range)
    return over_frames(params.framing, state, x, marks, partial(mel_energies, own), params.bands)


def settle(params: Params, signal: Signal) -> int:
    """Until a whole frame has come since."""
    return params.window + params.framing.hop


STAGE = Stage(
    Params,
    init,
    step,
    settle,
    examples=(
        {"window": 128, "hop": 32, "bands": 12},
        {"window": 200, "bands": 8, "frequency_range": (5.0, 100.0), "taper": "hamming"},
    ),
    oracle="scipy.signal.spectrogram times the triangles of the formula",
    signal=signal,
    changes_pace=True,
)
