"""Spectrum of each ``size`` samples, frame after frame without overlap.

::

    X[k] = sum(w[n] x[n] exp(-2 pi i k n / size) for n < size),  k = 0 ... size // 2

(Oppenheim & Schafer, *Discrete-Time Signal Processing*, 8.5), at the frequencies ``k * sample_rate / size``. What comes
out has ``size // 2 + 1`` channels for each channel, one channel's after another's, at the rate ``sample_rate / size``;
``real_imag`` has two a bin, ``re 0, im 0, re 1, im 1, ...``. Nothing is scaled: ``sum(x**2)`` is ``sum(|X|**2) / size``
over all bins, those of negative frequency too (Parseval). ``density`` is one-sided, in units squared a hertz: its sum
times ``sample_rate / size`` is the mean power. The phase of a bin of exactly nothing is 0; powers beyond 1e303 are
given as that.
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
    size
        Samples of a frame; products of small primes are the fastest.
    output
        What of a bin comes out: ``magnitude`` |X|, ``power`` |X|**2, ``density``, ``phase`` in radians, or
        ``real_imag``.
    taper
        Weights w of the samples.
    """

    size: Samples
    output: Literal["magnitude", "power", "density", "phase", "real_imag"] = "magnitude"
    taper: Literal["none", "hann", "hamming", "blackman", "bartlett"] = "none"

    def __post_init__(self) -> None:
        check_framing(self.framing, "size")

    @property
    def framing(self) -> Framing:
        """Frames one after another."""
        return Framing(self.size, self.size, self.taper)


def signal(params: Params, signal: Signal) -> Signal:
    """Bins as channels, a ``size``-th of the rate."""
    width = width_of(params.framing, params.output)
    return Signal(signal.sample_rate / params.size, signal.channels * width)


def init(params: Params, signal: Signal, rows: int) -> State:
    """State: the last ``size - 1`` samples, and how many have been seen."""
    return empty_tail(params.size, signal, rows)


def step(params: Params, signal: Signal, state: State, x: Floats, marks: Marks) -> Result:
    """Transform the frames that end here."""
    values = partial(spectra, params.framing, params.output, signal.sample_rate)
    return over_frames(params.framing, state, x, marks, values, width_of(params.framing, params.output))


def settle(params: Params, signal: Signal) -> int:
    """Until a whole frame has come since."""
    return 2 * params.size


STAGE = Stage(
    Params,
    init,
    step,
    settle,
    examples=(
        {"size": 128},
        {"size": 100, "output": "power", "taper": "hann"},
        {"size": 63, "output": "real_imag"},
    ),
    oracle="scipy.signal.spectrogram of the whole signal",
    signal=signal,
    changes_pace=True,
)
