"""Beats of real ECGs, what is measured of them, signal quality and activity, against annotations and plain values."""

from __future__ import annotations

import re
import warnings
from functools import cache

import numpy as np
import pytest

from app.dsp.engine import Engine
from app.dsp.pipeline_file import parse_pipeline
from app.dsp.stage import Floats, Marks, Signal, Stage
from app.dsp.stages import STAGES
from app.sources import Recording, builtin_ecg, read_recording, resampled
from tests.feeding import Block, Partition
from tests.physiology import hrv_of, qualities
from tests.recordings import record_path

RECORDED = 360.0


def series(kind: str, x: Floats, rate: float, cuts: int = 0, **params: object) -> Floats:
    """All that a series stage makes of one signal, in calls of so many samples."""
    stage: Stage = STAGES[kind]
    own, signal = stage.params(**params), Signal(rate, 1)
    state, parts = stage.init(own, signal, 1), []
    marks = Marks(np.array([], dtype=np.intp), np.array([], dtype=np.intp))
    for part in np.split(x, range(cuts, len(x), cuts) if cuts else []):
        result = stage.step(own, signal, state, part[np.newaxis, np.newaxis], marks)
        state = result.state
        parts.append(result.output[0, 0])
    return np.concatenate(parts)


def beats_of(x: Floats, rate: float, cuts: int = 0, **params: object) -> Floats:
    """Samples of the R peaks."""
    return np.flatnonzero(series("r_peaks", x, rate, cuts, **params)) - (params.get("delay") or round(rate))


def measured(kind: str, x: Floats, rate: float, last: int = -1, **params: object) -> Floats:
    """Values of a measure at one sample of a signal (channels, n)."""
    stage: Stage = STAGES[kind]
    own, signal = stage.params(**params), Signal(rate, len(x))
    marks = Marks(np.array([0]), np.array([last % x.shape[1]]))
    return stage.step(own, signal, stage.init(own, signal, 1), x[np.newaxis], marks).output[0, 0]


def found(beats: Floats, annotated: Floats, rate: float) -> tuple[float, float]:
    """Sensitivity and positive predictive value at 100 ms."""
    near = np.abs(beats[:, np.newaxis] - annotated) <= 0.1 * rate
    return near.any(axis=0).mean(), near.any(axis=1).mean()


@cache
def record_100(channel: str = "MLII") -> tuple[Recording, Floats]:
    """The record, and its annotated beats in samples."""
    wfdb = pytest.importorskip("wfdb")
    path = record_path("100")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # wfdb uses pandas in a way that is to go
        annotation = wfdb.rdann(str(path.with_suffix("")), "atr")
    beats = annotation.sample[np.isin(annotation.symbol, ["N", "A", "V"])]
    assert len(beats) == 2273
    return read_recording(path, channel=channel), beats


# --- R peaks ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [125.0, 250.0, 360.0, 500.0])
@pytest.mark.parametrize("channel", ["MLII", "V5"])
def test_r_peaks_of_record_100(channel, rate):
    recording, annotated = record_100(channel)
    beats = beats_of(resampled(recording, rate).channel(0), rate, cuts=round(rate))
    sensitivity, predictive = found(beats, annotated * rate / RECORDED, rate)
    assert sensitivity >= 0.995
    assert predictive >= 0.999


SECONDS = np.arange(650_000) / RECORDED
SPOILED = {
    "inverted": lambda x: -x,
    "a tenth": lambda x: 0.1 * x,
    "tenfold": lambda x: 10 * x,
    "an offset": lambda x: x + 1e6,
    "a wandering baseline": lambda x: x + 3 * np.sin(2 * np.pi * 0.2 * SECONDS),
    "mains of 50 Hz": lambda x: x + 0.5 * np.sin(2 * np.pi * 50 * SECONDS),
    "mains of 60 Hz": lambda x: x + 0.5 * np.sin(2 * np.pi * 60 * SECONDS),
    "noise": lambda x: x + np.random.default_rng(4).normal(0, 0.1, len(x)),
    "integers": lambda x: np.round(200 * x) + 1024,
}


@pytest.mark.parametrize("how", SPOILED)
def test_r_peaks_of_a_spoiled_record_100(how):
    recording, annotated = record_100()
    sensitivity, predictive = found(beats_of(SPOILED[how](recording.channel(0)), RECORDED), annotated, RECORDED)
    assert sensitivity >= 0.995
    assert predictive >= 0.995


def test_r_peaks_stand_where_they_are_annotated():
    recording, annotated = record_100()
    beats = beats_of(recording.channel(0), RECORDED)
    error = np.abs(beats[:, np.newaxis] - annotated).min(axis=1) / RECORDED
    assert np.median(error) <= 0.003
    assert np.quantile(error, 0.99) <= 0.01


def test_r_peaks_of_the_built_in_ecg_are_those_of_another_detector():
    """It is record 208, of which one beat in three is ventricular."""
    x = builtin_ecg().channel(0)
    theirs = pytest.importorskip("sleepecg").detect_heartbeats(x, 250.0)
    ours = beats_of(x, 250.0)
    agreed = found(ours, theirs, 250.0)
    assert agreed[0] >= 0.97
    assert agreed[1] >= 0.94


def test_r_peaks_of_two_leads_are_the_same():
    """Record v102s was stored with 12 bits, and its R waves go over from one end of their range to the other."""
    leads = []
    for channel, gain in (("II", 2281), ("V", 1856)):
        x = read_recording(record_path("v102s"), channel=channel).channel(0)[:75_000]
        x = np.interp(np.arange(len(x)), np.flatnonzero(np.isfinite(x)), x[np.isfinite(x)])
        leads.append(beats_of(np.unwrap(x, period=4096 / gain), 250.0))
    assert len(leads[0]) == 517
    assert found(*leads, 250.0) == (1.0, 1.0)


def complexes(at: Floats, heights: Floats, samples: int) -> Floats:
    """R waves at samples of a signal of 250 Hz, with a broad T wave 0.25 s after each."""
    time = np.arange(samples)[:, np.newaxis]
    return (heights * (np.exp(-(((time - at) / 3) ** 2)) + 0.3 * np.exp(-(((time - at - 62) / 15) ** 2)))).sum(axis=1)


def test_a_beat_stands_in_its_place_however_late_it_is_found():
    at = 300 + 200 * np.arange(30)
    heights = np.ones(30)
    heights[[12, 20]] = 0.3  # below the threshold, above half of it
    x = complexes(at, heights, 7000)
    for delay in (180, 250, 600):
        np.testing.assert_array_equal(beats_of(x, 250.0, delay=delay), at[at + delay >= 500])
    soonest = beats_of(x, 250.0, delay=115)
    assert at[12] not in soonest
    assert set(np.delete(at, [0, 12, 20])) <= set(soonest) <= set(at)


def test_t_waves_are_no_beats():
    at = 300 + 250 * np.arange(30)
    x = complexes(at, np.ones(30), 8000)
    x += 0.9 * np.exp(-(((np.arange(8000)[:, np.newaxis] - at - 80) / 12) ** 2)).sum(axis=1)
    np.testing.assert_array_equal(beats_of(x, 250.0), at)


def test_no_beats_in_a_flat_line_and_all_after_it():
    x = np.full(60_000, 0.1)
    assert not len(beats_of(x, 250.0))
    at = 50_000 + 200 * np.arange(40)
    expected = at[at >= 50_000 + 3 * 250]
    np.testing.assert_array_equal(beats_of(x + complexes(at, np.ones(40), 60_000), 250.0)[-len(expected) :], expected)


def test_a_burst_costs_no_more_than_the_beats_beside_it():
    recording, annotated = record_100()
    x = recording.channel(0)[: 60 * 360].copy()
    annotated = annotated[annotated < 59 * 360]
    clean = found(beats_of(x, RECORDED), annotated, RECORDED)[0]
    x[30 * 360 : 30 * 360 + 20] += 1000.0
    assert found(beats_of(x, RECORDED), annotated, RECORDED)[0] >= clean - 2 / len(annotated)


def test_levels_are_learnt_again_when_beats_have_become_small():
    at = 300 + 200 * np.arange(60)
    heights = np.where(np.arange(60) < 20, 1.0, 0.05)
    beats = beats_of(complexes(at, heights, 13_000), 250.0)
    assert set(at[32:]) <= set(beats)
    assert not set(at[20:28]) & set(beats)


# --- What is measured of beats ------------------------------------------------------------------------------------


def test_hrv_is_that_of_the_annotated_beats():
    _, annotated = record_100()
    told = np.zeros(650_000)
    told[annotated] = 1.0
    for last in (30_000, 216_000, 649_999):
        own = annotated[(annotated > last - 21_600) & (annotated <= last)]
        values = measured("hrv", told[np.newaxis], RECORDED, last)
        np.testing.assert_allclose(values, hrv_of(own, RECORDED), rtol=1e-12)


def test_hrv_leaves_out_intervals_that_are_none_of_sinus_rhythm():
    told = np.zeros((1, 15_000))
    told[0, [1000, 1200, 1450, 1500, 1700, 2600, 2800]] = 1.0  # ms: 800, 1000, 200, 800, 3600, 800
    rmssd, sdnn, pnn50, mean_rr, beats = measured("hrv", told, 250.0)
    assert (rmssd, pnn50, mean_rr, beats) == (200.0, 25.0, 850.0, 7.0)
    assert sdnn == pytest.approx(100.0)


def test_an_exact_50_ms_is_not_more_than_50_ms():
    told = np.zeros((1, 21_600))
    told[0, np.cumsum([100, *[288, 306] * 30])] = 1.0
    assert measured("hrv", told, RECORDED)[2] == 0.0


def test_measures_of_a_metronome():
    told = np.zeros((1, 5000))
    told[0, 99::200] = 1.0
    assert measured("heart_rate", told, 250.0).tolist() == [75.0, 12.0]
    assert measured("rr_interval", told, 250.0).tolist() == [800.0, 400.0]
    assert measured("hrv", told, 250.0).tolist() == [0.0, 0.0, 0.0, 800.0, 25.0]


def test_without_beats_measures_are_0_and_the_age_is_the_window():
    nothing = np.zeros((1, 5000))
    assert measured("heart_rate", nothing, 250.0).tolist() == [0.0, 0.0]
    assert measured("rr_interval", nothing, 250.0).tolist() == [0.0, 4000.0]
    assert measured("hrv", nothing, 250.0).tolist() == [0.0] * 5


@pytest.mark.parametrize("kind", ["rr_interval", "heart_rate", "hrv"])
def test_d10_intervals_are_exact_after_years(kind):
    """Places are whole numbers: what running sums in float32 lose."""
    stage: Stage = STAGES[kind]
    params, signal = stage.params(), Signal(250.0, 1)
    told = np.zeros((1, 1, 16_000))
    told[0, 0, np.cumsum(np.random.default_rng(6).integers(150, 300, 60))] = 1.0
    marks = Marks(np.array([0]), np.array([15_999]))
    fresh = stage.init(params, signal, 1)
    old = {**fresh, "count": fresh["count"] + 10**12}
    expected = stage.step(params, signal, fresh, told, marks).output
    assert stage.step(params, signal, old, told, marks).output.tobytes() == expected.tobytes()


def test_d12_a_beat_is_placed_by_counting_samples_not_by_a_clock():
    told = np.zeros((1, 250 * 60))
    told[0, [7499, 7500 + 100]] = 1.0
    assert measured("rr_interval", told, 250.0, 7700)[0] == 404.0


def test_d18_a_beat_on_the_last_sample_of_a_call_is_told_once():
    at = 300 + 200 * np.arange(20)
    x = complexes(at, np.ones(20), 4500)[:2500]
    whole = series("r_peaks", x, 250.0)
    told = np.flatnonzero(whole)
    assert len(told) == 10
    for size in (told[5], told[5] + 1, told[5] - 1, at[5], at[5] + 1, 1):
        assert series("r_peaks", x, 250.0, cuts=int(size)).tobytes() == whole.tobytes()
    for cut in (told[5], told[5] + 1):
        assert measured("heart_rate", whole[np.newaxis], 250.0, int(cut) - 1)[1] == np.count_nonzero(whole[:cut])


BEATS = """
name = "beats"
sample_rate = 250.0
[[stages]]
type = "r_peaks"
[[stages]]
type = "heart_rate"
input = "r_peaks"
[[stages]]
type = "hrv"
input = "r_peaks"
[[stages]]
type = "signal_quality"
input = "input"
[features]
beat = { of = "r_peaks", take = "max" }
bpm = "heart_rate.bpm"
rmssd = "hrv.rmssd"
trust = "signal_quality.quality"
"""


def test_a_pipeline_of_beats():
    recording, annotated = record_100()
    x = resampled(recording, 250.0).channel(0)[: 90 * 250]
    engine = Partition(Engine(parse_pipeline(BEATS, "beats.toml")))
    records = [engine.feed(Block("s", x[n : n + 50], n)) for n in range(0, len(x), 50)]
    values, full = np.concatenate([one.values for one in records]), np.concatenate([one.full for one in records])
    own = annotated[(annotated >= 360) & (annotated < 89 * 360)] / RECORDED  # told a second later
    assert values[:, 0].sum() == len(own)
    assert full[-1].all()
    last = own[own >= 79]
    assert values[-1, 1] == pytest.approx(60 * (len(last) - 1) / (last[-1] - last[0]), abs=0.2)
    assert values[-1, 2] == pytest.approx(hrv_of(own[own >= 29], 1.0)[0], rel=0.1)
    assert values[-1, 3] > 0.8


# --- Signal quality -----------------------------------------------------------------------------------------------


def test_quality_of_a_clean_ecg_is_high():
    recording, _ = record_100()
    windows = recording.channel(0)[:72_000].reshape(40, 1, 1800)
    values = np.array([measured("signal_quality", own, RECORDED) for own in windows])
    assert values[:, :2].max() == 0.0
    assert np.median(values[:, 3]) > 0.9


def test_quality_falls_with_what_spoils_it():
    time = np.arange(1250) / 250.0
    x = builtin_ecg().channel(0)[67_500:68_750]
    quality = {
        name: measured("signal_quality", own[np.newaxis], 250.0)
        for name, own in {
            "clean": x,
            "half flat": np.where(time < 2.5, x, 0.3),
            "flat": np.full(1250, -7.7),
            "clipped": np.clip(x, *np.quantile(x, [0.1, 0.9])),
            "mains": x + 2 * np.sin(2 * np.pi * 50 * time),
            "wander": x + 5 * np.sin(2 * np.pi * 0.25 * time),
            "white": np.random.default_rng(5).normal(size=1250),
        }.items()
    }
    assert quality["clean"][3] > 0.9
    assert quality["half flat"][0] == pytest.approx(0.5, abs=0.01)
    assert quality["flat"].tolist() == [1.0, 0.0, 0.0, 0.0]
    assert 0.1 < quality["clipped"][1] <= 0.2
    assert quality["mains"][2] > 0.8
    assert quality["wander"][2] > 0.8
    assert quality["white"][2] == pytest.approx(1 - 39.5 / 125, abs=0.05)
    assert all(quality["clean"][3] > own[3] for name, own in quality.items() if name != "clean")


def test_quality_does_not_depend_on_the_unit():
    x = builtin_ecg().channel(0)[67_500:68_750]
    x = np.clip(x, *np.quantile(x, [0.05, 0.95]))
    expected = qualities(x[np.newaxis], 250.0)[0]
    for scale in (1e-9, -1.0, 1e6):
        np.testing.assert_allclose(measured("signal_quality", scale * x[np.newaxis], 250.0), expected, rtol=1e-9)


# --- Activity -----------------------------------------------------------------------------------------------------


def walking(rate: float, pace: float, seconds: float = 30.0, height: float = 0.25) -> Floats:
    """Three axes, of which gravity lies along another one than each; each step swings and strikes."""
    phase = 2 * np.pi * pace * np.arange(round(seconds * rate)) / rate
    length = 1 + height * np.sin(phase) + 0.3 * height * np.sin(2 * phase + 1)
    direction = np.array([[0.6], [-0.48], [0.64]])
    return direction * length


@pytest.mark.parametrize("rate", [10.0, 25.0, 50.0, 100.0])
@pytest.mark.parametrize("pace", [1.1, 1.8, 2.6])
def test_steps_of_someone_walking(rate, pace):
    _, enmo, steps, cadence = measured("activity", walking(rate, pace), rate)
    assert steps == pytest.approx(10 * pace, abs=1)
    assert cadence == pytest.approx(60 * pace, rel=0.03)
    assert enmo > 0.05


def test_activity_of_someone_at_rest():
    rest = walking(25.0, 1.0, height=0.0) + np.random.default_rng(7).normal(0, 0.01, (3, 750))
    magnitude, enmo, steps, cadence = measured("activity", rest, 25.0)
    assert magnitude == pytest.approx(1, abs=0.01)
    assert enmo < 0.01
    assert (steps, cadence) == (0.0, 0.0)


def test_activity_does_not_depend_on_the_unit_or_on_how_the_sensor_is_worn():
    x = walking(50.0, 1.8)
    expected = measured("activity", x, 50.0)
    np.testing.assert_allclose(measured("activity", 9.81 * x, 50.0, gravity=9.81), expected, rtol=1e-9)
    np.testing.assert_allclose(measured("activity", -x[[2, 0, 1]], 50.0), expected, rtol=1e-9)
    np.testing.assert_allclose(measured("activity", np.linalg.norm(x, axis=0)[np.newaxis], 50.0), expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("kind", "rate", "channels", "text"),
    [
        ("r_peaks", 99.0, 1, "sample rate 99.0 Hz: expected 100.0 to 20000.0 Hz"),
        ("r_peaks", 48_000.0, 1, "sample rate 48000.0 Hz: expected 100.0 to 20000.0 Hz"),
        ("hrv", 50.0, 1, "sample rate 50.0 Hz: expected a series of beats of at least 100.0 Hz"),
        ("signal_quality", 50.0, 1, "sample rate 50.0 Hz: expected an ECG of at least 100.0 Hz"),
        ("activity", 5.0, 3, "sample rate 5.0 Hz: expected at least 10.0 Hz"),
        ("activity", 50.0, 2, "channels = 2: expected 1, or 3 axes"),
    ],
)
def test_signals_that_a_stage_does_not_take(kind, rate, channels, text):
    stage, signal = STAGES[kind], Signal(rate, channels)
    with pytest.raises(ValueError, match=re.escape(text)):  # noqa: PT012
        stage.signal(stage.params(), signal)
        stage.init(stage.params(), signal, 1)
