"""Cases of changes of sample rate, and of alignment in time."""

from __future__ import annotations

import math

from scipy.signal import firwin, lfilter, upfirdn

from app.dsp.stage import Floats
from tests.alignment_oracle import irregular, time_alignment
from tests.stage_cases import StageCase


def decimate(x: Floats, *, factor: int, taps: int = 0) -> Floats:
    """Filter the whole signal, and take every factor-th value."""
    kept: Floats = lfilter(firwin(taps or 20 * factor + 1, 1 / factor), 1.0, x)[:, factor - 1 :: factor]
    return kept


def interpolate(x: Floats, *, factor: int, taps: int = 0) -> Floats:
    """One call of scipy over the whole signal."""
    dense: Floats = upfirdn(factor * firwin(taps or 20 * factor + 1, 1 / factor), x, up=factor)
    return dense[:, : factor * x.shape[1]]


def resample(x: Floats, *, up: int, down: int, taps: int = 0) -> Floats:
    """One call of scipy over the whole signal."""
    divisor = math.gcd(up, down)
    up, down = up // divisor, down // divisor
    widest = max(up, down)
    values: Floats = upfirdn(up * firwin(taps or 20 * widest + 1, 1 / widest), x, up, down)
    return values[:, : math.ceil(x.shape[1] * up / down)]


CASES = {
    "decimate": StageCase(
        refused=[
            ({"factor": 1}, "factor = 1: expected 2 to 10000"),
            ({"factor": 4, "taps": 50}, "taps = 50: expected an odd number of 3 to 16384"),
            ({"factor": 4, "taps": 1}, "taps = 1: expected an odd number"),
            ({"factor": 2.5}, "Expected `int`, got `float` - at `$.factor`"),
            ({}, "missing required field `factor`"),
            ({"factor": 4, "order": 3}, "unknown field `order`"),
        ],
        oracle=decimate,
        warm_up=lambda *, factor, taps=0: factor,
    ),
    "interpolate": StageCase(
        refused=[
            ({"factor": 1}, "factor = 1: expected 2 to 256"),
            ({"factor": 257}, "factor = 257: expected 2 to 256"),
            ({"factor": 4, "taps": 50}, "taps = 50: expected an odd number of 9 to 262144, or 0 for 81"),
            ({"factor": 4, "taps": 7}, "taps = 7: expected an odd number of 9 to 262144, or 0 for 81"),
            ({"factor": 4, "taps": -9}, "taps = -9: expected an odd number of 9"),
            ({"factor": 2.5}, "Expected `int`, got `float` - at `$.factor`"),
            ({}, "missing required field `factor`"),
            ({"factor": 4, "order": 3}, "unknown field `order`"),
        ],
        oracle=interpolate,
        warm_up=lambda *, factor, taps=0: 1,
        atol=1e-15,
    ),
    "resample": StageCase(
        refused=[
            ({"up": 0, "down": 1}, "up = 0, down = 1: expected at least 1"),
            ({"up": 3, "down": -1}, "up = 3, down = -1: expected at least 1"),
            ({"up": 7, "down": 7}, "up = 7, down = 7: expected another rate; leave the stage out"),
            ({"up": 20_002, "down": 20_000}, "or 10001/10000: expected at most 10000; take a simpler ratio near it"),
            ({"up": 771, "down": 3}, "up = 771, down = 3: expected at most 256 times the rate"),
            ({"up": 160, "down": 147, "taps": 51}, "taps = 51: expected an odd number of 321 to 262144, or 0 for 3201"),
            ({"up": 3, "down": 2, "taps": 20}, "taps = 20: expected an odd number of 7"),
            ({"up": 1.5, "down": 1}, "Expected `int`, got `float` - at `$.up`"),
            ({"up": 2}, "missing required field `down`"),
            ({"up": 2, "down": 3, "order": 3}, "unknown field `order`"),
        ],
        oracle=resample,
        warm_up=lambda *, up, down, taps=0: 1,
        atol=1e-15,
    ),
    "time_alignment": StageCase(
        refused=[
            ({"target_rate": 0.0}, "target_rate = 0.0: expected Hz above 0"),
            ({"target_rate": float("nan")}, "target_rate = nan: expected Hz above 0"),
            ({"target_rate": float("inf")}, "target_rate = inf: expected Hz above 0"),
            (
                {"target_rate": 16_001.0},
                "target_rate = 16001.0: expected 1e-06 to 64 times the rate that comes in",
            ),
            ({"target_rate": 1e-4}, "target_rate = 0.0001: expected 1e-06 to 64 times the rate that comes in, 250"),
            ({"target_rate": 250.0, "time_channel": 2}, "time_channel = 2: expected 0 to 1"),
            ({"target_rate": 250.0, "time_channel": -1}, "time_channel = -1: expected the index of a channel"),
            ({"target_rate": 250.0, "gap_threshold": 0.9}, "gap_threshold = 0.9: expected 1 to 512 intervals"),
            (
                {"target_rate": 250.0, "gap_threshold": float("nan")},
                "gap_threshold = nan: expected 1 to 512",
            ),
            ({"target_rate": 250.0, "gap_policy": "error"}, "Invalid enum value 'error' - at `$.gap_policy`"),
            ({"target_rate": 250.0, "gap_policy": "zero_fill"}, "Invalid enum value 'zero_fill'"),
            ({"target_rate": 250.0, "method": "spline"}, "Invalid enum value 'spline' - at `$.method`"),
            ({"target_rate": 250.0, "drift_compensation": "ema"}, "Invalid enum value 'ema'"),
            ({}, "missing required field `target_rate`"),
        ],
        oracle=time_alignment,
        warm_up=lambda **_: 1,
        # As a share of the greatest value, which is a time.
        atol=1e-15,
        channels=2,
        made=irregular,
    ),
}
