"""Cases of moving and running statistics."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter1d, minimum_filter1d

from app.dsp.stage import Floats
from tests.stage_cases import StageCase, each_channel

Series = NDArray[Any]


def windowed(of: Callable[[Series], Any]) -> Callable[..., Floats]:
    """Make an oracle that takes a value of every window, over what has been seen of it."""

    def series(x: Series, *, window: int) -> Floats:
        return np.array([of(x[max(0, n + 1 - window) : n + 1]) for n in range(len(x))])

    return each_channel(series)


def zscore(x: Series, *, window: int, epsilon: float = 1e-6) -> Floats:
    scores = np.zeros(len(x))
    for n in range(len(x)):
        own = x[max(0, n + 1 - window) : n + 1]
        if own.std() >= epsilon:
            scores[n] = (x[n] - own.mean()) / own.std()
    return scores


def extreme(of: Callable[..., Any], nothing: float) -> Callable[..., Floats]:
    """Make an oracle of one of scipy's filters, which lies around its sample."""

    def series(x: Floats, *, window: int) -> Floats:
        return np.asarray(of(x, window, mode="constant", cval=nothing, origin=(window - 1) // 2))

    return series


def ema(x: Series, *, alpha: float) -> Floats:
    values = [x[0]]
    for sample in x[1:]:
        values.append(alpha * sample + (1 - alpha) * values[-1])
    return np.array(values)


def cma(x: Series) -> Floats:
    return np.array([math.fsum(x[:n]) / n for n in range(1, len(x) + 1)])


def last_slots(slots: Series, window: int) -> Floats:
    return np.array([slots[max(0, n + 1 - window) : n + 1].sum() for n in range(len(slots))])


def waveform_length(x: Series, *, window: int) -> Floats:
    return last_slots(np.abs(np.ediff1d(x, to_begin=0)), window)


def willison_amplitude(x: Series, *, window: int, threshold: float = 0.0) -> Floats:
    return last_slots(np.abs(np.ediff1d(x, to_begin=0)) > threshold, window)


def slope_sign_changes(x: Series, *, window: int, threshold: float = 0.0) -> Floats:
    turns = [n >= 2 and (x[n - 1] - x[n - 2]) * (x[n - 1] - x[n]) > threshold for n in range(len(x))]
    return last_slots(np.array(turns, dtype=np.float64), window)


def linear_regression(x: Series, *, window: int) -> Floats:
    values = np.zeros((len(x), 4))
    for n in range(1, len(x)):
        own = x[max(0, n + 1 - window) : n + 1]
        slope, intercept = np.polyfit(np.arange(len(own)), own, 1)
        prediction = intercept + slope * (len(own) - 1)
        values[n] = slope, intercept, x[n] - prediction, prediction
    return values


def snr(x: Floats, *, window: int) -> Floats:
    values = []
    for n in range(x.shape[1]):
        signal, noise = np.mean(x[:, max(0, n + 1 - window) : n + 1] ** 2, axis=1)
        ratio = 10 * math.log10((signal + 1e-10) / (noise + 1e-10))
        values.append(100.0 if noise < 1e-10 else min(max(ratio, -100.0), 100.0))
    return np.array([values])


def refused_windows(least: int = 1, **others: Any) -> list[tuple[dict[str, Any], str]]:
    """Parameters of which the window is to be refused; ``others`` are what the stage cannot do without."""
    return [
        ({"window": window, **others}, text)
        for window, text in [
            (least - 1, f"window = {least - 1}: expected {least} to 1048576 samples"),
            (-5, f"window = -5: expected {least} to 1048576 samples"),
            (2**20 + 1, f"window = 1048577: expected {least} to 1048576 samples"),
            (2.5, "Expected `int`, got `float` - at `$.window`"),
            (True, "Expected `int`, got `bool` - at `$.window`"),
            ("5", "window = '5': expected a number of samples, or a duration"),
        ]
    ] + [(dict(others), "missing required field `window`"), ({"window": 5, "windw": 5, **others}, "field `windw`")]


REFUSED_THRESHOLDS = [
    ({"window": 5, "threshold": threshold}, f"threshold = {threshold}: expected a finite number, at least 0")
    for threshold in (-0.1, math.inf, math.nan)
]
REFUSED_ALPHAS = [({"alpha": alpha}, f"alpha = {alpha}: expected above 0") for alpha in (0.0, -0.5, 1.01, math.nan)]


def moving(oracle: Callable[..., Floats], **more: Any) -> StageCase:
    """Case of a stage whose only parameter is a window."""
    return StageCase(refused_windows(), oracle, lambda *, window: window, **more)


CASES = {
    "cma": StageCase(
        refused=[({"window": 5}, "unknown field `window`")],
        oracle=each_channel(cma),
        warm_up=lambda: 1,
        atol=1e-15,
    ),
    "ema": StageCase(
        refused=[
            *REFUSED_ALPHAS,
            ({"alpha": "0.5"}, "Expected `float`, got `str` - at `$.alpha`"),
            ({}, "missing required field `alpha`"),
            ({"alpha": 0.5, "window": 5}, "unknown field `window`"),
        ],
        oracle=each_channel(ema),
        warm_up=lambda *, alpha: 1,
    ),
    "linear_regression": StageCase(
        refused=[*refused_windows(2), ({"window": 5, "output": "slope"}, "unknown field `output`")],
        oracle=each_channel(linear_regression),
        warm_up=lambda *, window: window,
        atol=1e-13,
    ),
    "moving_mav": moving(windowed(lambda own: np.mean(np.abs(own)))),
    "moving_max": moving(extreme(maximum_filter1d, -math.inf)),
    "moving_mean": moving(windowed(np.mean), atol=1e-15),
    "moving_min": moving(extreme(minimum_filter1d, math.inf)),
    "moving_rms": moving(windowed(lambda own: np.sqrt(np.mean(own**2)))),
    "moving_variance": moving(windowed(np.var), atol=1e-15),
    "moving_zscore": StageCase(
        refused=[
            *refused_windows(),
            ({"window": 5, "epsilon": 0.0}, "epsilon = 0.0: expected a finite number above 0"),
            ({"window": 5, "epsilon": math.inf}, "epsilon = inf: expected a finite number above 0"),
            ({"window": 5, "epsilon": math.nan}, "epsilon = nan: expected a finite number above 0"),
        ],
        oracle=each_channel(zscore),
        warm_up=lambda *, window, epsilon=1e-6: window,
        atol=1e-12,
    ),
    "slope_sign_changes": StageCase(
        refused=[*refused_windows(), *REFUSED_THRESHOLDS],
        oracle=each_channel(slope_sign_changes),
        warm_up=lambda *, window, threshold=0.0: window + 2,
    ),
    "snr": StageCase(
        refused=[*refused_windows()],
        oracle=snr,
        warm_up=lambda *, window: window,
        atol=1e-12,
        channels=2,
    ),
    "waveform_length": StageCase(
        refused=refused_windows(),
        oracle=each_channel(waveform_length),
        warm_up=lambda *, window: window + 1,
    ),
    "willison_amplitude": StageCase(
        refused=[*refused_windows(), *REFUSED_THRESHOLDS],
        oracle=each_channel(willison_amplitude),
        warm_up=lambda *, window, threshold=0.0: window + 1,
    ),
}
