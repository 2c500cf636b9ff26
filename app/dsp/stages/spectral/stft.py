"""Short-time Fourier transform: the spectrum of the last ``window`` samples, each ``hop`` samples.

::

    X[m, k] = sum(w[n] x[m hop + n] exp(-2 pi i k n / window) for n < window),  k = 0 ... window // 2

(Allen & Rabiner, *Proc. IEEE* 65, 1977), at the frequencies ``k * sample_rate / window``. The first frame ends with the
``window``-th sample; a frame tells of what lies half a window back. What comes out has ``window // 2 + 1`` channels for
each channel, one channel's after another's, at the rate ``sample_rate / hop``; ``real_imag`` has two a bin, ``re 0,
im 0, re 1, im 1, ...``. Nothing is scaled save ``density``, which is one-sided, in units squared a hertz: its mean over
frames is Welch's estimate. The phase is that of a frame counted from its first sample, 0 for a bin of exactly nothing;
powers beyond 1e303 are given as that.
"""

from __future__ import annotations

from functools import partial
from typing import Literal

import msgspec

from app.dsp.stage import Floats, Marks, Result, Samples, Signal, Stage, State
from app.dsp.stages.spectral._frames import Framing, check_framing, over_frames
from app.dsp.stages.spectral._spectrum import spectra, width_of
from app.dsp.window import empty_tail


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of the transform.

    Attributes
    ----------
    window
        Samples of a frame; products of small primes are the fastest.
    hop
        Samples from one frame to the next, at most ``window``; half a window if left out.
    output
        What of a bin comes out: ``magnitude`` |X|, ``power`` |X|**2, ``density``, ``phase`` in radians, or
        ``real_imag``.
    taper
        Weights w of the samples.
    """

    window: Samples
    hop: Samples | None = None
    output: Literal["magnitude", "power", "density", "phase", "real_imag"] = "magnitude"
    taper: Literal["none", "hann", "hamming", "blackman", "bartlett"] = "hann"

    def __post_init__(self) -> None:
        check_framing(self.framing)

    @property
    def framing(self) -> Framing:
        """Frames that may overlap."""
        return Framing(self.window, self.window // 2 if self.hop is None else self.hop, self.taper)


def signal(params: Params, signal: Signal) -> Signal:
    """Bins as channels, a ``hop``-th of the rate."""
    width = width_of(params.framing, params.output)
    return Signal(signal.sample_rate / params.framing.hop, signal.channels * width)


def init(params: Params, signal: Signal, rows: int) -> State:
    """State: the last ``window - 1`` samples, and how many have been seen."""
    return empty_tail(params.window, signal, rows)


def step(params: Params, signal: Signal, state: State, x: Floats, marks: Marks) -> Result:
    """Transform the frames that end here."""
    values = partial(spectra, params.framing, params.output, signal.sample_rate)
    return over_frames(params.framing, state, x, marks, values, width_of(params.framing, params.output))


def settle(params: Params, signal: Signal) -> int:
    """Until a whole frame has come since."""
    return params.window + params.framing.hop


STAGE = Stage(
    Params,
    init,
    step,
    settle,
    examples=(
        {"window": 128, "hop": 32},
        {"window": 50, "output": "density", "taper": "hamming"},
        {"window": 64, "hop": 64, "output": "phase", "taper": "blackman"},
        {"window": 25, "hop": 1, "output": "power", "taper": "bartlett"},
    ),
    oracle="scipy.signal.spectrogram of the whole signal",
    signal=signal,
    changes_pace=True,
)
