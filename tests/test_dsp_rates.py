"""Changes of rate against scipy and closed forms, and alignment in time of clocks as they are."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np
import pytest
from scipy.signal import firwin, resample_poly

from app.dsp.conformance import Trial, check_chunks, check_resume, check_rows
from app.dsp.stage import EXAMPLE_RATE, Floats, Signal
from app.dsp.stages import STAGES
from app.sources import builtin_ecg
from tests.alignment_oracle import irregular, time_alignment

EPOCH = 1_700_000_000_000.0
ECG = builtin_ecg().channel(0)


def trial(kind: str, channels: int = 1, **params: Any) -> Trial:
    return Trial(STAGES[kind], STAGES[kind].params(**params), Signal(EXAMPLE_RATE, channels))


def outputs(kind: str, x: Floats, cuts: Any = (), **params: Any) -> Floats:
    """Of one sensor, (channels, any number) from (channels, n)."""
    x = np.atleast_2d(x)
    return trial(kind, len(x), **params).run(x[np.newaxis], cuts).values[0][..., 0].T


def aligned(times: Any, values: Any, cuts: Any = (), **params: Any) -> Floats:
    """Of one channel of values, at 250 Hz unless ``target_rate`` says otherwise."""
    x = np.stack([np.asarray(times, dtype=np.float64), np.asarray(values, dtype=np.float64)])
    return outputs("time_alignment", x, cuts, **{"target_rate": EXAMPLE_RATE, **params})[0]


# --- Resampling ---------------------------------------------------------------------------------------------------


def tone(frequency: float, samples: int) -> Floats:
    return np.sin(2 * np.pi * frequency * np.arange(samples) / EXAMPLE_RATE)


def test_d16_a_rate_of_160_to_147_gives_no_zeros_and_a_tone_keeps_its_amplitude():
    series = outputs("resample", tone(20.0, 4000), up=160, down=147)[0]
    place = 147 * np.arange(len(series)) - 1600  # in the dense series, where the filter's middle lies
    expected = np.sin(2 * np.pi * 20.0 * place / 160 / EXAMPLE_RATE)
    np.testing.assert_allclose(series[50:], expected[50:], atol=2e-3)
    assert np.abs(outputs("resample", np.ones(4000), up=160, down=147)[0][50:] - 1).max() < 2e-3


def test_resampling_is_that_of_scipy_but_for_the_delay():
    taps = 2 * 147 * 11 + 1
    x = ECG[:3000]
    series = outputs("resample", x, [1, 8, 264, 1264], up=160, down=147, taps=taps)[0]
    expected = resample_poly(x, 160, 147, window=firwin(taps, 1 / 160))
    np.testing.assert_allclose(series[11:], expected[: len(series) - 11], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("factor", [2, 5])
def test_an_interpolated_tone_keeps_its_amplitude(factor):
    series = outputs("interpolate", tone(20.0, 2000), factor=factor)[0]
    late = np.arange(len(series)) / factor - 10
    expected = np.sin(2 * np.pi * 20.0 * late / EXAMPLE_RATE)
    np.testing.assert_allclose(series[21 * factor :], expected[21 * factor :], atol=3e-3)


@pytest.mark.parametrize("frequency", [70.0, 120.0])
def test_what_would_alias_is_taken_away(frequency):
    series = outputs("resample", tone(frequency, 4000), up=2, down=5)[0]
    assert np.abs(series[20:]).max() < 3e-3


@pytest.mark.parametrize(("up", "down"), [(160, 147), (7, 3), (3, 7), (1, 50), (20, 10)])
def test_the_count_of_values_does_not_depend_on_the_blocks(up, down):
    x = ECG[:500]
    for samples, cuts in ((500, range(1, 500)), (500, range(7, 500, 7)), (499, [498]), (1, [])):
        assert outputs("resample", x[:samples], cuts, up=up, down=down).shape[1] == math.ceil(samples * up / down)


def test_a_common_divisor_changes_nothing():
    values = [outputs("resample", ECG[:500], up=up, down=down) for up, down in ((3, 5), (300, 500))]
    assert values[0].tobytes() == values[1].tobytes()


# --- Alignment: everything against the definition ------------------------------------------------------------------

POLICIES = ["interpolate", "zero", "hold", "extrapolate", "reset"]
WAYS = [
    *product(["linear", "cubic", "sinc"], POLICIES, ["none"]),
    *product(["sinc"], POLICIES, ["pll", "regression"]),
]


@pytest.mark.parametrize(("method", "gap_policy", "drift_compensation"), WAYS)
def test_alignment_by_definition(method, gap_policy, drift_compensation):
    way = {"method": method, "gap_policy": gap_policy, "drift_compensation": drift_compensation}
    x = irregular(np.stack([ECG[:1200], ECG[5000:6200]]))
    for rate in (90.0, 777.7):
        expected = time_alignment(x, target_rate=rate, **way)
        assert expected.shape[1] > 300
        values = outputs("time_alignment", x, [1, 2, 3, 300, 301, 302, 555], target_rate=rate, **way)
        np.testing.assert_allclose(values, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("gap_policy", POLICIES)
@pytest.mark.parametrize("drift_compensation", ["none", "regression"])
def test_alignment_is_bit_for_bit_the_same_however_it_is_cut(gap_policy, drift_compensation):
    x = np.stack([irregular(ECG[start : start + 800].reshape(2, 400)) for start in (0, 3000, 7000)])
    own = trial(
        "time_alignment",
        2,
        target_rate=600.0,
        method="cubic",
        gap_policy=gap_policy,
        drift_compensation=drift_compensation,
    )
    check_chunks(own, x, range(1, 400))
    check_rows(own, x, [2, 0], [150])
    check_resume(own, x[:1], x, 217, 1)


# --- Alignment: the grid -------------------------------------------------------------------------------------------


def test_d12_times_since_1970_keep_their_resolution():
    times = np.cumsum(4 + np.random.default_rng(1).integers(-1500, 1500, 2000) / 1024)  # exact, whatever is added
    values = tone(10.0, 2000)
    since_then, since_1970 = (aligned(times + start, values, method="cubic") for start in (0.0, EPOCH))
    assert since_then.tobytes() == since_1970.tobytes()
    uneven = np.sin(2 * np.pi * 10 * times / 1000)
    even = aligned(times + EPOCH, uneven)
    expected = np.sin(2 * np.pi * 10 * (times[0] / 1000 + np.arange(len(even)) / EXAMPLE_RATE))
    np.testing.assert_allclose(even, expected, atol=0.02)


def test_d13_time_goes_on_from_block_to_block_on_every_channel():
    times = EPOCH + 4.0 * np.arange(1000) + np.random.default_rng(2).uniform(0, 3, 1000)
    x = np.stack([ECG[:1000], times, 2 * ECG[:1000], times - EPOCH])
    values = outputs("time_alignment", x, range(10, 1000, 10), target_rate=100.0, time_channel=1)
    at = times[0] + 10 * np.arange(values.shape[1])
    assert times[-1] - 10 < at[-1] <= times[-1]
    for own, given in zip(values, x[[0, 2, 3]], strict=True):
        np.testing.assert_allclose(own, np.interp(at, times, given), atol=1e-9)


def test_d24_a_finer_grid_sees_no_gap_between_samples_and_does_not_begin_anew_at_blocks():
    times = EPOCH + 4.0 * np.arange(500)
    expected = np.interp(np.arange(4 * 499 + 1) / 4, np.arange(500), ECG[:500])
    for policy in POLICIES:
        values = aligned(times, ECG[:500], range(25, 500, 25), target_rate=1000.0, gap_policy=policy)
        np.testing.assert_allclose(values, expected, atol=1e-12)


def test_samples_on_the_grid_come_out_as_they_are():
    for method, later in (("linear", 0), ("cubic", 1), ("sinc", 3)):
        values = aligned(EPOCH + 4.0 * np.arange(300), ECG[:300], method=method)
        assert values.tobytes() == ECG[: 300 - later].astype(np.float64).tobytes()


@pytest.mark.parametrize(
    ("frequency", "method", "error"),
    [(20.0, "linear", 0.032), (20.0, "cubic", 0.0023), (60.0, "cubic", 0.11), (60.0, "sinc", 0.007)],
)
def test_a_tone_between_samples(frequency, method, error):
    values = aligned(4.0 * np.arange(1000), tone(frequency, 1000), method=method, target_rate=617.0)
    expected = np.sin(2 * np.pi * frequency * np.arange(len(values)) / 617)
    assert 0.8 * error < np.abs(values - expected)[50:].max() < error


# --- Alignment: gaps, and times that are wrong ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gap_policy", "expected"),
    [
        ("interpolate", [0, 1, 2, 3, 4, 5, 6, 7]),
        ("zero", [0, 1, 0, 0, 0, 0, 6, 7]),
        ("hold", [0, 1, 1, 1, 1, 1, 6, 7]),
        ("extrapolate", [0, 1, 2, 3, 4, 5, 6, 7]),
        ("reset", [0, 1, 6, 7]),
    ],
)
def test_gap_policies(gap_policy, expected):
    values = aligned([0, 4, 24, 28], [0, 1, 6, 7], gap_policy=gap_policy)
    np.testing.assert_allclose(values, expected, atol=1e-12)
    before = aligned([0, 4, 24, 28], [0, -1, 6, 7], gap_policy="extrapolate")
    np.testing.assert_allclose(before, [0, -1, -2, -3, -4, -5, 6, 7], atol=1e-12)


def test_an_interval_of_just_the_threshold_is_no_gap():
    times = [0, 4, 16, 20]
    assert aligned(times, [0, 1, 4, 5], gap_policy="zero", gap_threshold=3.0).tolist() == [0, 1, 2, 3, 4, 5]
    assert aligned(times, [0, 1, 4, 5], gap_policy="zero", gap_threshold=2.9).tolist() == [0, 1, 0, 0, 4, 5]


def test_samples_whose_time_repeats_or_runs_backwards_are_dropped():
    times, values = np.cumsum(np.full(60, 3.7)), np.arange(60.0)
    expected = aligned(times, values, method="cubic")
    at = np.repeat(np.arange(60), 2)
    late = times[at]
    late[1::4] -= 11.0
    noisy = values[at]
    noisy[1::2] = 1e6
    assert aligned(late, noisy, range(1, 120, 7), method="cubic").tobytes() == expected.tobytes()


@pytest.mark.parametrize("jump", [513 * 4.0, -513 * 4.0, 1e15, -1e15])
def test_a_clock_that_is_set_starts_the_grid_anew(jump):
    first = np.arange(10) * 4.0
    values = aligned([*first, *(first + 36 + jump)], np.arange(20.0))
    assert values.tolist() == list(range(20))


def test_a_gap_is_filled_in_only_so_far():
    assert len(aligned([0, 512 * 4.0], [0, 1])) == 513
    assert len(aligned([0, 512 * 4.0 + 1], [0, 1])) == 2
    assert len(aligned([0, 512 * 1.0 + 1], [0, 1], target_rate=1000.0)) == 2
    assert len(aligned(np.arange(100) * 4000.0, np.zeros(100))) == 100, "times in microseconds"


def test_a_wrong_time_in_the_future_is_soon_forgotten():
    times = 4.0 * np.arange(300)
    times[100] += 3_600_000.0
    assert aligned(times, np.arange(300.0)).tolist() == list(range(300))


# --- Alignment: clocks that jitter and drift ------------------------------------------------------------------------


def jittering(interval: float, samples: int) -> tuple[Floats, Floats]:
    """When samples were taken, and when they say that they were."""
    taken = interval * np.arange(samples)
    said = taken + np.random.default_rng(3).uniform(-1.2, 1.2, samples)
    said[0] = 0
    return taken, said + EPOCH


@pytest.mark.parametrize("interval", [4.0, 4.002, 3.9])
@pytest.mark.parametrize(("drift_compensation", "share"), [("regression", 0.05), ("pll", 0.4)])
def test_jitter_does_not_reach_the_grid(interval, drift_compensation, share):
    taken, said = jittering(interval, 6000)
    x = np.sin(2 * np.pi * 5 * taken / 1000)
    deviations = {}
    for compensation in ("none", drift_compensation):
        values = aligned(said, x, method="cubic", drift_compensation=compensation)
        deviation = values - np.sin(2 * np.pi * 5 * np.arange(len(values)) / EXAMPLE_RATE)
        deviations[compensation] = np.sqrt(np.mean(deviation[2000:] ** 2))
        assert abs(len(values) - taken[-1] / 4) < 3
    assert deviations[drift_compensation] < share * deviations["none"]


def test_the_loop_follows_a_clock_that_drifts():
    taken = np.cumsum(4 + 0.2 * np.sin(2 * np.pi * np.arange(6000) / 6000))
    taken -= taken[0]
    values = aligned(taken + EPOCH, np.sin(2 * np.pi * 5 * taken / 1000), method="sinc", drift_compensation="pll")
    expected = np.sin(2 * np.pi * 5 * np.arange(len(values)) / EXAMPLE_RATE)
    np.testing.assert_allclose(values[10:], expected[10:], atol=0.01)


def test_missing_samples_do_not_put_the_regression_out_of_step():
    taken, said = jittering(4.0, 4000)
    there = np.random.default_rng(4).random(4000) > 0.1
    there[0] = True
    x = np.sin(2 * np.pi * 5 * taken / 1000)
    way = {"method": "cubic", "gap_threshold": 10.0, "drift_compensation": "regression"}
    values = aligned(said[there], x[there], range(100, 3000, 100), **way)
    expected = np.sin(2 * np.pi * 5 * np.arange(len(values)) / EXAMPLE_RATE)
    assert np.sqrt(np.mean((values - expected)[2000:] ** 2)) < 0.003
