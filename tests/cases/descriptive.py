"""Cases of measures that describe the last stretch of a series."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.signal import get_window, periodogram
from scipy.spatial.distance import cdist
from scipy.stats import kurtosis, skew

from app.dsp.stage import Floats
from tests.stage_cases import SAMPLE_RATE, StageCase, each_channel


def each_window(measure: Callable[..., Any]) -> Callable[..., Floats]:
    """Make an oracle of ``measure(windows, **params)``, of (windows, window) values; 0 before the first full one."""

    def oracle(x: Floats, *, window: int, lag: int = 0, **params: Any) -> Floats:
        own = {"lag": lag, **params} if lag else params
        values = np.array([measure(windows, **own) for windows in sliding_window_view(x, (1, window + lag))[:, :, 0]])
        values = values.reshape(len(x), x.shape[1] - window - lag + 1, -1)
        return np.concatenate([np.zeros((len(x), window + lag - 1, values.shape[2])), values], axis=1)

    return oracle


def each(measure: Callable[..., Any]) -> Callable[..., Floats]:
    """Make an oracle of ``measure(window, **params)``, of one window's values."""
    return each_window(lambda windows, **params: [measure(own, **params) for own in windows])


def hjorth(x: NDArray[Any], *, window: int) -> Floats:
    """The definition, window by window; 0 before the first full one."""
    values = np.zeros((len(x), 3))
    for n in range(window - 1, len(x)):
        own = x[n + 1 - window : n + 1]
        activity, first, second = (np.var(np.diff(own, times)) for times in range(3))
        mobility, mobility_of_first = np.sqrt(first / activity), np.sqrt(second / first)
        values[n] = activity, mobility, mobility_of_first / mobility
    return values


def of_equal_values_0(moment: Callable[..., Any]) -> Callable[..., Floats]:
    """Of equal values scipy gives NaN."""

    def measure(windows: Floats) -> Floats:
        with np.errstate(all="ignore"):
            return np.where(np.ptp(windows, axis=1) == 0, 0.0, moment(windows, axis=1))

    return measure


def shannon_entropy(x: Floats, bins: int = 256) -> float:
    """The definition over numpy's histogram."""
    counts, _ = np.histogram(x, bins)
    p = counts[counts > 0] / len(x)
    return -float(np.sum(p * np.log2(p)))


def templates(x: Floats, length: int, count: int, r: float) -> NDArray[np.bool_]:
    """Which pairs of the first ``count`` templates are alike."""
    runs = sliding_window_view(x, length)[:count]
    return cdist(runs, runs, "chebyshev") <= r * np.std(x)


def sample_entropy(x: Floats, m: int = 2, r: float = 0.2) -> float:
    """The definition; most where nothing is alike."""
    count = len(x) - m
    a, b = (templates(x, length, count, r).sum() - count for length in (m + 1, m))
    return float(np.log(b / a) if a else np.log(count * (count - 1) / 2))


def approximate_entropy(x: Floats, m: int = 2, r: float = 0.2) -> float:
    """The definition."""
    phi = [np.log(templates(x, length, len(x), r).mean(axis=1)).mean() for length in (m, m + 1)]
    return float(phi[0] - phi[1])


def burg(x: Floats, order: int) -> Floats:
    """Errors by the whole filter of each order, forward and backward; its last coefficient makes the next least."""
    x = x - x.mean()
    error, variance = np.ones(1), np.mean(x**2)
    for _ in range(order):
        forward = np.convolve(x, error, "valid")[1:]
        backward = np.convolve(x, error[::-1], "valid")[:-1]
        k = 2 * np.sum(forward * backward) / np.sum(forward**2 + backward**2) if variance else 0.0
        error = np.append(error, 0.0) - k * np.append(0.0, error[::-1])
        variance *= 1 - k**2
    return np.array([*-error[1:], variance])


def band_power(x: Floats, bands: dict[str, tuple[float, float]], relative: bool = False) -> Floats:
    """Lines of scipy's spectral density times their distance."""
    f, density = periodogram(x, SAMPLE_RATE, "hann", detrend="constant")
    rising = sorted(bands.values())
    inside = [(low <= f) & ((f < high) | (high == SAMPLE_RATE / 2)) for low, high in rising]
    power = np.stack([density[:, own].sum(axis=1) for own in inside], axis=-1) * f[1]
    return power / density.sum(axis=1, keepdims=True) / f[1] if relative else power


def spectrum(x: Floats) -> tuple[Floats, Floats]:
    """Frequencies of the lines, and magnitudes by the matrix of the transform."""
    n = x.shape[1]
    lines = np.arange(n // 2 + 1)
    matrix = np.exp(-2j * np.pi * np.outer(np.arange(n), lines) / n)
    taper = get_window("hann", n)
    return lines * SAMPLE_RATE / n, np.abs((x - x.mean(axis=1, keepdims=True)) * taper @ matrix) / taper.sum()


def spectral_centroid(x: Floats) -> Floats:
    """The definition; 0 of equal values."""
    f, magnitudes = spectrum(x)
    return np.where(np.ptp(x, axis=1) > 0, magnitudes @ f / magnitudes.sum(axis=1), 0.0)


def spectral_rolloff(x: Floats, share: float = 0.85) -> Floats:
    """The definition; 0 of equal values."""
    f, magnitudes = spectrum(x)
    below = np.cumsum(magnitudes, axis=1) < share * magnitudes.sum(axis=1, keepdims=True)
    return np.where(np.ptp(x, axis=1) > 0, f[below.sum(axis=1)], 0.0)


def spectral_flux(x: Floats, lag: int) -> Floats:
    """The definition."""
    return np.linalg.norm(spectrum(x[:, lag:])[1] - spectrum(x[:, :-lag])[1], axis=1)


def window_refusals(least: int, why: str, most: int = 1 << 20, **others: Any) -> list[tuple[dict[str, Any], str]]:
    """What every measure refuses of its window."""
    return [
        ({"window": least - 1, **others}, f"window = {least - 1}: expected {least} to {most} samples; {why}"),
        ({"window": most + 1, **others}, f"window = {most + 1}: expected {least} to {most} samples"),
        ({"window": 9.5, **others}, "Expected `int`, got `float` - at `$.window`"),
        ({"window": "9 Hz", **others}, "window = '9 Hz': expected a number of samples, or a duration"),
        ({**others}, "missing required field `window`"),
        ({"window": 50, **others, "size": 1}, "unknown field `size`"),
    ]


TEMPLATES_REFUSED = [
    *window_refusals(4, "m = 2 takes two templates of 3", most=2048),
    ({"window": 6, "m": 5}, "window = 6: expected 7 to 2048 samples; m = 5 takes two templates of 6"),
    ({"window": 50, "m": 0}, "m = 0: expected 1 to 10"),
    ({"window": 50, "m": 11}, "m = 11: expected 1 to 10"),
    ({"window": 50, "r": 0.0}, "r = 0.0: expected above 0, at most 10"),
    ({"window": 50, "r": 11.0}, "r = 11.0: expected above 0, at most 10"),
    ({"window": 50, "r": float("nan")}, "r = nan: expected above 0, at most 10"),
]
SPECTRUM_TOO_SHORT = "a Hann window leaves nothing of fewer"
BANDS = {"alpha": (8.0, 13.0)}


CASES = {
    "approximate_entropy": StageCase(
        refused=TEMPLATES_REFUSED,
        oracle=each(approximate_entropy),
        warm_up=lambda *, window, **_: window,
        atol=1e-12,
    ),
    "ar_coefficients": StageCase(
        refused=[
            *window_refusals(8, "order = 4 takes twice as many", order=4),
            ({"window": 50, "order": 0}, "order = 0: expected 1 to 64"),
            ({"window": 500, "order": 65}, "order = 65: expected 1 to 64"),
            ({"window": 50}, "missing required field `order`"),
        ],
        oracle=each(burg),
        warm_up=lambda *, window, order: window,
        atol=1e-12,
    ),
    "band_power": StageCase(
        refused=[
            *window_refusals(4, SPECTRUM_TOO_SHORT, bands=BANDS),
            ({"window": 250}, "missing required field `bands`"),
            ({"window": 250, "bands": {}}, "bands: 0 of them, expected 1 to 64"),
            ({"window": 250, "bands": {f"b{n}": (1.0, 9.0) for n in range(65)}}, "bands: 65 of them, expected 1 to 64"),
            ({"window": 250, "bands": {"a-b": (1.0, 2.0)}}, "bands: 'a-b': expected an identifier for its name"),
            (
                {"window": 250, "bands": {"a": (4.0, 4.0)}},
                "bands: a = [4.0, 4.0]: expected two rising frequencies",
            ),
            ({"window": 250, "bands": {"a": (-1.0, 4.0)}}, "bands: a = [-1.0, 4.0]: expected two rising frequencies"),
            ({"window": 250, "bands": {"a": (1.0, float("nan"))}}, "bands: a = [1.0, nan]: expected two rising"),
            ({"window": 250, "bands": {"a": (1.0, float("inf"))}}, "bands: a = [1.0, inf]: expected two rising"),
            ({"window": 250, "bands": {"a": (1.0,)}}, "Expected `array` of length 2, got 1 - at `$.bands[...]`"),
            ({"window": 250, "bands": {"a": (1.0, 126.0)}}, "a = [1.0, 126.0]: expected at most half the sample rate"),
            ({"window": 100, "bands": {"a": (3.0, 4.5)}}, "a = [3.0, 4.5]: holds no multiple of 2.5 Hz"),
            ({"window": 250, "bands": BANDS, "relative": 1}, "Expected `bool`, got `int` - at `$.relative`"),
        ],
        oracle=each_window(band_power),
        warm_up=lambda *, window, **_: window,
    ),
    "hjorth": StageCase(
        refused=[
            *window_refusals(3, "two differences are taken"),
            ({"window": True}, "Expected `int`, got `bool` - at `$.window`"),
            ({"window": 5, "ddof": 1}, "unknown field `ddof`"),
        ],
        oracle=each_channel(hjorth),
        warm_up=lambda *, window: window,
    ),
    "kurtosis": StageCase(
        refused=window_refusals(4, "of two values or three it is always the same"),
        oracle=each_window(of_equal_values_0(kurtosis)),
        warm_up=lambda *, window: window,
        atol=1e-12,
    ),
    "sample_entropy": StageCase(
        refused=TEMPLATES_REFUSED,
        oracle=each(sample_entropy),
        warm_up=lambda *, window, **_: window,
    ),
    "shannon_entropy": StageCase(
        refused=[
            *window_refusals(2, "one value has no distribution"),
            ({"window": 50, "bins": 1}, "bins = 1: expected 2 to 4096"),
            ({"window": 50, "bins": 4097}, "bins = 4097: expected 2 to 4096"),
        ],
        oracle=each(shannon_entropy),
        warm_up=lambda *, window, **_: window,
    ),
    "skewness": StageCase(
        refused=window_refusals(3, "two values are always symmetric"),
        oracle=each_window(of_equal_values_0(skew)),
        warm_up=lambda *, window: window,
        atol=1e-12,
    ),
    "spectral_centroid": StageCase(
        refused=window_refusals(4, SPECTRUM_TOO_SHORT),
        oracle=each_window(spectral_centroid),
        warm_up=lambda *, window: window,
    ),
    "spectral_flux": StageCase(
        refused=[
            *window_refusals(4, SPECTRUM_TOO_SHORT, lag=5),
            ({"window": 50}, "missing required field `lag`"),
            ({"window": 50, "lag": 0}, "lag = 0: expected 1 to 1048576 samples"),
            ({"window": 50, "lag": "1 m"}, "lag = '1 m': expected a number of samples, or a duration"),
            ({"window": 50, "lag": 1048577}, "lag = 1048577: expected 1 to 1048576 samples"),
        ],
        oracle=each_window(spectral_flux),
        warm_up=lambda *, window, lag: window + lag,
        atol=1e-14,
    ),
    "spectral_rolloff": StageCase(
        refused=[
            *window_refusals(4, SPECTRUM_TOO_SHORT),
            ({"window": 50, "share": 0.0}, "share = 0.0: expected between 0 and 1"),
            ({"window": 50, "share": 1.0}, "share = 1.0: expected between 0 and 1"),
            ({"window": 50, "share": float("nan")}, "share = nan: expected between 0 and 1"),
        ],
        oracle=each_window(spectral_rolloff),
        warm_up=lambda *, window, **_: window,
    ),
}
