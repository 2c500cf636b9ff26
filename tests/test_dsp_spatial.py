"""Stages that combine channels, and their trainers: what they are for, seen on signals whose make-up is known."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import numpy as np
import pytest
from scipy.linalg import eigh

from app.dsp.conformance import Trial, check_chunks, check_rows
from app.dsp.engine import Engine
from app.dsp.pipeline_file import parse_pipeline
from app.dsp.stage import Signal
from app.dsp.stages import STAGES
from app.dsp.trainers import beamformer, csp, ica, pca, whitening
from tests.feeding import Partition, blocks, move

FS = 250.0


def through(kind: str, params: Any, x: np.ndarray) -> np.ndarray:
    """What a stage makes of (channels, samples)."""
    ran = Trial(STAGES[kind], params, Signal(FS, len(x))).run(x[np.newaxis], [3, 100])
    return ran.values[0][..., 0].T


def correlated(channels: int = 4, samples: int = 5000, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(channels, channels))
    return mixing @ rng.normal(size=(channels, samples)) + rng.normal(size=(channels, 1)) * 10


def sources(samples: int = 5000, seed: int = 2) -> np.ndarray:
    """A sine, a square wave and noise with long tails."""
    time = np.arange(samples) / FS
    noise = np.random.default_rng(seed).laplace(size=samples)
    return np.stack([np.sin(2 * np.pi * 1.3 * time), np.sign(np.sin(2 * np.pi * 2.1 * time + 1)), noise])


# --- Principal components and whitening ---------------------------------------------------------------------------


def test_principal_components_are_uncorrelated_and_of_falling_variance():
    x = correlated()
    params = pca.train(x)
    y = through("pca", params, x)
    left, singular, _ = np.linalg.svd(x - x.mean(axis=1, keepdims=True), full_matrices=False)
    np.testing.assert_allclose(np.cov(y), np.diag(singular**2 / (x.shape[1] - 1)), atol=1e-10)
    np.testing.assert_allclose(np.abs(np.array(params.matrix)), np.abs(left.T), atol=1e-10)
    np.testing.assert_allclose(y.mean(axis=1), 0, atol=1e-10)
    shares = singular**2 / np.sum(singular**2)
    np.testing.assert_allclose(pca.explained_variance(x), shares, rtol=1e-9)


def test_some_components_are_the_first():
    x = correlated()
    two, every = pca.train(x, components=2), pca.train(x)
    assert two.matrix == every.matrix[:2]
    assert two.mean == every.mean
    assert through("pca", two, x).shape == (2, x.shape[1])


def test_a_principal_axis_points_where_its_greatest_weight_is_positive():
    for seed in range(10):
        matrix = np.array(pca.train(correlated(seed=seed)).matrix)
        assert (np.take_along_axis(matrix, np.abs(matrix).argmax(axis=1)[:, np.newaxis], axis=1) > 0).all()


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_whitened_channels_have_variance_1_and_no_correlation_whatever_the_unit(scale):
    x = scale * correlated()
    np.testing.assert_allclose(np.cov(through("whitening", whitening.train(x, epsilon=0), x)), np.eye(4), atol=1e-9)
    np.testing.assert_allclose(np.cov(through("whitening", whitening.train(x), x)), np.eye(4), atol=2e-3)


def test_whitening_is_the_symmetric_root_of_the_inverse_covariance():
    x = correlated()
    matrix = np.array(whitening.train(x, epsilon=0).matrix)
    np.testing.assert_allclose(matrix, matrix.T, rtol=1e-9)
    np.testing.assert_allclose(matrix @ matrix @ np.cov(x), np.eye(4), atol=1e-9)


def test_epsilon_keeps_a_direction_without_variance_down():
    x = correlated(3)
    x[2] = x[0] + x[1]
    with pytest.raises(ValueError, match="leave out channels that are constant or follow from others"):
        whitening.train(x, epsilon=0)
    assert np.abs(whitening.train(x).matrix).max() < 400


# --- Independent components ---------------------------------------------------------------------------------------


def recovery(found: np.ndarray, real: np.ndarray) -> float:
    """Least |correlation| of a source with the component that stands for it, in the best order."""
    each = np.abs(np.corrcoef(found, real)[: len(found), len(found) :])
    orders = itertools.permutations(range(len(real)))
    return max(min(each[n, source] for n, source in enumerate(order)) for order in orders)


@pytest.mark.parametrize("seed", range(8))
def test_d20_independent_components_are_the_sources_up_to_sign_and_order(seed):
    """The matrix that a stage takes has a row an output; transposed, it would not do."""
    real = sources()
    mixing = np.random.default_rng(seed).normal(size=(3, 3))
    x = mixing @ real + np.array([[5.0], [-3.0], [0.5]])
    params = ica.train(x)
    found = through("ica", params, x)
    assert recovery(found, real) > 0.95
    np.testing.assert_allclose(np.cov(found), np.eye(3), atol=1e-9)
    product = np.abs(np.array(params.matrix) @ mixing * real.std(axis=1))
    assert np.sort(product, axis=1)[:, :-1].max() < 0.1 < 0.9 < product.max(axis=1).min()


def test_fewer_components_than_channels():
    real = sources()[:2]
    x = np.random.default_rng(3).normal(size=(5, 2)) @ real
    assert recovery(through("ica", ica.train(x, components=2), x), real) > 0.95
    with pytest.raises(ValueError, match="components = 5: expected fewer"):
        ica.train(x)


def test_the_same_samples_give_the_same_components():
    x = np.random.default_rng(4).normal(size=(3, 3)) @ sources()
    assert ica.train(x, seed=7) == ica.train(x, seed=7)
    assert ica.train(2 * x).mean == tuple(2 * m for m in ica.train(x).mean)


def test_sources_that_cannot_be_told_apart_are_said_to_be_so():
    x = np.random.default_rng(5).normal(size=(4, 60))
    with pytest.raises(ValueError, match="iterations = 3: no end found"):
        ica.train(x, iterations=3, tolerance=1e-12)


# --- Common spatial patterns --------------------------------------------------------------------------------------


def conditions(seed: int = 6) -> tuple[list[np.ndarray], list[np.ndarray], np.ndarray]:
    """Trials in which source 0, or else source 3, is loud; and how the channels see the sources."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(4, 4))
    loud, quiet = np.array([[4.0], [1], [1], [0.5]]), np.array([[0.5], [1], [1], [4.0]])
    first = [mixing @ (loud * rng.normal(size=(4, 1000))) for _ in range(10)]
    second = [mixing @ (quiet * rng.normal(size=(4, 1000))) for _ in range(12)]
    return first, second, mixing


def test_spatial_patterns_tell_conditions_apart():
    first, second, mixing = conditions()
    params = csp.train(first, second, filters=2)
    assert params.mean == ()
    for trial, sign in [(trial, 1) for trial in first] + [(trial, -1) for trial in second]:
        one, other = np.log(through("csp", params, trial).var(axis=1))
        assert sign * (one - other) > 1
    # Each filter hears the source that is loud in its condition.
    heard = np.abs(np.array(params.matrix) @ mixing)
    assert heard.argmax(axis=1).tolist() == [0, 3]


def test_filters_solve_the_generalised_eigenproblem():
    first, second, _ = conditions()
    one, other = (np.mean([np.cov(x) / np.trace(np.cov(x)) for x in trials], axis=0) for trials in (first, second))
    matrix = np.array(csp.train(first, second, filters=4).matrix)
    ratios = [(row @ one @ row) / (row @ other @ row) for row in matrix]
    np.testing.assert_allclose(ratios, eigh(one, other, eigvals_only=True)[::-1], rtol=1e-4)
    odd = csp.train(first, second, filters=3).matrix
    assert odd == tuple(tuple(row) for row in matrix[[0, 1, 3]].tolist())


# --- Beams --------------------------------------------------------------------------------------------------------

LINE = np.stack([np.arange(6) * 0.1, np.zeros(6)], axis=1)


def gain(params: Any, positions: np.ndarray, azimuth: float, frequency: float = 1000.0) -> tuple[float, float]:
    """Amplitudes of the blocking rows' outputs (the greatest) and of the beam, for a wave from a direction.

    The wave is made here from the way it has to go, 343 m a second.
    """
    direction = np.array([np.cos(np.radians(azimuth)), np.sin(np.radians(azimuth))])
    early = (positions - positions.mean(axis=0)) @ direction / 343.0
    wave = np.exp(2j * np.pi * frequency * early)  # the real part of its turning is what sensors have
    return np.abs(np.array(params.blocking) @ wave).max(), abs(np.array(params.steering) @ wave)


@pytest.mark.parametrize("azimuth", [20.0, 60.0, 90.0, 135.0])
@pytest.mark.parametrize("spacing", [0.05, 0.1])
@pytest.mark.parametrize("frequency", [500.0, 1500.0])
def test_d20_the_beam_passes_its_direction_and_the_blocking_branch_nothing_of_it(azimuth, spacing, frequency):
    positions = LINE * spacing / 0.1
    params = beamformer.train(positions, frequency, azimuth)
    blocked, passed = gain(params, positions, azimuth, frequency)
    assert passed == pytest.approx(1, rel=1e-12)
    assert blocked < 1e-12
    rows = np.array(params.blocking)
    np.testing.assert_allclose(rows @ rows.T, np.eye(len(rows)), atol=1e-12)
    assert len(rows) == (5 if azimuth == 90 else 4)


def test_d20_weights_follow_angle_geometry_spacing_frequency_and_speed():
    usual = beamformer.train(LINE, 1000.0, 60.0)
    others = [
        beamformer.train(LINE, 1000.0, 70.0),
        beamformer.train(LINE, 1000.0, 60.0, elevation=20.0),
        beamformer.train(LINE * 0.8, 1000.0, 60.0),
        beamformer.train(LINE + np.array([[0, 0.02]] * 3 + [[0, 0]] * 3), 1000.0, 60.0),
        beamformer.train(LINE, 800.0, 60.0),
        beamformer.train(LINE, 1000.0, 60.0, speed=1480.0),
    ]
    for other in others:
        assert np.abs(np.subtract(usual.steering, other.steering)).max() > 0.01
    assert beamformer.train(LINE + 7.0, 1000.0, 60.0).steering == pytest.approx(usual.steering), "only distances matter"


def test_a_broadside_beam_is_the_mean():
    assert beamformer.train(LINE, 1000.0, 90.0).steering == pytest.approx((1 / 6,) * 6)


def test_a_beam_is_quieter_elsewhere():
    params = beamformer.train(LINE, 1000.0, 90.0)
    assert gain(params, LINE, 90.0 + 35)[1] < 0.1
    assert gain(params, LINE, 90.0 + 35)[0] > 0.3, "which the blocking branch hears"


def test_what_the_blocking_branch_hears_can_be_taken_from_the_beam():
    """As an adaptive filter behind it does: here by least squares over a few samples of channel 0."""
    rate, frequency = 16_000.0, 1000.0
    time = np.arange(16_000) / rate
    around = LINE - LINE.mean(axis=0)

    def wave(azimuth: float, envelope: np.ndarray) -> np.ndarray:
        early = around @ [np.cos(np.radians(azimuth)), np.sin(np.radians(azimuth))] / 343.0
        return envelope * np.sin(2 * np.pi * frequency * (time + early[:, np.newaxis]))

    own = np.sin(2 * np.pi * 3 * time)
    x = wave(75.0, own) + wave(150.0, 2 * np.sin(2 * np.pi * 5 * time + 1))
    blocked, beam = through("gsc", beamformer.train(LINE, frequency, 75.0), x)
    as_in_the_middle = own * np.sin(2 * np.pi * frequency * time)
    history = np.lib.stride_tricks.sliding_window_view(blocked, 8)
    weights = np.linalg.lstsq(history, beam[7:], rcond=None)[0]
    left = beam[7:] - history @ weights
    assert np.abs(beam - as_in_the_middle).max() > 0.1
    assert np.abs(left - as_in_the_middle[7:]).max() < 0.02


# --- Channels -----------------------------------------------------------------------------------------------------


def test_groups_of_one_channel_copy_it():
    x = correlated(3, 200)
    merged = through("channel_merge", STAGES["channel_merge"].params(((2,), (0,), (2,))), x)
    selected = through("channel_select", STAGES["channel_select"].params((2, 0, 2)), x)
    np.testing.assert_array_equal(merged, x[[2, 0, 2]])
    np.testing.assert_array_equal(selected, merged)


def test_many_channels_are_added_in_one_order():
    rng = np.random.default_rng(8)
    params = STAGES["pca"].params(tuple(map(tuple, rng.normal(size=(40, 64)).tolist())))
    trial = Trial(STAGES["pca"], params, Signal(FS, 64))
    x = rng.normal(size=(9, 64, 130))
    check_chunks(trial, x[:2], [1, 2, 5, 64])
    check_rows(trial, x, range(9), [60])


# --- Parameters and state -----------------------------------------------------------------------------------------


def fitted() -> dict[str, Any]:
    x = np.random.default_rng(9).normal(size=(3, 3)) @ sources()
    first, second, _ = conditions()
    return {
        "pca": pca.train(x, components=2),
        "whitening": whitening.train(x),
        "ica": ica.train(x),
        "csp": csp.train([trial[:3] for trial in first], [trial[:3] for trial in second], filters=2),
        "gsc": beamformer.train(LINE[:3], 1000.0, 60.0),
        "channel_select": STAGES["channel_select"].params((2, 0)),
        "channel_merge": STAGES["channel_merge"].params(((0, 1), (2,))),
    }


@pytest.mark.parametrize("kind", fitted())
def test_d17_fitted_parameters_go_into_a_pipeline_and_a_sensor_resumes_anywhere(kind):
    params = fitted()[kind]
    own = "\n".join(f"{name} = {value}" for name, value in msgspec.to_builtins(params).items())
    own = own.replace("(", "[").replace(")", "]")
    text = f"""
    name = "spatial"
    sample_rate = 250
    channels = 3
    [[stages]]
    type = "{kind}"
    {own}
    [[stages]]
    type = "butterworth"
    order = 3
    cutoff = [40]
    [features]
    low = {{ of = "butterworth", take = "vector" }}
    """
    pipeline = parse_pipeline(text, "spatial.toml")
    assert pipeline.nodes[0].params == params
    assert type(pipeline.nodes[0].params) is type(params)
    x = np.ascontiguousarray(correlated(3, 160).T).ravel()
    cut = blocks("s", x, [1, 2, 3, 7, 13, 50, 1, 83], channels=3)
    whole, moved = Partition(Engine(pipeline)), Partition(Engine(pipeline))
    for block in cut:
        expected = whole.feed(block).values
        np.testing.assert_array_equal(moved.feed(block).values, expected)
        move(moved.engine, ["s"])


REFUSED = [
    (lambda: pca.train(np.zeros(5)), r"samples of shape \(5,\): expected \(channels, samples\)"),
    (lambda: pca.train(np.zeros((3, 1))), "1 samples of 3 channels: expected at least 2"),
    (lambda: pca.train([[1.0, np.nan]]), "samples: expected finite numbers, without gaps"),
    (lambda: pca.train(correlated(3), components=4), "components = 4: expected 1 to the 3 channels"),
    (lambda: whitening.train(correlated(3), epsilon=-1.0), "epsilon = -1.0: expected 0 or more"),
    (lambda: whitening.train(np.zeros((2, 9))), "expected none of nothing"),
    (lambda: ica.train(np.ones((3, 14))), "14 samples of 3 channels: expected at least 15"),
    (lambda: ica.train(correlated(3), components=0), "components = 0: expected 1 to the 3 channels"),
    (lambda: csp.train([], [correlated(3)], 1), "0 and 1 trials: expected at least one of each condition"),
    (lambda: csp.train([correlated(3)], [correlated(2)], 1), "3 and 2 channels: expected as many in both"),
    (lambda: csp.train([correlated(3), correlated(2)], [correlated(3)], 1), "trials of 3 and 2 channels"),
    (lambda: csp.train([correlated(3)], [correlated(3)], 4), "filters = 4: expected 1 to the 3 channels"),
    (lambda: csp.train([np.ones((3, 9))], [correlated(3)], 1), "a trial of nothing but constants"),
    (lambda: beamformer.train(np.zeros((3, 4)), 1e3, 0), r"positions of shape \(3, 4\): expected \(channels, 2\)"),
    (lambda: beamformer.train(LINE, 0.0, 0), "frequency = 0.0: expected above 0"),
    (lambda: beamformer.train(LINE, 1e3, 0, speed=-1.0), "speed = -1.0: expected above 0"),
    (lambda: beamformer.train(LINE, 1e3, np.nan), "azimuth = nan: expected degrees"),
    (lambda: beamformer.train(LINE[:2], 1e3, 60.0), "2 sensors: expected at least 3, for one that blocks"),
    (lambda: beamformer.train(LINE[:1], 1e3, 90.0), "1 sensors: expected at least 2"),
    (lambda: beamformer.train(LINE[:2], 1715.0, 0.0), "cannot tell a wave's phase there at 1715.0 Hz"),
]


@pytest.mark.parametrize(("train", "text"), REFUSED)
def test_trainers_say_what_they_cannot_do(train, text):
    with pytest.raises(ValueError, match=text):
        train()
