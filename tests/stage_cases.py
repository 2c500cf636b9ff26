"""What the conformance tests must know of each stage: parameters to try, ones to refuse, and what it should compute.

A stage is tested by being registered; one without an entry in `CASES` fails the tests.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, sosfilt

from app.dsp.stage import Floats

SAMPLE_RATE = 250.0


class StageCase(NamedTuple):
    """How to test one kind of stage."""

    params: list[dict[str, Any]]
    """Parameters to try."""
    refused: list[tuple[dict[str, Any], str]]
    """Parameters to refuse, and what the refusal says."""
    oracle: Callable[..., Floats]
    """``oracle(x, **params)`` gives the value after each sample of ``x`` (n,) by definition: (n,) or (n, outputs)."""
    warm_up: Callable[..., int]
    """``warm_up(**params)`` gives how many samples fill the stage's window."""


def butterworth(x: NDArray[Any], *, order: int, cutoff: tuple[float, ...], btype: str) -> Floats:
    """One call of scipy over the whole signal."""
    edges = cutoff if len(cutoff) > 1 else cutoff[0]
    return np.asarray(sosfilt(butter(order, edges, btype, fs=SAMPLE_RATE, output="sos"), x))


def moving_rms(x: NDArray[Any], *, window: int) -> Floats:
    """The definition, sample by sample."""
    return np.array([np.sqrt(np.mean(x[max(0, n + 1 - window) : n + 1] ** 2)) for n in range(len(x))])


def hjorth(x: NDArray[Any], *, window: int) -> Floats:
    """The definition, window by window; 0 before the first full one."""
    values = np.zeros((len(x), 3))
    for n in range(window - 1, len(x)):
        own = x[n + 1 - window : n + 1]
        activity, first, second = (np.var(np.diff(own, times)) for times in range(3))
        mobility, mobility_of_first = np.sqrt(first / activity), np.sqrt(second / first)
        values[n] = activity, mobility, mobility_of_first / mobility
    return values


CASES: dict[str, StageCase] = {
    "butterworth": StageCase(
        params=[
            {"btype": "bandpass", "order": 4, "cutoff": (0.5, 100.0)},
            {"btype": "lowpass", "order": 3, "cutoff": (40.0,)},
            {"btype": "highpass", "order": 1, "cutoff": (0.05,)},
            {"btype": "bandstop", "order": 16, "cutoff": (40.0, 60.0)},
        ],
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
            ({"order": 2}, "missing required field `cutoff`"),
            ({"order": 2, "cutof": (5.0,)}, "unknown field `cutof`"),
            ({"order": 2, "cutoff": (5.0,), "ripple": 1}, "unknown field `ripple`"),
        ],
        oracle=butterworth,
        warm_up=lambda **_: 1,
    ),
    "moving_rms": StageCase(
        params=[{"window": 50}, {"window": 1}, {"window": 7}, {"window": 64}],
        refused=[
            ({"window": 0}, "window = 0: expected at least 1 sample"),
            ({"window": -5}, "window = -5: expected at least 1 sample"),
            ({"window": 2.5}, "Expected `int`, got `float` - at `$.window`"),
            ({"window": "5"}, "Expected `int`, got `str` - at `$.window`"),
            ({}, "missing required field `window`"),
            ({"window": 5, "windw": 5}, "unknown field `windw`"),
        ],
        oracle=moving_rms,
        warm_up=lambda *, window: window,
    ),
    "hjorth": StageCase(
        params=[{"window": 256}, {"window": 3}, {"window": 100}],
        refused=[
            ({"window": 2}, "window = 2: expected at least 3, for two differences"),
            ({"window": True}, "Expected `int`, got `bool` - at `$.window`"),
            ({}, "missing required field `window`"),
            ({"window": 5, "ddof": 1}, "unknown field `ddof`"),
        ],
        oracle=hjorth,
        warm_up=lambda *, window: window,
    ),
}
