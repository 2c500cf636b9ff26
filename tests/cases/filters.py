"""Cases of linear filters."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.signal import bessel, bilinear, butter, cheby1, cheby2, ellip, lfilter, remez, sosfilt

from app.dsp.stage import Floats
from tests.stage_cases import SAMPLE_RATE, StageCase, each_channel


def filtered(sos: Any, x: NDArray[Any]) -> Floats:
    return np.asarray(sosfilt(sos, x))


def edges(cutoff: tuple[float, ...]) -> Any:
    return cutoff if len(cutoff) > 1 else cutoff[0]


def butterworth(x: NDArray[Any], *, order: int, cutoff: tuple[float, ...], btype: str) -> Floats:
    """One call of scipy over the whole signal, as for those that follow."""
    return filtered(butter(order, edges(cutoff), btype, fs=SAMPLE_RATE, output="sos"), x)


def chebyshev1(x: NDArray[Any], *, order: int, cutoff: Any, ripple: float, btype: str = "lowpass") -> Floats:
    return filtered(cheby1(order, ripple, edges(cutoff), btype, fs=SAMPLE_RATE, output="sos"), x)


def chebyshev2(x: NDArray[Any], *, order: int, cutoff: Any, attenuation: float, btype: str = "lowpass") -> Floats:
    return filtered(cheby2(order, attenuation, edges(cutoff), btype, fs=SAMPLE_RATE, output="sos"), x)


def elliptic(
    x: NDArray[Any], *, order: int, cutoff: Any, ripple: float, attenuation: float, btype: str = "lowpass"
) -> Floats:
    return filtered(ellip(order, ripple, attenuation, edges(cutoff), btype, fs=SAMPLE_RATE, output="sos"), x)


def bessel_thomson(x: NDArray[Any], *, order: int, cutoff: Any, btype: str = "lowpass") -> Floats:
    return filtered(bessel(order, edges(cutoff), btype, fs=SAMPLE_RATE, output="sos", norm="mag"), x)


def notch(x: NDArray[Any], *, frequency: float, q: float = 30.0) -> Floats:
    """Half the sum of the signal and a second-order all-pass of it (Regalia, Mitra & Vaidyanathan 1988)."""
    turn = np.tan(np.pi * frequency / SAMPLE_RATE / q)
    k1, k2 = -np.cos(2 * np.pi * frequency / SAMPLE_RATE), (1 - turn) / (1 + turn)
    a = [1, k1 * (1 + k2), k2]
    return np.asarray((x + lfilter(a[::-1], a, x)) / 2)


def analogue(x: NDArray[Any], frequency: float, b: list[float], a: list[float]) -> Floats:
    """Through the bilinear transform of a prototype for 1 rad/s, with ``frequency`` put where it is to be."""
    powers = np.tan(np.pi * frequency / SAMPLE_RATE) ** np.arange(3)
    return np.asarray(lfilter(*bilinear(b * powers, a * powers, fs=0.5), x))


def biquad_peak(x: NDArray[Any], *, frequency: float, gain: float, q: float = 0.5**0.5) -> Floats:
    a = 10 ** (gain / 40)
    return analogue(x, frequency, [1, a / q, 1], [1, 1 / a / q, 1])


def low_shelf(x: NDArray[Any], *, frequency: float, gain: float, q: float = 0.5**0.5) -> Floats:
    a = 10 ** (gain / 40)
    return analogue(x, frequency, [a, a * a**0.5 / q, a * a], [a, a**0.5 / q, 1])


def high_shelf(x: NDArray[Any], *, frequency: float, gain: float, q: float = 0.5**0.5) -> Floats:
    a = 10 ** (gain / 40)
    return analogue(x, frequency, [a * a, a * a**0.5 / q, a], [1, a**0.5 / q, a])


def windowed_sinc(
    x: NDArray[Any],
    *,
    taps: int,
    cutoff: tuple[float, ...],
    btype: str = "lowpass",
    window: str = "hamming",
    beta: float | None = None,
) -> Floats:
    """The window method, as sums and differences of low-passes."""
    n = np.arange(taps) - (taps - 1) / 2

    def low_pass(edge: float) -> Floats:
        return np.asarray(2 * edge / SAMPLE_RATE * np.sinc(2 * edge / SAMPLE_RATE * n))

    everything = np.sinc(n)
    ideal, middle = {
        "lowpass": lambda: (low_pass(cutoff[0]), 0.0),
        "highpass": lambda: (everything - low_pass(cutoff[0]), SAMPLE_RATE / 2),
        "bandpass": lambda: (low_pass(cutoff[1]) - low_pass(cutoff[0]), sum(cutoff) / 2),
        "bandstop": lambda: (low_pass(cutoff[0]) + everything - low_pass(cutoff[1]), 0.0),
    }[btype]()
    shape = {
        "bartlett": np.bartlett,
        "hann": np.hanning,
        "hamming": np.hamming,
        "blackman": np.blackman,
        "kaiser": lambda taps: np.kaiser(taps, beta or 0.0),
    }[window](taps)
    h = ideal * shape
    h = h / np.sum(h * np.cos(2 * np.pi * middle / SAMPLE_RATE * n))
    return np.asarray(np.convolve(x, h)[: len(x)])


def fir_optimal(
    x: NDArray[Any], *, taps: int, bands: tuple[float, ...], desired: Any, weights: tuple[float, ...] | None = None
) -> Floats:
    h = remez(taps, bands, desired, weight=weights, maxiter=250, fs=SAMPLE_RATE)
    return np.asarray(np.convolve(x, h)[: len(x)])


def convolution(x: NDArray[Any], *, kernel: tuple[float, ...]) -> Floats:
    return np.asarray(np.convolve(x, kernel)[: len(x)])


def bark(f: float) -> float:
    return 26.81 * f / (1960 + f) - 0.53


#: Each scale and its inverse.
SCALES = {
    "linear": (float, float),
    "log": (np.log, np.exp),
    "mel": (lambda f: 2595 * np.log10(1 + f / 700), lambda z: 700 * (10 ** (z / 2595) - 1)),
    "bark": (bark, lambda z: 1960 / (26.81 / (z + 0.53) - 1)),
}


def filter_bank(x: NDArray[Any], *, count: int, scale: str = "linear", order: int = 2, **own: Any) -> Floats:
    (to_scale, to_hz), ends = SCALES[scale], own["range"]
    limits = [to_hz(z) for z in np.linspace(to_scale(ends[0]), to_scale(ends[1]), count + 1)]
    bands = list(pairwise(limits))
    return np.stack(
        [butterworth(channel, order=order, cutoff=band, btype="bandpass") for channel in x for band in bands]
    )


def refused_of_a_band_filter(**own: float) -> list[tuple[dict[str, Any], str]]:
    """Order and edges that every recursive design refuses; ``own`` are its other parameters."""
    return [
        ({"order": order, "cutoff": cutoff, **own, **btype}, text)
        for order, cutoff, btype, text in (
            (0, (5.0,), {}, "order = 0: expected 1 to 16"),
            (17, (5.0,), {}, "order = 17: expected 1 to 16"),
            (2, (5.0, 6.0), {}, "cutoff = [5.0, 6.0]: lowpass takes 1 edge(s) in Hz"),
            (2, (5.0,), {"btype": "bandstop"}, "cutoff = [5.0]: bandstop takes 2 edge(s) in Hz"),
            (2, (6.0, 5.0), {"btype": "bandpass"}, "cutoff = [6.0, 5.0]: expected rising frequencies above 0 Hz"),
            (2, (float("nan"),), {}, "cutoff = [nan]: expected rising frequencies above 0 Hz"),
            (2, (125.0,), {}, "cutoff = [125.0]: expected below half the sample rate, 125.0 Hz"),
            (8, (1e-7,), {}, "cutoff = [1e-07]: expected edges farther from 0 Hz, from half the sample rate and from"),
            (2, (5.0,), {"btype": "notch"}, "Invalid enum value 'notch' - at `$.btype`"),
        )
    ] + [
        ({"cutoff": (5.0,), **own}, "missing required field `order`"),
        ({"order": 2, "cutoff": (5.0,), **own, "width": 1}, "unknown field `width`"),
    ]


def refused_out_of_range(
    name: str, low: float, high: float, text: str, **rest: Any
) -> list[tuple[dict[str, Any], str]]:
    values = low, high, float("nan"), float("inf")
    return [({**rest, name: value}, f"{name} = {value}: expected {text}") for value in values] + [
        (rest, f"missing required field `{name}`")
    ]


def refused_of_a_biquad(**own: float) -> list[tuple[dict[str, Any], str]]:
    return [
        ({"frequency": 0.0, **own}, "frequency = 0.0: expected Hz above 0"),
        ({"frequency": float("nan"), **own}, "frequency = nan: expected Hz above 0"),
        ({"frequency": 125.0, **own}, "frequency = 125.0: expected below half the sample rate, 125.0 Hz"),
        ({"frequency": float("inf"), **own}, "frequency = inf: expected below half the sample rate, 125.0 Hz"),
        ({"frequency": 1e-14, **own, "q": 90.0}, "frequency = 1e-14: expected farther from 0 Hz"),
        ({"frequency": 5.0, **own, "width": 1}, "unknown field `width`"),
        (own, "missing required field `frequency`"),
    ]


def equaliser(oracle: Any) -> StageCase:
    rest = {"frequency": 5.0, "gain": 6.0}
    return StageCase(
        refused=[
            *refused_of_a_biquad(gain=6.0),
            *refused_out_of_range("gain", -61.0, 61.0, "-60 to 60 dB", frequency=5.0),
            *refused_out_of_range("q", 0.05, 101.0, "0.1 to 100", **rest)[:-1],
        ],
        oracle=each_channel(oracle),
        warm_up=lambda **_: 1,
        atol=1e-11,
    )


CASES = {
    "bessel": StageCase(
        refused=refused_of_a_band_filter(),
        oracle=each_channel(bessel_thomson),
        warm_up=lambda **_: 1,
    ),
    "biquad_peak": equaliser(biquad_peak),
    "butterworth": StageCase(
        refused=[
            ({"order": 0, "cutoff": (5.0,)}, "order = 0: expected 1 to 16"),
            ({"order": 17, "cutoff": (5.0,)}, "order = 17: expected 1 to 16"),
            ({"order": 2.5, "cutoff": (5.0,)}, "Expected `int`, got `float` - at `$.order`"),
            ({"order": 2, "cutoff": ()}, "cutoff = []: lowpass takes 1 edge(s) in Hz"),
            ({"order": 2, "cutoff": (5.0, 6.0)}, "cutoff = [5.0, 6.0]: lowpass takes 1 edge(s) in Hz"),
            ({"order": 2, "cutoff": (5.0,), "btype": "bandpass"}, "cutoff = [5.0]: bandpass takes 2 edge(s) in Hz"),
            ({"order": 2, "cutoff": (0.0,)}, "cutoff = [0.0]: expected rising frequencies above 0 Hz"),
            ({"order": 2, "cutoff": (-5.0,)}, "cutoff = [-5.0]: expected rising frequencies above 0 Hz"),
            ({"order": 2, "cutoff": (float("nan"),)}, "cutoff = [nan]: expected rising frequencies above 0 Hz"),
            ({"order": 2, "cutoff": (6.0, 5.0), "btype": "bandstop"}, "expected rising frequencies above 0 Hz"),
            ({"order": 2, "cutoff": (5.0, 5.0), "btype": "bandstop"}, "expected rising frequencies above 0 Hz"),
            ({"order": 2, "cutoff": (125.0,)}, "cutoff = [125.0]: expected below half the sample rate, 125.0 Hz"),
            ({"order": 2, "cutoff": (float("inf"),)}, "cutoff = [inf]: expected below half the sample rate, 125.0 Hz"),
            ({"order": 2, "cutoff": (5.0,), "btype": "notch"}, "Invalid enum value 'notch' - at `$.btype`"),
            ({"order": 8, "cutoff": (1e-7,)}, "cutoff = [1e-07]: expected edges farther from 0 Hz"),
            (
                {"order": 2, "cutoff": (5.0, 5.0 + 1e-14), "btype": "bandpass"},
                "or a lower order than 2: numbers have too",
            ),
            ({"order": 2}, "missing required field `cutoff`"),
            ({"order": 2, "cutof": (5.0,)}, "unknown field `cutof`"),
            ({"order": 2, "cutoff": (5.0,), "ripple": 1}, "unknown field `ripple`"),
        ],
        oracle=each_channel(butterworth),
        warm_up=lambda **_: 1,
    ),
    "chebyshev1": StageCase(
        refused=[
            *refused_of_a_band_filter(ripple=1.0),
            *refused_out_of_range("ripple", 0.0, 3.5, "0.001 to 3 dB", order=2, cutoff=(5.0,)),
        ],
        oracle=each_channel(chebyshev1),
        warm_up=lambda **_: 1,
    ),
    "chebyshev2": StageCase(
        refused=[
            *refused_of_a_band_filter(attenuation=40.0),
            *refused_out_of_range("attenuation", 9.0, 161.0, "10 to 160 dB", order=2, cutoff=(5.0,)),
        ],
        oracle=each_channel(chebyshev2),
        warm_up=lambda **_: 1,
    ),
    "convolution": StageCase(
        refused=[
            ({"kernel": ()}, "kernel = [...]: 0 numbers: expected 1 to 16384"),
            ({"kernel": (0.0,) * 16385}, "kernel = [...]: 16385 numbers: expected 1 to 16384"),
            ({"kernel": (1.0, float("nan"))}, "kernel[1] = nan: expected a finite number"),
            ({"kernel": (float("-inf"),)}, "kernel[0] = -inf: expected a finite number"),
            ({"kernel": 2.0}, "Expected `array`, got `float` - at `$.kernel`"),
            ({"kernel": (1.0,), "mode": "full"}, "unknown field `mode`"),
            ({}, "missing required field `kernel`"),
        ],
        oracle=each_channel(convolution),
        warm_up=lambda **_: 1,
        atol=1e-13,
    ),
    "elliptic": StageCase(
        refused=[
            *refused_of_a_band_filter(ripple=1.0, attenuation=40.0),
            *refused_out_of_range("ripple", 0.0, 3.5, "0.001 to 3 dB", order=2, cutoff=(5.0,), attenuation=40.0),
            *refused_out_of_range("attenuation", 9.0, 161.0, "10 to 160 dB", order=2, cutoff=(5.0,), ripple=1.0),
        ],
        oracle=each_channel(elliptic),
        warm_up=lambda **_: 1,
    ),
    "filter_bank": StageCase(
        refused=[
            ({"count": 0, "range": (1.0, 40.0)}, "count = 0: expected 1 to 64"),
            ({"count": 65, "range": (1.0, 40.0)}, "count = 65: expected 1 to 64"),
            ({"count": 4, "range": (0.0, 40.0)}, "range = [0.0, 40.0]: expected rising frequencies above 0 Hz"),
            ({"count": 4, "range": (40.0, 1.0)}, "range = [40.0, 1.0]: expected rising frequencies above 0 Hz"),
            ({"count": 4, "range": (1.0, float("nan"))}, "range = [1.0, nan]: expected rising frequencies above 0 Hz"),
            (
                {"count": 4, "range": (1.0, 125.0)},
                "range = [1.0, 125.0]: expected below half the sample rate, 125.0 Hz",
            ),
            ({"count": 4, "range": (1.0,)}, "Expected `array` of length 2, got 1 - at `$.range`"),
            ({"count": 4, "range": (1.0, 40.0), "order": 0}, "order = 0: expected 1 to 16"),
            ({"count": 4, "range": (1.0, 40.0), "scale": "erb"}, "Invalid enum value 'erb' - at `$.scale`"),
            ({"count": 2, "range": (1e-7, 3e-7)}, "a band's cutoff = [1e-07, 2e-07]: expected edges farther from 0"),
            ({"range": (1.0, 40.0)}, "missing required field `count`"),
            ({"count": 4, "range": (1.0, 40.0), "width": 1}, "unknown field `width`"),
        ],
        oracle=filter_bank,
        warm_up=lambda **_: 1,
        atol=1e-12,
    ),
    "fir": StageCase(
        refused=[
            ({"taps": 2, "cutoff": (5.0,)}, "taps = 2: expected 3 to 16384"),
            ({"taps": 16385, "cutoff": (5.0,)}, "taps = 16385: expected 3 to 16384"),
            ({"taps": 50, "cutoff": (5.0,), "btype": "highpass"}, "taps = 50: expected an odd number for a highpass"),
            (
                {"taps": 50, "cutoff": (5.0, 6.0), "btype": "bandstop"},
                "taps = 50: expected an odd number for a bandstop",
            ),
            ({"taps": 51, "cutoff": (5.0, 6.0)}, "cutoff = [5.0, 6.0]: lowpass takes 1 edge(s) in Hz"),
            ({"taps": 51, "cutoff": (0.0,)}, "cutoff = [0.0]: expected rising frequencies above 0 Hz"),
            ({"taps": 51, "cutoff": (125.0,)}, "cutoff = [125.0]: expected below half the sample rate, 125.0 Hz"),
            (
                {"taps": 51, "cutoff": (5.0,), "window": "kaiser"},
                "beta = None: expected with window = 'kaiser', and only",
            ),
            ({"taps": 51, "cutoff": (5.0,), "beta": 5.0}, "beta = 5.0: expected with window = 'kaiser', and only then"),
            ({"taps": 51, "cutoff": (5.0,), "window": "kaiser", "beta": -1.0}, "beta = -1.0: expected 0 to 50"),
            ({"taps": 51, "cutoff": (5.0,), "window": "kaiser", "beta": float("nan")}, "beta = nan: expected 0 to 50"),
            ({"taps": 51, "cutoff": (5.0,), "window": "boxcar"}, "Invalid enum value 'boxcar' - at `$.window`"),
            ({"taps": 51.5, "cutoff": (5.0,)}, "Expected `int`, got `float` - at `$.taps`"),
            ({"cutoff": (5.0,)}, "missing required field `taps`"),
            ({"taps": 51, "cutoff": (5.0,), "width": 1}, "unknown field `width`"),
        ],
        oracle=each_channel(windowed_sinc),
        warm_up=lambda **_: 1,
        atol=1e-13,
    ),
    "fir_optimal": StageCase(
        refused=[
            ({"taps": 51, "bands": bands, "desired": (1.0, 0.0)} | more, text)
            for bands, more, text in (
                ((0.0, 30.0, 38.0, 125.0), {"taps": 2}, "taps = 2: expected 3 to 1024"),
                ((0.0, 30.0, 38.0, 125.0), {"taps": 1025}, "taps = 1025: expected 3 to 1024"),
                ((0.0, 30.0, 38.0), {}, "bands = [0.0, 30.0, 38.0]: expected two edges in Hz for each"),
                ((0.0, 30.0, 30.0, 125.0), {}, "bands = [0.0, 30.0, 30.0, 125.0]: expected rising frequencies from 0"),
                (
                    (-1.0, 30.0, 38.0, 125.0),
                    {},
                    "bands = [-1.0, 30.0, 38.0, 125.0]: expected rising frequencies from 0",
                ),
                ((0.0, 30.0, 38.0, float("nan")), {}, "expected rising frequencies from 0 Hz on"),
                ((0.0, 30.0, 38.0, 125.5), {}, "expected up to half the sample rate, 125.0 Hz"),
                (
                    (0.0, 30.0, 38.0, 125.0),
                    {"desired": (1.0,)},
                    "desired = [1.0]: expected gains of up to 1e6, not all",
                ),
                (
                    (0.0, 30.0, 38.0, 125.0),
                    {"desired": (0.0, 0.0)},
                    "desired = [0.0, 0.0]: expected gains of up to 1e6",
                ),
                ((0.0, 30.0, 38.0, 125.0), {"desired": (1.0, float("nan"))}, "desired = [1.0, nan]: expected gains of"),
                (
                    (0.0, 30.0, 38.0, 125.0),
                    {"weights": (1.0,)},
                    "weights = [1.0]: expected numbers of 1e-6 to 1e6 for 2",
                ),
                (
                    (0.0, 30.0, 38.0, 125.0),
                    {"weights": (1.0, 0.0)},
                    "weights = [1.0, 0.0]: expected numbers of 1e-6 to",
                ),
                ((0.0, 30.0, 38.0, 125.0), {"taps": 50, "desired": (0.0, 1.0)}, "taps = 50: expected an odd number"),
                # No error is left that counts; the gain between the bands is 10,000.
                ((0.0, 20.0, 60.0, 125.0), {"taps": 501}, "taps = 501: expected another number, or other bands than"),
                ((0.0, 20.0, 25.0, 100.0), {}, "taps = 51: expected another number, or other bands than"),
                ((0.0, 30.0, 38.0, 125.0), {"width": 1}, "unknown field `width`"),
            )
        ],
        oracle=each_channel(fir_optimal),
        warm_up=lambda **_: 1,
        atol=1e-13,
    ),
    "high_shelf": equaliser(high_shelf),
    "low_shelf": equaliser(low_shelf),
    "notch": StageCase(
        refused=[
            *refused_of_a_biquad(),
            *refused_out_of_range("q", 0.05, 20_000.0, "0.1 to 10000", frequency=5.0)[:-1],
            ({"frequency": 100.0, "q": 0.5}, "q = 0.5: expected above 0.8, for a width below half the sample rate"),
        ],
        oracle=each_channel(notch),
        warm_up=lambda **_: 1,
        atol=1e-11,
    ),
}
