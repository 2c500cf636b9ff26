"""Cases of adaptive and state-space filters."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.dsp.stage import Floats
from tests.stage_cases import SAMPLE_RATE, StageCase, each_channel


def windows(reference: NDArray[Any], taps: int) -> Floats:
    """The last ``taps`` samples at each sample, the newest first."""
    padded = np.concatenate([np.zeros(taps - 1), reference])
    return np.lib.stride_tricks.sliding_window_view(padded, taps)[:, ::-1]


def lms(
    x: Floats,
    *,
    taps: int,
    mu: float = 0.01,
    normalised: bool = False,
    leak: float = 0.0,
    epsilon: float = 1e-6,
) -> Floats:
    """The definition, sample by sample."""
    weights, values = np.zeros(taps), []
    for window, desired in zip(windows(x[0], taps), x[1], strict=True):
        estimate = float(weights @ window)
        values.append((desired - estimate, estimate))
        size = mu / (epsilon + float(window @ window)) if normalised else mu
        weights = (1 - mu * leak) * weights + size * (desired - estimate) * window
    return np.array(values).T


def rls(x: Floats, *, taps: int, forgetting: float = 0.99, delta: float = 0.01) -> Floats:
    """Weighted least squares over all samples before, solved anew at each."""
    correlation, product, values = delta * np.eye(taps), np.zeros(taps), []
    for window, desired in zip(windows(x[0], taps), x[1], strict=True):
        estimate = float(np.linalg.solve(correlation, product) @ window)
        values.append((desired - estimate, estimate))
        correlation = forgetting * correlation + np.outer(window, window)
        product = forgetting * product + desired * window
    return np.array(values).T


def kalman(x: NDArray[Any], *, process_noise: float, measurement_noise: float, model: str = "level") -> Floats:
    """The textbook's filter, in matrices."""
    dt = 1 / SAMPLE_RATE
    if model == "level":
        move, added, known = np.eye(1), np.array([[dt]]), np.eye(1)
    else:
        move, added = np.array([[1, dt], [0, 1]]), np.array([[dt**3 / 3, dt**2 / 2], [dt**2 / 2, dt]])
        known = np.diag([1, 1 / dt**2])
    measured = np.eye(1, len(move))
    covariance, state = measurement_noise * known, np.zeros(len(move))
    state[0] = x[0]
    values = [state[0]]
    for sample in x[1:]:
        state, covariance = move @ state, move @ covariance @ move.T + process_noise * added
        gain = covariance @ measured.T / (covariance[0, 0] + measurement_noise)
        state = state + gain[:, 0] * (sample - state[0])
        rest = np.eye(len(move)) - gain @ measured
        covariance = rest @ covariance @ rest.T + measurement_noise * gain @ gain.T  # Joseph's form
        values.append(state[0])
    return np.array(values)


CASES = {
    "kalman": StageCase(
        refused=[
            ({"process_noise": -1.0, "measurement_noise": 1.0}, "process_noise = -1.0: expected 0 to 1e30"),
            ({"process_noise": float("nan"), "measurement_noise": 1.0}, "process_noise = nan: expected 0 to 1e30"),
            ({"process_noise": 1.0, "measurement_noise": 0.0}, "measurement_noise = 0.0: expected 1e-30 to 1e30"),
            ({"process_noise": 1.0, "measurement_noise": float("inf")}, "measurement_noise = inf: expected 1e-30"),
            ({"process_noise": 1.0, "measurement_noise": 1.0, "model": "walk"}, "Invalid enum value 'walk'"),
            ({"process_noise": 1.0}, "missing required field `measurement_noise`"),
        ],
        oracle=each_channel(kalman),
        warm_up=lambda **_: 1,
    ),
    "lms": StageCase(
        refused=[
            ({"taps": 0}, "taps = 0: expected 1 to 4096"),
            ({"taps": 4097}, "taps = 4097: expected 1 to 4096"),
            ({"taps": "17s"}, "taps = 4250: expected 1 to 4096"),
            ({"taps": 8, "mu": 0.0}, "mu = 0.0: expected above 0, at most 1"),
            ({"taps": 8, "mu": 1.1}, "mu = 1.1: expected above 0, at most 1"),
            ({"taps": 8, "mu": float("nan")}, "mu = nan: expected above 0, at most 1"),
            ({"taps": 8, "leak": 1.0}, "leak = 1.0: expected 0 to less than 1"),
            ({"taps": 8, "epsilon": 0.0}, "epsilon = 0.0: expected a number above 0"),
            ({"taps": 8, "normalised": 1}, "Expected `bool`, got `int` - at `$.normalised`"),
            ({}, "missing required field `taps`"),
        ],
        oracle=lms,
        warm_up=lambda *, taps, **_: taps,
        atol=1e-12,
        channels=2,
    ),
    "rls": StageCase(
        refused=[
            ({"taps": 0}, "taps = 0: expected 1 to 128"),
            ({"taps": 129}, "taps = 129: expected 1 to 128"),
            ({"taps": 8, "forgetting": 0.0}, "forgetting = 0.0: expected above 0, at most 1"),
            ({"taps": 8, "forgetting": 1.01}, "forgetting = 1.01: expected above 0, at most 1"),
            ({"taps": 8, "delta": 0.0}, "delta = 0.0: expected 1e-30 to 1e30"),
            ({"taps": 8, "delta": float("nan")}, "delta = nan: expected 1e-30 to 1e30"),
            ({}, "missing required field `taps`"),
        ],
        oracle=rls,
        warm_up=lambda *, taps, **_: taps,
        atol=1e-9,
        channels=2,
    ),
}
