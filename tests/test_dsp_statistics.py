"""Moving, running and pointwise stages: published values, hours of samples, bursts, offsets, and defects of others.

The defects are those of the library named in the project's stage catalogue, by their numbers there.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from app.dsp.conformance import Ran, Trial
from app.dsp.engine import Engine
from app.dsp.errors import PipelineError
from app.dsp.pipeline import Pipeline
from app.dsp.pipeline_file import parse_pipeline
from app.dsp.stage import NEVER, Marks, Signal
from app.dsp.stages import STAGES
from app.sources import builtin_ecg
from tests.feeding import Block, Partition, blocks, move
from tests.stage_cases import CASES

Series = NDArray[Any]
RATE = 250.0
SLAB = 1 << 15
ECG = builtin_ecg().channel(0)

FORGETTING: dict[str, dict[str, Any]] = {
    "clip_detection": {"threshold": 2.0},
    "differentiator": {},
    "ema": {"alpha": 0.05},
    "integrator": {"alpha": 0.97},
    "linear_regression": {"window": 50},
    "moving_mav": {"window": 50},
    "moving_max": {"window": 50},
    "moving_mean": {"window": 50},
    "moving_min": {"window": 50},
    "moving_rms": {"window": 50},
    "moving_variance": {"window": 50},
    "moving_zscore": {"window": 50},
    "peak_detection": {"threshold": 1.0},
    "slope_sign_changes": {"window": 50, "threshold": 0.1},
    "snr": {"window": 50},
    "waveform_length": {"window": 50},
    "willison_amplitude": {"window": 50, "threshold": 0.5},
}
"""Stages whose values depend on the last samples alone, with parameters."""

BY_POLES = ("ema", "integrator")
"""Those of them that forget little by little."""

forgetting = pytest.mark.parametrize("kind", FORGETTING)


def trial(kind: str, channels: int = 1, **params: Any) -> Trial:
    stage = STAGES[kind]
    return Trial(stage, msgspec.convert(params, stage.params), Signal(RATE, channels))


def of_forgetting(kind: str) -> Trial:
    return trial(kind, 2 if kind == "snr" else 1, **FORGETTING[kind])


def run(kind: str, x: Any, **params: Any) -> Series:
    """Give what a stage makes of one channel: (samples,) of a series, (samples, outputs) of a measure."""
    return trial(kind, **params).run(np.array(x, dtype=np.float64)[np.newaxis, np.newaxis]).values[0][:, 0].squeeze(-1)


def go_through(one: Trial, parts: list[Series]) -> Ran:
    """Run long parts (channels, samples) slab by slab; gives the values after each sample of the last part."""
    state, marks = one.fresh(1), Marks(np.zeros(0, dtype=np.intp), np.zeros(0, dtype=np.intp))
    for part in parts[:-1]:
        for start in range(0, part.shape[-1], SLAB):
            state = one.stage.step(
                one.params, one.signal, state, part[np.newaxis, :, start : start + SLAB], marks
            ).state
    return one.step(state, parts[-1][np.newaxis])


def definition(kind: str, x: Series) -> Series:
    """What a stage should make of a signal (channels, n): (n, channels, outputs)."""
    values = np.moveaxis(CASES[kind].oracle(x, **FORGETTING[kind]), 0, 1)
    return values if values.ndim == 3 else values[..., np.newaxis]


# --- Published values ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "params", "x", "expected"),
    [
        ("moving_mean", {"window": 3}, [1, 2, 3, 4, 5], [1, 1.5, 2, 3, 4]),
        ("moving_rms", {"window": 3}, [1, -2, 3, -4, 5], np.sqrt([1, 5 / 2, 14 / 3, 29 / 3, 50 / 3])),
        ("moving_variance", {"window": 3}, [1, 2, 3, 4, 5], [0, 0.25, 2 / 3, 2 / 3, 2 / 3]),
        ("waveform_length", {"window": 3}, [1, 3, 2, 5, 4, 6], [0, 2, 3, 6, 5, 6]),
        ("cma", {}, [10, 20, 30, 40, 50, 60], [10, 15, 20, 25, 30, 35]),
        ("ema", {"alpha": 1.0}, [3, -1, 4, 1, -5], [3, -1, 4, 1, -5]),
        ("ema", {"alpha": 0.25}, [8, 0, 4], [8, 6, 5.5]),
        ("moving_mav", {"window": 2}, [1, -2, 3, 0], [1, 1.5, 2.5, 1.5]),
        ("moving_min", {"window": 3}, [4, 2, 3, 5, 6, 1], [4, 2, 2, 2, 3, 1]),
        ("moving_max", {"window": 3}, [4, 2, 3, 1, 0, 6], [4, 4, 4, 3, 3, 6]),
        ("moving_zscore", {"window": 2}, [5, 7, 7, 3], [0, 1, 0, -1]),
        ("integrator", {"alpha": 0.5}, [4, 0, 2], [4, 2, 3]),
        ("integrator", {"alpha": 1.0}, [4, 0, 2], [4, 4, 6]),
        ("differentiator", {}, [3, 5, 4], [3, 2, -1]),
        ("rectify", {}, [-2, 0, 3], [2, 0, 3]),
        ("rectify", {"mode": "half"}, [-2, 0, 3], [0, 0, 3]),
        ("square", {}, [-2, 0, 3], [4, 0, 9]),
        ("amplify", {"gain": 2.5}, [-2, 0, 3], [-5, 0, 7.5]),
        ("clip_detection", {"threshold": 2}, [-2, 1.99, 2, -3], [1, 0, 1, 1]),
    ],
    ids=str,
)
def test_check_values(kind, params, x, expected):
    np.testing.assert_allclose(run(kind, x, **params), expected, rtol=1e-15, atol=1e-15)


def test_the_first_sample_begins_an_ema_to_the_last_bit():
    x = np.random.default_rng(1).normal(size=1000)
    firsts = trial("ema", alpha=0.1).run(x[:, np.newaxis, np.newaxis])
    np.testing.assert_array_equal(np.concatenate(firsts.values)[:, 0, 0], x)


def test_a_line_through_a_ramp_is_the_ramp():
    """Slope, intercept, residual and prediction; the first sample has none of them."""
    values = run_measure("linear_regression", 7 + 0.5 * np.arange(10), window=4)
    expected = [[0.5, 7 + 0.5 * max(0, n - 3), 0, 7 + 0.5 * n] for n in range(10)]
    expected[0] = [0, 0, 0, 0]
    np.testing.assert_allclose(values, expected, rtol=1e-14, atol=1e-14)


def run_measure(kind: str, x: Any, **params: Any) -> Series:
    return trial(kind, **params).run(np.array(x, dtype=np.float64)[np.newaxis, np.newaxis]).values[0][:, 0]


@pytest.mark.parametrize(
    ("signal", "noise", "expected"),
    [(10.0, 1.0, 20), (1.0, 10.0, -20), (1.0, 0.0, 100), (0.0, 1e3, -100), (1e6, 1, 100)],
)
def test_snr_in_decibels(signal, noise, expected):
    x = np.array([[signal, -signal] * 50, [-noise, noise] * 50])
    ran = trial("snr", 2, window=10).run(x[np.newaxis])
    np.testing.assert_allclose(ran.values[0], np.full((100, 1, 1), expected), atol=1e-8)


def test_snr_takes_two_channels_only():
    with pytest.raises(ValueError, match=r"1 channel\(s\): expected 2, signal and noise"):
        STAGES["snr"].signal(msgspec.convert({"window": 5}, STAGES["snr"].params), Signal(RATE, 1))


@pytest.mark.parametrize(
    ("params", "x", "expected"),
    [
        ({"threshold": 0.5}, [0, 1, 0, 0.4, 0, 0.5, 0], [0, 0, 1, 0, 0, 0, 1]),
        ({"threshold": 0}, [5, 1, 2, 2, 1, -1, -2, -1], [0] * 8),
        ({"threshold": 0}, [0, 1, 0, 1, 0, 1, 0], [0, 0, 1, 0, 1, 0, 1]),
        ({"threshold": 0, "min_distance": 3}, [0, 1, 0, 9, 0, 1, 0], [0, 0, 1, 0, 0, 0, 1]),
        ({"threshold": 0, "min_distance": 5}, [0, 1, 0, 9, 0, 1, 0, 2, 0], [0, 0, 1, 0, 0, 0, 0, 0, 1]),
    ],
)
def test_peaks_come_one_sample_late_and_the_first_of_close_ones_is_kept(params, x, expected):
    np.testing.assert_array_equal(run("peak_detection", x, **params), expected)


# --- Hours, bursts and offsets ------------------------------------------------------------------------------------


def ten_hours_and_a_burst(channels: int) -> tuple[list[Series], Series]:
    """Parts of 9,000,000 samples about 5, then 1,000 times as much, then as before; and the last part."""
    hour = 5 + np.random.default_rng(4).normal(size=(channels, 900_000))
    return [*[hour] * 10, 1000 * hour[:, :300]], hour[:, :2000]


@forgetting
def test_d10_ten_hours_and_a_burst_leave_no_trace(kind):
    """A running sum would be off by now, and a burst would stay in it."""
    one = of_forgetting(kind)
    before, last = ten_hours_and_a_burst(one.signal.channels)
    settle = one.stage.settle(one.params, one.signal)
    assert settle < 800
    values = go_through(one, [*before, last]).values[0]
    # What is left of the burst is a share of what was off, 1,000 times the signal.
    rtol = 1e-6 if kind in BY_POLES else 1e-9
    np.testing.assert_allclose(values[settle:], definition(kind, last)[settle:], rtol=rtol, atol=1e-12)
    np.testing.assert_allclose(values[-800:], definition(kind, last)[-800:], rtol=1e-9, atol=1e-12)
    if kind not in BY_POLES:
        np.testing.assert_array_equal(values[settle:], one.run(last[np.newaxis]).values[0][settle:])


@pytest.mark.parametrize(("kind", "params"), [("cma", {}), ("integrator", {"alpha": 1.0})])
def test_d10_what_is_summed_for_ten_hours_is_exact(kind, params):
    before, last = ten_hours_and_a_burst(1)
    values = go_through(trial(kind, **params), [*before, last]).values[0][:, 0, 0]
    total = math.fsum([10 * math.fsum(before[0][0]), *before[-1][0], *last[0]])
    count = sum(part.shape[1] for part in (*before, last)) if kind == "cma" else 1
    assert values[-1] == pytest.approx(total / count, rel=1e-14)


def test_d10_the_variance_of_a_sine_on_an_offset():
    """Whole periods: half the amplitude squared."""
    x = np.sin(2 * np.pi * 5 * np.arange(5000) / RATE)
    values = run("moving_variance", 5000 + x, window=50)
    np.testing.assert_allclose(values[49:], 0.5, rtol=1e-9)


@pytest.mark.parametrize("offset", [1e6, -1e9])
@pytest.mark.parametrize("window", [3, 50, 255])
@pytest.mark.parametrize("kind", ["moving_variance", "moving_zscore", "linear_regression"])
def test_an_offset_changes_nothing(kind, window, offset):
    """Steps of 1/64 are exact beside it, so that the signal is the same; the line lies higher."""
    x = np.random.default_rng(7).integers(-200, 200, 1500) / 64
    plain, lifted = (run_measure(kind, x + by, window=window) for by in (0.0, offset))
    if kind == "linear_regression":
        lifted[1:, [1, 3]] -= offset
    np.testing.assert_allclose(lifted, plain, rtol=1e-9, atol=4e-16 * abs(offset))
    if kind != "linear_regression":
        np.testing.assert_array_equal(lifted, plain)


@pytest.mark.parametrize("kind", ["moving_variance", "moving_zscore"])
@pytest.mark.parametrize("value", [0.1, -1e6 / 3, 1e150])
def test_a_constant_has_no_variance_at_all(kind, value):
    assert not run(kind, np.full(300, value), window=49).any()


def test_properties_of_moving_statistics():
    x = np.random.default_rng(3).normal(size=2000) ** 3
    mean, mav, rms, variance, least, most = (
        run(f"moving_{kind}", x, window=50) for kind in ("mean", "mav", "rms", "variance", "min", "max")
    )
    assert (least <= mean).all()
    assert (mean <= most).all()
    assert (np.abs(mean) <= mav * (1 + 1e-12)).all()
    assert (mav <= rms * (1 + 1e-12)).all()
    np.testing.assert_allclose(variance, rms**2 - mean**2, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(run("moving_mav", 8 * x, window=50), 8 * mav, rtol=0)


@pytest.mark.parametrize("kind", ["moving_min", "moving_max", "rectify"])
def test_zeros_of_either_sign_come_out_alike(kind):
    """Which of two zeros a comparison gives depends on where it lies among the processor's lanes."""
    x = np.where(np.random.default_rng(2).integers(0, 2, 300), 0.0, -0.0)
    values = run(kind, x, **({"window": 5} if kind != "rectify" else {"mode": "half"}))
    assert not np.signbit(values).any()


# --- Defects ------------------------------------------------------------------------------------------------------


@forgetting
def test_d05_a_window_that_is_full_goes_on(kind):
    """A second tone appears after the first."""
    one = of_forgetting(kind)
    time = np.arange(2000) / RATE
    tones = np.stack([np.sin(2 * np.pi * 3 * time), 4 * np.sin(2 * np.pi * 17 * time)])
    x = np.broadcast_to(tones.ravel(), (1, one.signal.channels, 4000)).copy()
    x[:, 1:] = 0.5
    values = one.run(x).values[0]
    expected = definition(kind, x[0, :, 2000:])
    np.testing.assert_allclose(values[-1000:], expected[-1000:], rtol=1e-9, atol=1e-9)
    assert np.abs(values[-1000:] - values[1000:2000]).max() > 0.1


def test_d06_slope_sign_changes_are_counted_from_the_first_opportunity():
    np.testing.assert_array_equal(run("slope_sign_changes", [1, 3, 2, 4, 3, 5], window=6), [0, 0, 1, 2, 3, 4])


def test_d06_the_threshold_of_slope_sign_changes_is_on_the_product():
    x = [0, 3, 0, 2, 0, 1]
    np.testing.assert_array_equal(run("slope_sign_changes", x, window=6, threshold=5), [0, 0, 1, 2, 2, 2])


def test_d06_slopes_too_small_for_a_product_change_sign_too():
    assert run("slope_sign_changes", [1e-200, 3e-200, 2e-200, 2e-200, 3e-200], window=5).tolist() == [0, 0, 1, 1, 1]


def test_d06_willison_amplitude_is_a_count():
    values = run("willison_amplitude", [0, 0.5, 2.5, 2.6, 1, 3.5], window=6, threshold=1)
    np.testing.assert_array_equal(values, [0, 0, 1, 1, 2, 3])


def test_d06_events_leave_the_window():
    x = [0, 1, 0, 1, 0, 0, 0, 0]
    np.testing.assert_array_equal(run("willison_amplitude", x, window=3), [0, 1, 2, 3, 3, 2, 1, 0])
    np.testing.assert_array_equal(run("slope_sign_changes", x, window=2), [0, 0, 1, 2, 2, 1, 0, 0])


def pipeline_of(kind: str, non_finite: str = "hold") -> Pipeline:
    """One stage, of two channels where it takes no other."""
    settings = "\n".join(f"{name} = {value!r}" for name, value in FORGETTING[kind].items())
    outputs = STAGES[kind].outputs_of(of_forgetting(kind).params)
    features = "\n".join(f'{name} = "{kind}.{name}"' for name in outputs) or f'f = "{kind}"'
    return parse_pipeline(
        f'name = "p"\nsample_rate = {RATE}\nchannels = {of_forgetting(kind).signal.channels}\n'
        f'non_finite = "{non_finite}"\n[[stages]]\ntype = "{kind}"\n{settings}\n[features]\n{features}',
        "p.toml",
    )


@forgetting
@pytest.mark.parametrize("non_finite", ["hold", "interpolate"])
def test_d11_a_repaired_nan_leaves_no_trace_after_a_window(kind, non_finite):
    pipeline = pipeline_of(kind, non_finite)
    channels = pipeline.signal.channels
    frames = np.stack([3 * ECG[:1000], ECG[2000:3000]][:channels], axis=-1)
    holed = frames.copy()
    holed[100] = np.nan
    holed[103:105, 0] = np.inf, -np.inf
    lengths = [90] + [7] * 130
    clean, repaired = (
        Partition(Engine(pipeline)).feed(*blocks("s", x.ravel(), lengths, channels)) for x in (frames, holed)
    )
    assert repaired.events["repaired"] == 2, "blocks"
    assert np.isfinite(repaired.values).all()
    after = np.cumsum(lengths) > 105 + pipeline.settle_samples
    assert after.any()
    np.testing.assert_allclose(repaired.values[after], clean.values[after], rtol=1e-9, atol=1e-9)
    if kind not in BY_POLES:
        np.testing.assert_array_equal(repaired.values[after], clean.values[after])


ALL = """
name = "all"
sample_rate = 250
[[stages]]
type = "amplify"
gain = 3.0
[[stages]]
type = "moving_zscore"
input = "amplify"
window = "1s"
[[stages]]
type = "waveform_length"
input = "amplify"
window = "200ms"
[[stages]]
type = "slope_sign_changes"
input = "amplify"
window = "200ms"
[[stages]]
type = "linear_regression"
input = "amplify"
window = "400ms"
[[stages]]
type = "peak_detection"
input = "amplify"
threshold = 0.1
min_distance = "60ms"
[[stages]]
type = "cma"
input = "amplify"
[[stages]]
type = "ema"
input = "amplify"
alpha = 0.2
[[stages]]
type = "integrator"
input = "amplify"
[features]
gained = "amplify"
zscore = "moving_zscore"
length = "waveform_length"
turns = "slope_sign_changes"
slope = "linear_regression.slope"
prediction = "linear_regression.prediction"
peak = { of = "peak_detection", take = "max" }
cma = "cma"
ema = "ema"
integral = "integrator"
"""


def test_d09_d17_stages_with_windows_by_duration_go_on_from_their_snapshots():
    """Gains, lines and marks among them; saved and restored between any two blocks."""
    pipeline = parse_pipeline(ALL, "all.toml")
    sent = blocks("s", ECG[:1500], [1, 2, 3, 7, 64, 256, 1, 500, 666])
    whole = Partition(Engine(pipeline)).feed(*sent)
    moved = Partition(Engine(pipeline))
    for number, block in enumerate(sent):
        values = moved.feed(block).values
        assert values.tobytes() == whole.values[number : number + 1].tobytes()
        move(moved.engine, ["s"])
    assert whole.values[-1, 0] == 3 * ECG[1499]


def one_stage(settings: str) -> str:
    return (
        f'name = "p"\nsample_rate = {RATE}\n[[stages]]\ntype = "moving_mean"\n{settings}\n[features]\nm = "moving_mean"'
    )


def test_d14_a_window_is_samples_or_a_duration():
    by_samples, by_duration = (
        parse_pipeline(one_stage(f"window = {window}"), "p.toml") for window in ("50", '"200ms"')
    )
    assert by_samples.nodes == by_duration.nodes
    assert by_samples.fingerprint == by_duration.fingerprint


@pytest.mark.parametrize("other", ["window_duration = 200.0", 'duration = "200ms"', 'window = "200ms"'])
def test_d14_never_both(other):
    with pytest.raises(PipelineError, match=r"unknown field|Cannot overwrite a value"):
        parse_pipeline(one_stage(f"window = 50\n{other}"), "p.toml")


@pytest.mark.parametrize("min_distance", [1, 7])
def test_d18_a_peak_is_found_wherever_a_block_ends(min_distance):
    x = np.random.default_rng(8).normal(size=(1, 1, 300))
    one = trial("peak_detection", threshold=0.5, min_distance=min_distance)
    whole = one.run(x).values[0].ravel()
    peaks = np.flatnonzero(whole) - 1
    assert len(peaks) > 10
    for peak in peaks.tolist():
        for cut in (peak, peak + 1, peak + 2):
            np.testing.assert_array_equal(one.run(x, [cut]).values[0].ravel(), whole)
    np.testing.assert_array_equal(one.run(x, range(1, 300)).values[0].ravel(), whole)


def test_what_never_forgets_says_so():
    for kind, params in (("cma", {}), ("integrator", {"alpha": 1.0})):
        one = trial(kind, **params)
        assert one.stage.settle(one.params, one.signal) == NEVER
    slow = trial("ema", alpha=1e-300)
    assert slow.stage.settle(slow.params, slow.signal) == NEVER


def test_a_block_of_a_single_sample_repaired_from_nothing():
    """A stream that begins with a hole begins with 0: so does its average."""
    features = Partition(Engine(pipeline_of("ema"))).feed(Block("s", np.array([np.nan]), 0))
    assert features.values.tolist() == [[0.0]]
