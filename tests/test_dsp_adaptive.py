"""Adaptive filters on systems that are known, across restores and through what would break them; Kalman gains."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from app.dsp.conformance import Trial
from app.dsp.engine import Engine
from app.dsp.pipeline import Pipeline
from app.dsp.pipeline_file import parse_pipeline
from app.dsp.stage import EXAMPLE_RATE, Floats, Signal, State
from app.dsp.stages import STAGES
from app.dsp.stages.adaptive import kalman
from app.sources import builtin_ecg
from tests.feeding import Block, Partition

SYSTEM = np.array([0.5, -0.4, 0.25, 0.1, -0.05])
"""The filter to be learnt, newest sample first."""


def trial(kind: str, channels: int = 2, rate: float = EXAMPLE_RATE, **params: Any) -> Trial:
    return Trial(STAGES[kind], STAGES[kind].params(**params), Signal(rate, channels))


def known(samples: int, seed: int = 1, system: Floats = SYSTEM) -> Floats:
    """(2, samples): white noise, and what the system makes of it."""
    x = np.random.default_rng(seed).normal(size=samples)
    return np.stack([x, np.convolve(x, system)[:samples]])


def errors(own: Trial, state: State, x: Floats) -> tuple[Floats, State]:
    ran = own.go_on(state, x[np.newaxis])
    return ran.values[0][:, 0, 0], ran.state


def learnt(state: State) -> Floats:
    return state["weights"][0, ::-1]


# --- Learning a known system ----------------------------------------------------------------------------------------

LEARNERS = {
    "lms": {"taps": 5, "mu": 0.05},
    "nlms": {"taps": 5, "mu": 0.5, "normalised": True},
    "rls": {"taps": 5, "forgetting": 0.99},
}


@pytest.mark.parametrize("name", LEARNERS)
def test_a_known_filter_is_learnt_and_still_known_after_a_restore(name):
    own = trial(name.removeprefix("n"), **LEARNERS[name])
    x = known(1500)
    error, state = errors(own, own.fresh(1), x[:, :1000])
    assert np.abs(error[:5]).max() > 0.1
    assert np.abs(error[900:]).max() < 1e-7
    np.testing.assert_allclose(learnt(state), SYSTEM, atol=1e-8)
    restored = {key: np.frombuffer(array.tobytes(), array.dtype).reshape(array.shape) for key, array in state.items()}
    assert np.abs(errors(own, restored, x[:, 1000:])[0]).max() < 1e-7


@pytest.mark.parametrize("name", LEARNERS)
def test_a_filter_that_changes_is_followed(name):
    own = trial(name.removeprefix("n"), **LEARNERS[name])
    _, state = errors(own, own.fresh(1), known(1000))
    error, state = errors(own, state, known(2500, 2, -2 * SYSTEM))
    assert np.abs(error[:50]).max() > 1
    assert np.abs(error[-50:]).max() < 1e-6
    np.testing.assert_allclose(learnt(state), -2 * SYSTEM, atol=1e-6)


def test_noise_is_cancelled_by_a_reference_of_it():
    ecg = builtin_ecg().channel(0)[:5000]
    noise = np.random.default_rng(3).normal(size=5000)
    x = np.stack([noise, ecg + np.convolve(noise, SYSTEM)[:5000]])
    own = trial("lms", taps=5, mu=0.01, normalised=True)
    cleaned = own.run(x[np.newaxis]).values[0][:, 0, 0]
    before, after = (np.mean((given - ecg)[2500:] ** 2) for given in (x[1], cleaned))
    assert after < 0.02 * before


def test_leaking_weights_fall_short_of_those_that_do_not_leak():
    weights = [
        np.linalg.norm(learnt(trial("lms", taps=5, mu=0.01, leak=leak).run(known(3000)[np.newaxis]).state))
        for leak in (0.0, 0.2)
    ]
    # With white noise of variance 1, weights settle where mu * leak * w = mu * (w_true - w).
    assert weights[1] == pytest.approx(weights[0] / 1.2, rel=0.05)


def test_d28_rls_starts_from_the_inverse_of_delta_and_learns_at_once():
    own = trial("rls", taps=5, delta=0.01)
    np.testing.assert_array_equal(own.fresh(2)["inverse"], np.stack([np.eye(5) / 0.01] * 2))
    x = known(12)
    error, _ = errors(own, own.fresh(1), x)
    assert np.abs(error[9:]).max() < 0.05
    # Least squares with a pull of delta towards zero, by definition.
    padded = np.concatenate([np.zeros(4), x[0]])
    windows = np.lib.stride_tricks.sliding_window_view(padded, 5)[:10, ::-1]
    fade = 0.99 ** np.arange(9, -1, -1)
    pulled = (windows * fade[:, np.newaxis]).T @ windows + 0.01 * 0.99**10 * np.eye(5)
    expected = np.linalg.solve(pulled, (windows * fade[:, np.newaxis]).T @ x[1, :10])
    np.testing.assert_allclose(learnt(errors(own, own.fresh(1), x[:, :10])[1]), expected, rtol=1e-9)


@pytest.mark.parametrize("kind", ["lms", "rls"])
@pytest.mark.parametrize("channels", [1, 3])
def test_another_number_of_channels_is_refused(kind, channels):
    with pytest.raises(ValueError, match=f"channels = {channels}: expected 2, the reference and the desired signal"):
        trial(kind, channels, taps=5).fresh(1)


# --- Resuming -------------------------------------------------------------------------------------------------------


def adaptive_pipeline(stage: str) -> Pipeline:
    text = f'name = "p"\nsample_rate = 250.0\nchannels = 2\n[[stages]]\n{stage}\n'
    return parse_pipeline(f'{text}[features]\nf = {{ of = "{stage.split(chr(34))[1]}", take = "vector" }}', "p.toml")


@pytest.mark.parametrize(
    "stage",
    [
        'type = "lms"\ntaps = 9\nmu = 0.3\nnormalised = true\nleak = 0.01',
        'type = "lms"\ntaps = 9',
        'type = "rls"\ntaps = 4',
        'type = "kalman"\nmodel = "trend"\nprocess_noise = 10\nmeasurement_noise = 0.1',
    ],
)
def test_d17_what_was_learnt_and_what_was_seen_are_in_the_snapshot(stage):
    pipeline, x = adaptive_pipeline(stage), known(60).T
    whole = Partition(Engine(pipeline))
    expected = [whole.feed(Block("s", frame, n)).values[0].tobytes() for n, frame in enumerate(x)]
    own, values = Partition(Engine(pipeline)), []
    for n, frame in enumerate(x):  # through a snapshot after every sample
        if n:
            (snapshot,) = own.engine.snapshots([own.engine.sensors["s"]])
            moved = Partition(Engine(pipeline))
            moved.engine.restore({"s": snapshot})
            moved.end, own = own.end, moved
        values.append(own.feed(Block("s", frame, n)).values[0].tobytes())
    assert values == expected


# --- What would break them ------------------------------------------------------------------------------------------


def test_lms_with_too_great_a_step_begins_anew_and_recovers():
    own = trial("lms", taps=5, mu=0.05)
    with np.errstate(all="raise"):
        error, state = errors(own, own.fresh(1), 1e3 * known(2000))
        assert np.isfinite(error).all()
        assert np.abs(error).max() > 1e100, "it does diverge"
        error, state = errors(own, state, known(6000, 2))
    assert np.abs(error[-50:]).max() < 1e-6
    np.testing.assert_allclose(learnt(state), SYSTEM, atol=1e-6)


@pytest.mark.parametrize("level", [0.0, 0.3])
def test_rls_learns_again_after_a_reference_that_told_nothing(level):
    own = trial("rls", taps=5, forgetting=0.9)
    _, state = errors(own, own.fresh(1), known(300))
    flat = np.full((2, 10_000), level)  # 0.9 ** -10000 is no number
    _, state = errors(own, state, flat)
    assert np.abs(state["inverse"]).max() <= 1e6 / 0.01
    error, state = errors(own, state, known(1000, 2))
    assert np.abs(error[-50:]).max() < 1e-8
    np.testing.assert_allclose(learnt(state), SYSTEM, atol=1e-8)


@pytest.mark.parametrize("size", [1e3, 1e150])
def test_rls_recovers_from_a_burst(size):
    own = trial("rls", taps=5, forgetting=0.8)
    x = known(5000)
    x[0, 300:310] *= size  # which the desired signal knows nothing of
    with np.errstate(over="raise", invalid="raise"):
        error, state = errors(own, own.fresh(1), x)
    assert np.isfinite(error).all()
    assert np.abs(error[-50:]).max() < 1e-6
    np.testing.assert_allclose(learnt(state), SYSTEM, atol=1e-6)


def test_the_inverse_stays_symmetric():
    state = trial("rls", taps=6).run(known(3000)[np.newaxis]).state
    np.testing.assert_array_equal(state["inverse"], state["inverse"].swapaxes(1, 2))
    assert np.linalg.eigvalsh(state["inverse"][0]).min() > 0


# --- Kalman ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0.01, 250.0])
def test_d15_the_interval_is_that_of_the_rate_and_it_smooths(rate):
    """The peer took the time since 1970 for the interval, and gave back its input."""
    params = {"process_noise": 0.01 * rate, "measurement_noise": 1.0}
    x = np.random.default_rng(4).normal(size=4000)
    values = trial("kalman", 1, rate, **params).run(x[np.newaxis, np.newaxis]).values[0][:, 0, 0]
    # The steady gain of a random walk whose variance grows by 0.01 of the noise's at each sample.
    gain = (math.sqrt(0.01 * 0.01 + 4 * 0.01) - 0.01) / 2
    assert np.var(values[500:]) == pytest.approx(gain / (2 - gain), rel=0.2)
    np.testing.assert_allclose(values[1001:], values[1000:-1] + gain * (x[1001:] - values[1000:-1]), atol=1e-9)


def test_a_trend_is_followed_without_lag_and_a_level_lags():
    x = 0.02 * np.arange(6000)
    level, trend = (
        trial("kalman", 1, model=model, process_noise=1.0, measurement_noise=1.0)
        .run(x[np.newaxis, np.newaxis])
        .values[0][-1, 0, 0]
        for model in ("level", "trend")
    )
    assert trend == pytest.approx(x[-1], abs=1e-6)
    assert x[-1] - level > 0.2


def test_without_process_noise_a_level_is_the_mean_of_all_samples_and_a_trend_nearly_the_line_through_them():
    x = 5 + 0.01 * np.arange(3000) + np.random.default_rng(5).normal(size=3000)
    level, trend = (
        trial("kalman", 1, model=model, process_noise=0.0, measurement_noise=1.0)
        .run(x[np.newaxis, np.newaxis])
        .values[0][:, 0, 0]
        for model in ("level", "trend")
    )
    np.testing.assert_allclose(level, np.cumsum(x) / np.arange(1, 3001), rtol=1e-9)
    assert trend[-1] == pytest.approx(np.polyval(np.polyfit(np.arange(3000), x, 1), 2999), abs=1e-4)


@pytest.mark.parametrize("model", ["level", "trend"])
@pytest.mark.parametrize("process_noise", [0.5, 40.0, 1e6])
def test_kalman_has_forgotten_when_it_says_so(model, process_noise):
    own = trial("kalman", 1, model=model, process_noise=process_noise, measurement_noise=0.01)
    settle = kalman.settle(own.params, own.signal)
    assert settle < 2000
    x = np.random.default_rng(6).normal(size=(1, 1, 2 * settle + 10))
    late = own.run(x[..., settle:]).values[0]
    assert np.abs(late - own.run(x).values[0][settle:])[settle:].max() < 2e-10
