"""Measures of a window against published and closed-form values, and the properties that define them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy.linalg import solve_toeplitz
from scipy.signal import get_window, lfilter

from app.dsp.chain import fresh_state, run_chain
from app.dsp.conformance import Trial, trials
from app.dsp.pipeline_file import parse_pipeline
from app.dsp.stage import Floats, Marks
from app.dsp.stages import STAGES
from app.dsp.stages.descriptive import _windows
from app.dsp.stages.descriptive.approximate_entropy import approximate_entropy
from app.dsp.stages.descriptive.ar_coefficients import burg
from app.dsp.stages.descriptive.kurtosis import kurtosis
from app.dsp.stages.descriptive.sample_entropy import sample_entropy
from app.dsp.stages.descriptive.shannon_entropy import shannon_entropy
from app.dsp.stages.descriptive.skewness import skewness
from app.dsp.stages.descriptive.spectral_centroid import spectral_centroid
from app.dsp.stages.descriptive.spectral_flux import spectral_flux
from app.dsp.stages.descriptive.spectral_rolloff import spectral_rolloff

RATE = 250.0
USUAL = {kind: trials(stage)[0] for kind, stage in STAGES.items() if STAGES.family(kind) == "descriptive"}
every_measure = pytest.mark.parametrize("trial", USUAL.values(), ids=USUAL)
NEW = {kind: trial for kind, trial in USUAL.items() if kind != "hjorth"}
SCALE_FREE = [
    "approximate_entropy",
    "kurtosis",
    "sample_entropy",
    "shannon_entropy",
    "skewness",
    "spectral_centroid",
    "spectral_rolloff",
]


def noise(samples: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).normal(size=samples)


def tone(frequency: float, samples: int, amplitude: float = 1.0) -> Floats:
    return amplitude * np.sin(2 * np.pi * frequency * np.arange(samples) / RATE + 0.3)


def values(trial: Trial, x: Floats) -> Floats:
    """Outputs after each sample: (samples, outputs)."""
    return trial.run(x[np.newaxis, np.newaxis]).values[0][:, 0]


def last(kind: str, x: Floats, **params: Any) -> Floats:
    """Outputs of a window as long as the signal."""
    trial = trials(STAGES[kind], [{"window": len(x), **params}])[0]
    return trial.stage.step(
        trial.params, trial.signal, trial.fresh(1), x[np.newaxis, np.newaxis], Marks(np.array([0]), np.array([-1]))
    ).output[0, 0]


# --- Moments ------------------------------------------------------------------------------------------------------


def test_moments_of_known_distributions():
    whole_periods = np.sin(2 * np.pi * 10 * np.arange(250) / 250)
    assert kurtosis(whole_periods) == pytest.approx(-1.5, abs=1e-12)
    assert skewness(whole_periods) == pytest.approx(0, abs=1e-12)
    one_in_four = np.array([0.0, 0, 0, 1])
    assert kurtosis(one_in_four) == pytest.approx(-2 / 3)
    assert skewness(one_in_four) == pytest.approx(0.5 / math.sqrt(3 / 16))
    exponential = np.random.default_rng(1).exponential(size=1_000_000)
    assert kurtosis(exponential) == pytest.approx(6, rel=0.05)
    assert skewness(exponential) == pytest.approx(2, rel=0.02)


def test_skewness_turns_with_the_signal_and_kurtosis_does_not():
    x = noise(200) ** 3
    assert skewness(-x) == -skewness(x)
    assert kurtosis(-x) == kurtosis(x)


# --- Entropies ----------------------------------------------------------------------------------------------------


def test_shannon_entropy_of_equal_shares():
    assert shannon_entropy(np.repeat(np.arange(8.0), 5), 8) == 3
    assert shannon_entropy(np.array([0.0, 0, 0, 1]), 256) == pytest.approx(2 - 0.75 * math.log2(3))


def test_shannon_entropy_does_not_know_the_order_and_has_a_greatest_value():
    x = noise(500)
    entropy = shannon_entropy(x, 64)
    assert 0 < entropy < 6
    assert shannon_entropy(x[::-1], 64) == entropy == shannon_entropy(np.sort(x), 64)
    assert shannon_entropy(np.arange(50.0), 4096) == pytest.approx(math.log2(50))


@pytest.mark.parametrize("bins", [10, 49, 256])
def test_shannon_entropy_puts_values_on_an_edge_where_numpy_does(bins):
    """Readings in steps of a tenth lie on edges that no number holds exactly."""
    windows = np.random.default_rng(3).integers(0, 50, size=(2000, 40)) * 0.1
    shares = [np.histogram(x, bins)[0] / 40 for x in windows]
    expected = [-np.sum(own[own > 0] * np.log2(own[own > 0])) for own in shares]
    np.testing.assert_allclose(shannon_entropy(windows, bins), expected, rtol=1e-12)


def test_approximate_entropy_as_published():
    """Of 85, 80, 89, 85, ... with 51 values, m = 2 and a tolerance of 3; it is given without its sign."""
    x = np.tile([85.0, 80.0, 89.0], 17)
    phi_2 = (34 * math.log(17 / 50) + 16 * math.log(16 / 50)) / 50
    phi_3 = (17 * math.log(17 / 49) + 32 * math.log(16 / 49)) / 49
    found = approximate_entropy(x, 2, 3 / np.std(x))
    assert found == pytest.approx(phi_2 - phi_3, rel=1e-9)
    assert abs(found) == pytest.approx(1.0996541105257052e-05, rel=1e-9)


def test_sample_entropy_of_white_noise():
    """Neighbours of a Gaussian are within r of each other with a chance of erf(r / 2)."""
    found = [sample_entropy(noise(2048, seed)) for seed in range(6)]
    assert np.mean(found) == pytest.approx(-math.log(math.erf(0.1)), abs=0.03)


def test_sample_entropy_of_what_repeats_is_zero_and_of_what_never_does_the_greatest():
    assert sample_entropy(np.tile([0.0, 1.0, 3.0], 20)) == 0
    assert sample_entropy(2.0 ** np.arange(12), 2, 1e-4) == math.log(10 * 9 / 2)
    # Two templates of two values are alike, and of three none are.
    assert sample_entropy(np.array([0.0, 1, 5, 9, 0, 1, 13, 20]), 2, 0.01) == math.log(6 * 5 / 2)


def test_regular_signals_have_less_entropy():
    mixed = tone(5, 400) + 0.1 * noise(400)
    for entropy in (sample_entropy, approximate_entropy):
        assert 0 <= entropy(tone(5, 400)) < entropy(mixed) < entropy(noise(400))


# --- Autoregressive models ----------------------------------------------------------------------------------------


def test_a_known_process_is_recovered():
    x = lfilter([2.0], [1, -1.5, 0.9], noise(52_000))[2000:]
    np.testing.assert_allclose(burg(x, 2), [1.5, -0.9, 4.0], atol=0.05)
    np.testing.assert_allclose(burg(x, 5), [1.5, -0.9, 0, 0, 0, 4.0], atol=0.05)


def test_white_noise_has_no_model():
    *coefficients, variance = burg(3 * noise(50_000) + 100, 4)
    np.testing.assert_allclose(coefficients, 0, atol=0.015)
    assert variance == pytest.approx(9, rel=0.02)


def test_a_sine_is_predicted_by_two_values():
    w = 2 * np.pi * 10 / RATE
    first, second, variance = burg(tone(10, 2000), 2)
    assert (first, second, variance) == (
        pytest.approx(2 * math.cos(w), abs=1e-4),
        pytest.approx(-1, abs=1e-4),
        pytest.approx(0, abs=1e-4),
    )


def test_models_are_stable_and_predict_better_with_every_order():
    windows = np.random.default_rng(2).normal(size=(50, 20)).cumsum(axis=1)
    for x in windows:
        variances = [burg(x, order)[-1] for order in range(1, 10)]
        assert (np.diff([np.var(x), *variances]) <= 0).all()
        assert np.abs(np.roots([1, *-burg(x, 9)[:-1]])).max() < 1


def test_a_short_window_biases_yule_walker_and_not_burg():
    true = np.array([1.9, -0.97])
    x = lfilter([1.0], [1, *-true], noise(500 + 64 * 200))[500:].reshape(200, 64)
    centred = x - x.mean(axis=1, keepdims=True)
    lags = np.stack([(centred[:, k:] * centred[:, : 64 - k]).sum(axis=1) for k in range(3)], axis=1)
    yule_walker = np.mean([solve_toeplitz(own[:2], own[1:]) for own in lags], axis=0)
    own = burg(x, 2)[:, :2].mean(axis=0)
    assert np.abs(own - true).max() < 0.2 * np.abs(yule_walker - true).max()


# --- Power in bands -----------------------------------------------------------------------------------------------

BANDS = {"low": [0, 8], "mid": [8, 13], "high": [13, 125]}


@pytest.mark.parametrize("window", [250, 251])
def test_power_of_all_bands_is_the_mean_square(window):
    """Parseval's theorem, of the window without its mean and under a Hann window."""
    x, hann = noise(window) + 5, get_window("hann", window)
    expected = np.sum((hann * (x - x.mean())) ** 2) / np.sum(hann**2)
    apart, whole = last("band_power", x, bands=BANDS), last("band_power", x, bands={"all": [0, 125]})
    assert apart.sum() == pytest.approx(expected)
    assert whole == pytest.approx(expected)
    np.testing.assert_allclose(last("band_power", x, bands=BANDS, relative=True), apart / expected)


def test_a_tone_has_its_power_in_its_band_alone():
    np.testing.assert_allclose(last("band_power", tone(10, 250, 3), bands=BANDS), [0, 4.5, 0], atol=1e-12)
    np.testing.assert_allclose(last("band_power", tone(10, 250, 3), bands=BANDS, relative=True), [0, 1, 0], atol=1e-12)


def test_white_noise_has_power_by_bandwidth():
    powers = np.mean([last("band_power", noise(500, seed), bands=BANDS) for seed in range(300)], axis=0)
    np.testing.assert_allclose(powers, np.array([8, 5, 112]) / 125, rtol=0.05)


# --- Shape of the spectrum ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("line", "window"), [(5, 128), (40, 128), (5, 125), (60, 125)])
def test_the_centroid_of_a_tone_is_its_frequency(line, window):
    frequency = line * RATE / window
    assert spectral_centroid(tone(frequency, window), RATE) == pytest.approx(frequency, rel=1e-9)


def test_the_centroid_of_two_tones_lies_between_as_their_amplitudes_say():
    x = tone(20, 250, 3) + tone(80, 250, 1)
    assert spectral_centroid(x, RATE) == pytest.approx(35)


def test_roll_off_of_noise_and_of_a_tone():
    assert spectral_rolloff(noise(100_000), RATE) == pytest.approx(0.85 * 125, rel=0.01)
    assert spectral_rolloff(tone(40, 250), RATE, 0.5) == 40
    assert spectral_rolloff(tone(40, 250), RATE, 0.76) == 41


def test_flux_of_a_change_of_amplitude():
    """A tone on a line has half its amplitude there, and a quarter on both sides."""
    before, after = tone(20, 250, 1), tone(20, 250, 3)
    expected = 2 * math.sqrt(0.5**2 + 2 * 0.25**2)
    assert spectral_flux(np.concatenate([before, after]), 250) == pytest.approx(expected)
    assert spectral_flux(tone(20, 350), 100) == pytest.approx(0, abs=1e-12)
    assert spectral_flux(np.concatenate([np.zeros(250), after]), 250) == pytest.approx(3 / 2 * expected)


def test_d05_spectra_follow_a_tone_that_changes():
    x = np.concatenate([tone(20, 600), tone(80, 600)])
    marks = Marks(np.zeros(2, dtype=np.intp), np.array([599, 1199]))
    for kind, expected in (("spectral_centroid", [20, 80]), ("spectral_rolloff", [21, 81])):
        trial = trials(STAGES[kind], [{"window": 250}])[0]
        result = trial.stage.step(trial.params, trial.signal, trial.fresh(1), x[np.newaxis, np.newaxis], marks)
        np.testing.assert_allclose(result.output[:, 0, 0], expected, atol=1e-6)
    flux = values(trials(STAGES["spectral_flux"], [{"window": 50, "lag": 50}])[0], x)[100:, 0]
    assert np.argmax(flux) == pytest.approx(500 + 50, abs=3)
    assert flux[[480, 650]].max() < 0.05 * flux.max()


# --- What all of them do ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trial", NEW.values(), ids=NEW)
@pytest.mark.parametrize("level", [0.0, 0.1, -7.0, 1e150, -1e-310])
def test_of_equal_values_every_measure_is_zero(trial, level):
    found = values(trial, np.full(300, level))[-1]
    np.testing.assert_array_equal(found, np.zeros_like(found))


@pytest.mark.parametrize("kind", SCALE_FREE)
def test_scale_does_not_matter(kind):
    x = noise(300)
    expected = values(USUAL[kind], x)[199:]
    np.testing.assert_array_equal(values(USUAL[kind], x * 2.0**-500)[199:], expected)
    np.testing.assert_allclose(values(USUAL[kind], x * 1e100)[199:], expected, rtol=1e-9)


@every_measure
def test_an_offset_does_not_matter(trial):
    """Steps of 2**-20 are held exactly beside a million."""
    x = np.round(noise(300) * 2**20) / 2**20
    np.testing.assert_allclose(values(trial, x + 1e6)[260:], values(trial, x)[260:], rtol=1e-9, atol=1e-12)


@every_measure
def test_d10_a_burst_leaves_no_trace(trial):
    x = noise(1000)
    burst = x.copy()
    burst[100:200] *= 1000
    np.testing.assert_array_equal(values(trial, burst)[456:], values(trial, x)[456:])


@every_measure
def test_d11_nan_and_infinity_leave_with_their_window(trial):
    x = noise(1000)
    bad = x.copy()
    bad[[100, 300]] = np.nan, np.inf
    with np.errstate(invalid="ignore"):
        found = values(trial, bad)
    assert np.isnan(found[[100, 130, 300, 330]]).all()
    np.testing.assert_array_equal(found[556:], values(trial, x)[556:])


@every_measure
def test_a_call_may_have_no_marks(trial):
    nowhere = np.zeros(0, dtype=np.intp)
    result = trial.stage.step(trial.params, trial.signal, trial.fresh(2), np.ones((2, 1, 9)), Marks(nowhere, nowhere))
    assert result.output.shape == (0, 1, len(trial.stage.outputs_of(trial.params)))
    assert result.full.shape == (0,)


@every_measure
def test_windows_measured_one_by_one_are_the_same(trial, monkeypatch):
    x = noise(400)
    expected = values(trial, x)
    monkeypatch.setattr(_windows, "AT_ONCE", 1)
    assert values(trial, x).tobytes() == expected.tobytes()


# --- In a pipeline ------------------------------------------------------------------------------------------------

PIPELINE = """
name = "eeg"
sample_rate = 250
[[stages]]
type = "band_power"
window = "2s"
{bands}
[[stages]]
type = "spectral_flux"
window = "400ms"
lag = "200ms"
[[stages]]
type = "ar_coefficients"
window = 100
order = 2
[[stages]]
type = "band_power"
name = "relative"
window = "1s"
relative = true
hop = "100ms"
bands = {{low = [0, 20], high = [20, 125]}}
[features]
alpha = "band_power.alpha"
bands = {{ of = "band_power", take = "vector" }}
flux = "spectral_flux.value"
a1 = "ar_coefficients.a1"
low = {{ of = "relative.low", take = "mean" }}
"""


def test_bands_are_outputs_by_rising_edges_however_they_are_written():
    written = [
        "bands = {alpha = [8, 13], delta = [0.5, 4.0]}",
        "[stages.bands]\ndelta = [0.5, 4]\nalpha = [8.0, 13]",
    ]
    one, other = (parse_pipeline(PIPELINE.format(bands=bands), "eeg.toml") for bands in written)
    assert one.nodes[0].outputs == ("delta", "alpha")
    assert one.fingerprint == other.fingerprint
    assert one.settle_samples == 500
    x = tone(10, 500) + tone(40, 500)
    features = run_chain(one, fresh_state(one, 1), x[np.newaxis, np.newaxis], Marks(np.array([0]), np.array([499])))
    found = dict(zip(["alpha", "delta", "again", "flux", "a1", "low"], features.features[0].tolist(), strict=True))
    assert found["alpha"] == found["again"] == pytest.approx(0.5)
    assert found["delta"] == pytest.approx(0, abs=1e-12)
    assert found["flux"] == pytest.approx(0, abs=1e-12)
    assert 0 < found["low"] < 1
    np.testing.assert_allclose(found["a1"], burg(x[-100:], 2)[0])
