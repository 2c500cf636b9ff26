"""Stages against published and closed-form values, and against drift over hours."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.signal import freqz_sos

from app.dsp.chain import fresh_state, run_chain
from app.dsp.pipeline_file import parse_pipeline
from app.dsp.stage import Marks, Signal
from app.dsp.stages.descriptive import hjorth
from app.dsp.stages.filters import butterworth
from app.dsp.stages.statistics import moving_rms

NO_MARKS = Marks(np.array([], dtype=np.intp), np.array([], dtype=np.intp))

# --- Butterworth: band-pass 0.5-100 Hz at 250 Hz ------------------------------------------------------------------

SECTIONS = {
    2: [
        [0.633113906065296, 1.266227812130593, 0.633113906065296, 1, 1.142120719979804, 0.412970229063815],
        [1, -2, 1, 1, -1.982228586097776, 0.982385745991237],
    ],
    4: [
        [0.425358626665931, 0.850717253331862, 0.425358626665931, 1, 1.046212745173074, 0.295127541964627],
        [1, 2, 1, 1, 1.321307522056725, 0.633640625182009],
        [1, -2, 1, 1, -1.97682463299328, 0.976981821457949],
        [1, -2, 1, 1, -1.990298612006541, 0.990455956896791],
    ],
}
FREQUENCIES = [0.05, 0.25, 0.5, 1, 10, 50, 100, 110, 120]
GAINS = {
    2: [-40.04, -12.33, -3.01, -0.257, 0, -0.012, -3.01, -9.76, -28.56],
    4: [-80.07, -24.15, -3.01, -0.016, 0, 0, -3.01, -18.61, -57.11],
}
IMPULSE_RESPONSES = {
    2: [0.633113906, 0.531883973, -0.26947253, 0.043514388],
    4: [0.425358627, 0.680404926, -0.111474444, -0.207455545],
}
LARGEST_POLES = {2: 0.99115, 4: 0.99522}


def band_pass(order: int) -> butterworth.Params:
    return butterworth.Params(order, (0.5, 100.0), "bandpass")


def filtered(params: butterworth.Params, x: np.ndarray, rate: float = 250.0) -> np.ndarray:
    signal = Signal(rate, 1)
    result = butterworth.STAGE.step(
        params, signal, butterworth.STAGE.init(params, signal, 1), x[np.newaxis, np.newaxis], NO_MARKS
    )
    return result.output[0, 0]


@pytest.mark.parametrize("order", [2, 4])
def test_band_pass_sections(order):
    np.testing.assert_allclose(butterworth.design(band_pass(order), 250.0), SECTIONS[order], rtol=0, atol=2e-12)


@pytest.mark.parametrize("order", [2, 4])
def test_band_pass_gain(order):
    _, response = freqz_sos(butterworth.design(band_pass(order), 250.0), FREQUENCIES, fs=250.0)
    np.testing.assert_allclose(20 * np.log10(np.abs(response)), GAINS[order], rtol=0, atol=0.006)


@pytest.mark.parametrize("order", [2, 4])
def test_band_pass_impulse_response(order):
    np.testing.assert_allclose(filtered(band_pass(order), np.eye(1, 4)[0]), IMPULSE_RESPONSES[order], atol=1e-9)


@pytest.mark.parametrize("order", [2, 4])
def test_band_pass_is_stable_and_settles_within_seconds(order):
    sections = butterworth.design(band_pass(order), 250.0)
    poles = np.abs([np.roots(section[3:]) for section in sections])
    assert poles.max() == pytest.approx(LARGEST_POLES[order], abs=1e-5)


@pytest.mark.parametrize("order", [1, 2, 5, 8])
@pytest.mark.parametrize(
    ("btype", "cutoff"),
    [("lowpass", (30.0,)), ("highpass", (30.0,)), ("bandpass", (10.0, 60.0)), ("bandstop", (10.0, 60.0))],
)
def test_half_the_power_passes_at_every_cutoff(order, btype, cutoff):
    _, response = freqz_sos(butterworth.design(butterworth.Params(order, cutoff, btype), 250.0), cutoff, fs=250.0)
    np.testing.assert_allclose(np.abs(response) ** 2, 0.5, rtol=1e-9)


def test_a_sine_in_the_stop_band_fades_and_one_in_the_pass_band_stays():
    time = np.arange(5000) / 250.0
    tail = slice(4000, None)
    assert np.abs(filtered(band_pass(4), np.sin(2 * np.pi * 10 * time))[tail]).max() == pytest.approx(1, abs=1e-3)
    assert np.abs(filtered(band_pass(4), np.sin(2 * np.pi * 120 * time))[tail]).max() < 2e-3
    assert np.abs(filtered(band_pass(4), np.ones(5000))[tail]).max() < 1e-6


# --- Moving RMS ---------------------------------------------------------------------------------------------------


def rms_series(window: int, blocks: list[np.ndarray]) -> np.ndarray:
    params, signal = moving_rms.Params(window), Signal(250.0, 1)
    state, series = moving_rms.init(params, signal, 1), []
    for block in blocks:
        result = moving_rms.step(params, signal, state, block[np.newaxis, np.newaxis], NO_MARKS)
        state = result.state
        series.append(result.output[0, 0])
    return np.concatenate(series)


def test_rms_of_three_samples():
    series = rms_series(3, [np.array([1.0, -2.0, 3.0, -4.0, 5.0])])
    np.testing.assert_allclose(series, [1, 1.5811, 2.1602, 3.1091, 4.0825], atol=5e-5)
    np.testing.assert_allclose(series**2, [1, 5 / 2, 14 / 3, 29 / 3, 50 / 3], rtol=1e-15)


def test_rms_lies_between_the_means_size_and_the_largest_value():
    x = np.random.default_rng(3).normal(size=2000) ** 3
    series = rms_series(50, [x])
    for n, value in enumerate(series):
        own = x[max(0, n - 49) : n + 1]
        assert abs(own.mean()) <= value * (1 + 1e-12)
        assert value <= np.abs(own).max() * (1 + 1e-12)


def test_rms_does_not_drift_over_ten_hours_and_forgets_a_burst():
    """A running sum would be off by now, and a burst would stay in it."""
    hour = 3600 * 250
    x = np.random.default_rng(4).normal(size=hour)
    burst = x[:600].copy()
    burst[100:300] *= 1000.0
    last = x[:20_000]
    series = rms_series(50, [*[x] * 10, burst, last])[10 * hour :]
    seen = np.concatenate([x[-49:], burst, last])
    windows = np.lib.stride_tricks.sliding_window_view(seen, 50)
    np.testing.assert_allclose(series, np.sqrt((windows**2).mean(axis=-1)), rtol=1e-9, atol=0)
    undisturbed = rms_series(50, [seen[300:]])
    np.testing.assert_array_equal(series[-20_000:], undisturbed[-20_000:], "50 samples on, a burst leaves no trace")


# --- Hjorth -------------------------------------------------------------------------------------------------------


def test_hjorth_of_a_triangle():
    values = hjorth.hjorth(np.array([1.0, 2, 3, 4, 5, 4, 3, 2, 1]))
    np.testing.assert_allclose(values, [1.7283950617, 0.7606388293, 0.9200874125], rtol=1e-9)


@pytest.mark.parametrize(
    ("samples", "expected", "tolerance"),
    [(250, [0.5, 0.25017, 1.0077], 5e-5), (256, [0.49742, 0.25184, 0.99112], 5e-6)],
)
def test_hjorth_of_a_ten_hertz_sine(samples, expected, tolerance):
    values = hjorth.hjorth(np.sin(2 * np.pi * 10 * np.arange(samples) / 250))
    np.testing.assert_allclose(values, expected, atol=tolerance)


@pytest.mark.parametrize("frequency", [1.0, 5.0, 20.0])
def test_hjorth_of_a_long_sine(frequency):
    x = 3 * np.sin(2 * np.pi * frequency * np.arange(100_000) / 250)
    np.testing.assert_allclose(hjorth.hjorth(x), [4.5, 2 * math.sin(math.pi * frequency / 250), 1], rtol=1e-3)


def test_hjorth_of_white_noise():
    x = np.random.default_rng(5).normal(size=100_000)
    np.testing.assert_allclose(hjorth.hjorth(x), [1, math.sqrt(2), math.sqrt(1.5)], rtol=0.02)


@pytest.mark.parametrize("x", [np.zeros(9), np.full(9, 7.0), np.full(9, -1e150)])
def test_hjorth_of_a_constant_is_zero(x):
    np.testing.assert_array_equal(hjorth.hjorth(x), [0, 0, 0])


def test_hjorth_of_a_ramp_has_no_complexity():
    np.testing.assert_allclose(hjorth.hjorth(np.arange(9.0)), [60 / 9, 0, 0])


def test_hjorth_scales():
    """Amplitude and offset change the activity alone."""
    x = np.random.default_rng(6).normal(size=256)
    activity, mobility, complexity = hjorth.hjorth(x)
    np.testing.assert_allclose(hjorth.hjorth(8 * x + 3), [64 * activity, mobility, complexity], rtol=1e-9)


# --- A chain ------------------------------------------------------------------------------------------------------


def test_a_stage_may_come_twice():
    text = """
    name = "twice"
    sample_rate = 250
    [[stages]]
    type = "moving_rms"
    window = 3
    [[stages]]
    type = "moving_rms"
    name = "again"
    window = 2
    [features]
    once = "moving_rms"
    twice = "again"
    """
    pipeline = parse_pipeline(text, "twice.toml")
    x = np.array([1.0, -2.0, 3.0, -4.0, 5.0])
    marks = Marks(np.zeros(5, dtype=np.intp), np.arange(5))
    values = run_chain(pipeline, fresh_state(pipeline, 1), x[np.newaxis, np.newaxis], marks).features
    once = np.sqrt([1, 5 / 2, 14 / 3, 29 / 3, 50 / 3])
    np.testing.assert_allclose(values[:, 0], once, rtol=1e-15)
    np.testing.assert_allclose(values[1:, 1], np.sqrt((once[1:] ** 2 + once[:-1] ** 2) / 2), rtol=1e-15)
