"""Cases of spectra and wavelets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pywt
from numpy.typing import NDArray
from scipy.fft import dct
from scipy.signal import get_window, spectrogram

from app.dsp.stage import Floats
from tests.stage_cases import SAMPLE_RATE, StageCase, each_channel


def stft(
    x: NDArray[Any], *, window: int, hop: int | None = None, output: str = "magnitude", taper: str = "hann"
) -> Floats:
    """Scipy's spectrogram of the whole signal, unscaled."""
    hop = window // 2 if hop is None else hop
    weights = get_window("boxcar" if taper == "none" else taper, window)
    how = {"fs": SAMPLE_RATE, "window": weights, "noverlap": window - hop, "detrend": False}
    if output == "density":
        return spectrogram(x, **how, scaling="density", mode="psd")[2]
    _, _, spectrum = spectrogram(x, **how, scaling="spectrum", mode="complex")
    spectrum = spectrum * weights.sum()
    if output == "real_imag":
        return np.stack([spectrum.real, spectrum.imag], axis=1).reshape(-1, spectrum.shape[1])
    values = {"magnitude": np.abs, "power": lambda own: np.abs(own) ** 2, "phase": np.angle}
    return values[output](spectrum)


def fft(x: NDArray[Any], *, size: int, output: str = "magnitude", taper: str = "none") -> Floats:
    return stft(x, window=size, hop=size, output=output, taper=taper)


def mel_spectrogram(
    x: NDArray[Any],
    *,
    window: int,
    hop: int | None = None,
    bands: int = 40,
    frequency_range: tuple[float, float] = (0.0, SAMPLE_RATE / 2),
    taper: str = "hann",
) -> Floats:
    """Triangles, each drawn as a line through three points, times scipy's spectrogram."""
    low, high = (2595 * np.log10(1 + frequency / 700) for frequency in frequency_range)
    edges = [700 * (10 ** ((low + (high - low) * n / (bands + 1)) / 2595) - 1) for n in range(bands + 2)]
    bins = np.fft.rfftfreq(window, 1 / SAMPLE_RATE)
    triangles = [np.interp(bins, edges[n : n + 3], [0, 1, 0]) for n in range(bands)]
    return np.array(triangles) @ stft(x, window=window, hop=hop, output="power", taper=taper)


def mfcc(x: NDArray[Any], *, coefficients: int = 13, lifter: float = 0.0, bands: int = 26, **how: Any) -> Floats:
    cepstra = dct(np.log(mel_spectrogram(x, bands=bands, **how) + 1e-10), type=2, norm="ortho", axis=0)[:coefficients]
    if lifter:
        cepstra = cepstra * (1 + lifter / 2 * np.sin(np.pi * np.arange(coefficients) / lifter))[:, np.newaxis]
    return cepstra


def wavelet(x: NDArray[Any], *, wavelet: str, levels: int) -> Floats:
    """PyWavelets' stationary transform of the signal after zeros enough, each level shifted to where it is causal."""
    padded = np.concatenate([np.zeros(2**levels * 64), x])
    padded = np.concatenate([padded, np.zeros(-len(padded) % 2**levels)])
    length = pywt.Wavelet(wavelet).dec_len
    pairs = pywt.swt(padded, wavelet, level=levels)  # the deepest first
    delays = [(2**level - 1) * length // 2 for level in range(levels, 0, -1)]
    bands = [np.roll(pairs[0][0], delays[0])]
    bands += [np.roll(detail, delay) for (_, detail), delay in zip(pairs, delays, strict=True)]
    begin = 2**levels * 64
    return np.stack(bands)[:, begin : begin + len(x)]


def wavelet_span(*, wavelet: str, levels: int) -> int:
    return (2**levels - 1) * (pywt.Wavelet(wavelet).dec_len - 1) + 1


def hilbert_envelope(x: NDArray[Any], *, taps: int) -> Floats:
    """One convolution with the transformer, tap by tap from its formula."""
    middle = taps // 2
    h = np.array([2 / np.pi / (n - middle) if (n - middle) % 2 else 0.0 for n in range(taps)]) * np.hamming(taps)
    delayed = np.concatenate([np.zeros(middle), x])[: len(x)]
    return np.sqrt(delayed**2 + np.convolve(x, h)[: len(x)] ** 2)


def all_bands(oracle: Any) -> Any:
    """Make an oracle of one that gives several channels of a single one."""

    def all_channels(x: Floats, **params: Any) -> Floats:
        return np.concatenate([oracle(own, **params) for own in x])

    return all_channels


FRAMING_REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"window": 1}, "window = 1: expected 2 to 65536 samples"),
    ({"window": 65537}, "window = 65537: expected 2 to 65536 samples"),
    ({"window": "5m"}, "window = '5m': expected a number of samples, or a duration"),
    ({"window": 64, "hop": 0}, "hop = 0: expected 1 to the window's 64 samples"),
    ({"window": 64, "hop": 65}, "hop = 65: expected 1 to the window's 64 samples"),
    ({"window": 1024, "hop": 3}, "hop = 3: expected at least 1/256 of the window's 1024 samples"),
    ({"window": 64, "hop": "5m"}, "hop = '5m': expected a number of samples, or a duration"),
    ({"window": 64, "taper": "kaiser"}, "Invalid enum value 'kaiser' - at `$.taper`"),
    ({}, "missing required field `window`"),
]

BANK_REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"window": 128, "bands": 0}, "bands = 0: expected 1 to 512"),
    ({"window": 128, "bands": 513}, "bands = 513: expected 1 to 512"),
    (
        {"window": 128, "frequency_range": (40.0, 30.0)},
        "frequency_range = [40.0, 30.0]: expected two rising frequencies from 0 Hz on",
    ),
    ({"window": 128, "frequency_range": (-1.0, 30.0)}, "expected two rising frequencies from 0 Hz on"),
    ({"window": 128, "frequency_range": (float("nan"), 30.0)}, "expected two rising frequencies from 0 Hz on"),
    (
        {"window": 128, "frequency_range": (0.0, 126.0)},
        "frequency_range = [0.0, 126.0]: expected at most half the sample rate, 125.0 Hz",
    ),
    (
        {"window": 32, "bands": 40},
        "bands = 40: band 0, 0 to 5.633 Hz, holds none of the bins, which lie 7.812 Hz apart; take fewer bands,",
    ),
]

CASES = {
    "fft": StageCase(
        refused=[
            ({"size": 1}, "size = 1: expected 2 to 65536 samples"),
            ({"size": 65537}, "size = 65537: expected 2 to 65536 samples"),
            ({"size": 64, "output": "complex"}, "Invalid enum value 'complex' - at `$.output`"),
            ({"size": 64, "hop": 32}, "hop = 32: fft sets its pace by its own parameters; leave it out"),
            ({"size": 64, "window": 32}, "unknown field `window`"),
            ({}, "missing required field `size`"),
        ],
        oracle=all_bands(fft),
        warm_up=lambda *, size, **_: size,
        atol=1e-10,
    ),
    "hilbert_envelope": StageCase(
        refused=[
            ({"taps": 64}, "taps = 64: expected an odd number of 3 to 16383"),
            ({"taps": 1}, "taps = 1: expected an odd number of 3 to 16383"),
            ({"taps": 16385}, "taps = 16385: expected an odd number"),
            ({"window": 65}, "unknown field `window`"),
        ],
        oracle=each_channel(hilbert_envelope),
        warm_up=lambda *, taps: taps,
        atol=1e-12,
    ),
    "mel_spectrogram": StageCase(
        refused=FRAMING_REFUSED + BANK_REFUSED,
        oracle=all_bands(mel_spectrogram),
        warm_up=lambda *, window, **_: window,
        atol=1e-10,
    ),
    "mfcc": StageCase(
        refused=[
            *FRAMING_REFUSED,
            *BANK_REFUSED[1:],
            ({"window": 128, "bands": 12}, "coefficients = 13: expected 1 to the 12 bands"),
            ({"window": 128, "coefficients": 0}, "coefficients = 0: expected 1 to the 26 bands"),
            ({"window": 128, "lifter": 0.5}, "lifter = 0.5: expected at least 1, or 0 for none"),
            ({"window": 128, "lifter": float("inf")}, "lifter = inf: expected at least 1, or 0 for none"),
        ],
        oracle=all_bands(mfcc),
        warm_up=lambda *, window, **_: window,
        atol=1e-9,
    ),
    "stft": StageCase(
        refused=[*FRAMING_REFUSED, ({"window": 64, "output": "psd"}, "Invalid enum value 'psd' - at `$.output`")],
        oracle=all_bands(stft),
        warm_up=lambda *, window, **_: window,
        atol=1e-10,
    ),
    "wavelet": StageCase(
        refused=[
            ({"wavelet": "db39"}, "wavelet = 'db39': expected a discrete wavelet of PyWavelets: haar, db1 to db38"),
            ({"wavelet": "morl"}, "wavelet = 'morl': expected a discrete wavelet of PyWavelets"),
            ({"levels": 0}, "levels = 0: expected 1 to 14 with wavelet db4"),
            ({"levels": 15}, "levels = 15: expected 1 to 14 with wavelet db4"),
            ({"wavelet": "haar", "levels": 18}, "levels = 18: expected 1 to 17 with wavelet haar"),
            ({"levels": 10**30}, "expected 1 to 14 with wavelet db4"),
            ({"level": 4}, "unknown field `level`"),
        ],
        oracle=all_bands(wavelet),
        warm_up=wavelet_span,
        atol=1e-10,
    ),
}
