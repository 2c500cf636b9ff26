"""Cases of beats, what is measured of them, signal quality and activity."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.signal import butter, sosfilt

from app.dsp.durations import samples_of
from app.dsp.stage import Floats
from tests.pan_tompkins import beats_told
from tests.physiology import hrv_of, qualities
from tests.stage_cases import SAMPLE_RATE, StageCase, each_channel


def samples(given: int | str, default: str) -> int:
    return given or samples_of(default, SAMPLE_RATE) if isinstance(given, int) else samples_of(given, SAMPLE_RATE)


def r_peaks(x: NDArray[Any], *, delay: int | str = 0, threshold: float = 0.125) -> Floats:
    return beats_told(x, SAMPLE_RATE, samples(delay, "1s"), threshold)


def beats_in_windows(x: NDArray[Any], window: int) -> list[NDArray[np.intp]]:
    """Places of the beats in the window that ends at each sample; of a busy window the last five a second."""
    high = np.concatenate([[False], x > 0.5])
    places = np.flatnonzero(high[1:] & ~high[:-1])
    most = int(np.ceil(5 * window / SAMPLE_RATE)) + 1
    return [places[(places <= n) & (places > n - window)][-most:] for n in range(len(x))]


def rr_interval(x: NDArray[Any], *, window: int | str = 0) -> Floats:
    length = samples(window, "4s")
    values = np.zeros((len(x), 2))
    for n, beats in enumerate(beats_in_windows(x, length)):
        values[n, 0] = beats[-1] - beats[-2] if len(beats) > 1 else 0
        values[n, 1] = n - beats[-1] if len(beats) else length
    return values * 1000 / SAMPLE_RATE


def heart_rate(x: NDArray[Any], *, window: int | str = 0) -> Floats:
    values = np.zeros((len(x), 2))
    for n, beats in enumerate(beats_in_windows(x, samples(window, "10s"))):
        values[n, 0] = 60 * SAMPLE_RATE / np.mean(np.diff(beats)) if len(beats) > 1 else 0
        values[n, 1] = len(beats)
    return values


def hrv(x: NDArray[Any], *, window: int | str = 0) -> Floats:
    return np.array([hrv_of(beats, SAMPLE_RATE) for beats in beats_in_windows(x, samples(window, "60s"))])


def signal_quality(x: NDArray[Any], *, window: int | str = 0) -> Floats:
    length = samples(window, "5s")
    values = np.zeros((len(x), 4))
    values[length - 1 :] = qualities(sliding_window_view(x, length), SAMPLE_RATE)
    return values


def activity(x: Floats, *, window: int | str = 0, gravity: float = 1.0, threshold: float = 0.05) -> Floats:
    count, apart = samples(window, "10s"), round(0.25 * SAMPLE_RATE)
    length = np.linalg.norm(x, axis=0) / gravity
    band = sosfilt(butter(2, (0.75, 3.5), "bandpass", fs=SAMPLE_RATE, output="sos"), length - length[0])
    padded = np.concatenate([np.zeros(apart), band])
    steps = [
        n + apart
        for n, value in enumerate(band)
        if value > threshold and value > padded[n : n + apart].max() and value >= band[n : n + apart + 1].max()
    ]
    values = np.zeros((1, len(length), 4))
    for n in range(len(length)):
        own = length[max(0, n + 1 - count) : n + 1]
        taken = [step for step in steps if n - count < step <= n]
        cadence = 60 * SAMPLE_RATE / np.mean(np.diff(taken)) if len(taken) > 1 else 0.0
        values[0, n] = own.mean(), np.maximum(own - 1, 0).mean(), len(taken), cadence
    return values


def of_beats(oracle: Any, default: str, seconds: float) -> StageCase:
    most = int(3600 * SAMPLE_RATE)
    return StageCase(
        refused=[
            ({"window": -1}, f"window = -1: expected samples, or 0 for {seconds:g} s"),
            ({"window": "2h"}, f"window = 1800000: expected at most {most} samples, 3600.0 s at 250.0 Hz"),
            ({"window": 2.5}, "Expected `int`, got `float` - at `$.window`"),
            ({"beats": 8}, "unknown field `beats`"),
        ],
        oracle=each_channel(oracle),
        warm_up=lambda *, window=0: samples(window, default),
    )


CASES = {
    "r_peaks": StageCase(
        refused=[
            ({"delay": -1}, "delay = -1: expected samples, or 0 for 1 s"),
            ({"delay": "0.4s"}, "delay = 100: expected 115 to 2500 samples at 250.0 Hz, or 0 for 1 s"),
            ({"delay": "11s"}, "delay = 2750: expected 115 to 2500 samples at 250.0 Hz, or 0 for 1 s"),
            ({"threshold": 0.0}, "threshold = 0.0: expected a share between 0 and 1"),
            ({"threshold": 1.0}, "threshold = 1.0: expected a share between 0 and 1"),
            ({"threshold": float("nan")}, "threshold = nan: expected a share between 0 and 1"),
            ({"refractory": 50}, "unknown field `refractory`"),
        ],
        oracle=each_channel(r_peaks),
        warm_up=lambda **_: 500,
    ),
    "rr_interval": of_beats(rr_interval, "4s", 4),
    "heart_rate": of_beats(heart_rate, "10s", 10),
    "hrv": of_beats(hrv, "60s", 60),
    "signal_quality": StageCase(
        refused=[
            ({"window": -1}, "window = -1: expected at most 65536 samples, or 0 for 5 s"),
            ({"window": 65537}, "window = 65537: expected at most 65536 samples, or 0 for 5 s"),
            ({"window": 249}, "window = 249: expected at least 1 s, and at most 65536 samples, at 250.0 Hz"),
            ({"window": 2.5}, "Expected `int`, got `float` - at `$.window`"),
            ({"tolerance": 0.1}, "unknown field `tolerance`"),
        ],
        oracle=each_channel(signal_quality),
        warm_up=lambda *, window=0: samples(window, "5s"),
    ),
    "activity": StageCase(
        refused=[
            ({"window": -1}, "window = -1: expected at most 65536 samples, or 0 for 10 s"),
            ({"window": "1h"}, "window = 900000: expected at most 65536 samples, or 0 for 10 s"),
            ({"gravity": 0.0}, "gravity = 0.0: expected 1 g in the signal's unit, 0.001 to 1000000"),
            ({"gravity": float("nan")}, "gravity = nan: expected 1 g in the signal's unit"),
            ({"threshold": 0.0}, "threshold = 0.0: expected a height above 0 in g"),
            ({"threshold": float("inf")}, "threshold = inf: expected a height above 0 in g"),
            ({"axes": 3}, "unknown field `axes`"),
        ],
        oracle=activity,
        warm_up=lambda *, window=0, **_: samples(window, "10s"),
    ),
}
