"""Linear filters against what is asked of them: edges, slopes, ripples, stability; and the peer's defects."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import pytest

from app.dsp.conformance import Trial, check_chunks, check_resume
from app.dsp.fir import MOST_DIRECT
from app.dsp.partitioned import frame_length
from app.dsp.pipeline import Node
from app.dsp.responses import response
from app.dsp.stage import EXAMPLE_RATE, Floats, Signal
from app.dsp.stages import STAGES
from app.dsp.stages.filters import filter_bank
from app.sources import builtin_ecg

ECG = builtin_ecg().channel(0)
RATE = EXAMPLE_RATE
HALF_POWER = 10 * np.log10(0.5)
FILTERS = [kind for kind in STAGES if STAGES.family(kind) == "filters"]

#: Recursive designs, with what is asked of them beside order and edges, and the gain in dB at their edges.
DESIGNS: dict[str, tuple[dict[str, float], float]] = {
    "bessel": ({}, HALF_POWER),
    "butterworth": ({}, HALF_POWER),
    "chebyshev1": ({"ripple": 0.5}, -0.5),
    "chebyshev2": ({"attenuation": 50.0}, -50.0),
    "elliptic": ({"ripple": 0.5, "attenuation": 50.0}, -0.5),
}
BANDS = [("lowpass", (30.0,)), ("highpass", (30.0,)), ("bandpass", (10.0, 60.0)), ("bandstop", (10.0, 60.0))]

every_design = pytest.mark.parametrize("kind", DESIGNS)
every_band = pytest.mark.parametrize(("btype", "cutoff"), BANDS)


def node(kind: str, rate: float = RATE, **params: Any) -> Node:
    stage = STAGES[kind]
    return Node(kind, "input", kind, stage, msgspec.convert(params, stage.params), Signal(rate, 1))


def trial(own: Node) -> Trial:
    return Trial(own.stage, own.params, own.takes)


def filtered(own: Node, x: Floats, cuts: tuple[int, ...] = ()) -> Floats:
    return trial(own).run(x[np.newaxis, np.newaxis], cuts).values[0][:, 0, 0]


def gain(own: Node, frequencies: Any) -> Floats:
    """In dB."""
    with np.errstate(divide="ignore"):
        return 20 * np.log10(np.abs(response(own, np.asarray(frequencies, dtype=float))))


def designed(own: Node) -> Floats:
    assert own.stage.design is not None
    return own.stage.design(own.params, own.takes.sample_rate)


def poles(own: Node) -> Floats:
    return np.concatenate([np.roots(section[3:]) for section in designed(own)])


# --- Edges: the peer doubles them ---------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [1, 2, 5, 8])
@every_band
@every_design
def test_d01_the_gain_at_the_edges_is_what_is_asked(kind, order, btype, cutoff):
    more, expected = DESIGNS[kind]
    own = node(kind, order=order, cutoff=cutoff, btype=btype, **more)
    np.testing.assert_allclose(gain(own, cutoff), expected, atol=1e-6)


@every_band
@pytest.mark.parametrize("window", ["bartlett", "hann", "hamming", "blackman", "kaiser"])
def test_d01_half_the_amplitude_passes_a_fir_at_its_edges(window, btype, cutoff):
    beta = {"beta": 7.0} if window == "kaiser" else {}
    own = node("fir", taps=601, cutoff=cutoff, btype=btype, window=window, **beta)
    np.testing.assert_allclose(gain(own, cutoff), 20 * np.log10(0.5), atol=0.1)


def test_d01_a_sine_at_the_edge_of_a_low_pass():
    """The peer's own case: 100 Hz at 1,000 Hz."""
    time = np.arange(8000) / 1000.0
    sine = np.sin(2 * np.pi * 100 * time)
    for kind, params, expected in (
        ("butterworth", {"order": 4}, 0.5**0.5),
        ("bessel", {"order": 4}, 0.5**0.5),
        ("fir", {"taps": 101}, 0.5),
    ):
        y = filtered(node(kind, 1000.0, cutoff=(100.0,), **params), sine)[4000:]
        assert np.sqrt(2 * np.mean(y**2)) == pytest.approx(expected, rel=5e-3)


@every_design
def test_d01_the_band_pass_for_ecg_is_stable(kind):
    """0.5 to 100 Hz at 250 Hz, which the peer's doubling makes unstable."""
    own = node(kind, order=4, cutoff=(0.5, 100.0), btype="bandpass", **DESIGNS[kind][0])
    assert np.abs(poles(own)).max() < 1
    assert np.abs(filtered(own, ECG[:50_000])).max() < 3 * np.abs(ECG[:50_000]).max()


def test_the_anti_aliasing_filter_of_decimate_lets_half_through_at_half_its_rate():
    np.testing.assert_allclose(gain(node("decimate", factor=5), [25.0]), 20 * np.log10(0.5), atol=0.05)


@every_design
@pytest.mark.parametrize(
    ("btype", "cutoff"),
    [
        ("lowpass", (0.01,)),
        ("highpass", (0.01,)),
        ("lowpass", (124.9,)),
        ("highpass", (124.9,)),
        ("bandpass", (0.02, 124.9)),
        ("bandstop", (50.0, 50.01)),
    ],
)
def test_poles_are_stable_at_extreme_edges(kind, btype, cutoff):
    more, expected = DESIGNS[kind]
    own = node(kind, order=8, cutoff=cutoff, btype=btype, **more)
    assert np.abs(poles(own)).max() < 1
    np.testing.assert_allclose(gain(own, cutoff), expected, atol=0.1)
    assert 0 < own.stage.settle(own.params, own.takes) < 1 << 48


# --- Order: the peer ignores it -----------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [1, 2, 4, 8])
@every_band
@every_design
def test_d02_a_design_has_as_many_poles_as_are_asked_for(kind, order, btype, cutoff):
    own = node(kind, order=order, cutoff=cutoff, btype=btype, **DESIGNS[kind][0])
    assert np.count_nonzero(np.abs(poles(own)) > 1e-9) == order * len(cutoff)


@every_design
def test_d02_the_slope_grows_with_the_order(kind):
    f = np.geomspace(1, 9999, 20_000)
    falls = []
    for order in (1, 2, 4, 8):
        own = gain(node(kind, 20_000.0, order=order, cutoff=(30.0,), **DESIGNS[kind][0]), f)
        falls.append(f[np.argmax(own < -40)] / f[np.argmax(own < HALF_POWER)])
    assert all(later < 0.95 * earlier for earlier, later in pairwise(falls)), falls


@pytest.mark.parametrize("order", [1, 2, 4, 8])
def test_d02_a_butterworth_falls_by_six_decibels_an_octave_and_order(order):
    own = node("butterworth", 10_000.0, order=order, cutoff=(10.0,))
    fall = -np.diff(gain(own, [160.0, 320.0]))[0]
    assert fall == pytest.approx(20 * np.log10(2) * order, rel=0.01)


# --- Ripples ------------------------------------------------------------------------------------------------------


def test_chebyshev1_ripples_in_the_pass_band_alone():
    own = node("chebyshev1", order=6, cutoff=(30.0,), ripple=1.0)
    passed, stopped = gain(own, np.linspace(0, 30, 2001)), gain(own, np.linspace(30, 124, 500))
    assert passed.min() == pytest.approx(-1, abs=1e-4)
    assert passed.max() == pytest.approx(0, abs=1e-4)
    assert np.count_nonzero(np.diff(np.sign(np.diff(passed)))) == 5, "extremes between 0 Hz and the edge"
    assert (np.diff(stopped) < 0).all()


def test_chebyshev2_ripples_in_the_stop_band_alone():
    own = node("chebyshev2", order=6, cutoff=(30.0,), attenuation=50.0)
    passed, stopped = gain(own, np.linspace(0, 20, 500)), gain(own, np.linspace(30, 124.9, 4000))
    assert (np.diff(passed) < 1e-9).all()
    assert stopped.max() == pytest.approx(-50, abs=1e-6)
    assert passed[0] == pytest.approx(0, abs=1e-9)


def test_elliptic_ripples_in_both_bands_and_falls_fastest():
    own = node("elliptic", order=6, cutoff=(30.0,), ripple=0.5, attenuation=60.0)
    passed, other = gain(own, np.linspace(0, 30, 4001)), gain(own, np.linspace(30, 124.9, 20_000))
    assert passed.min() == pytest.approx(-0.5, abs=1e-4)
    assert passed.max() == pytest.approx(0, abs=1e-4)
    reached = int(np.argmax(other <= -60))
    assert other[reached:].max() == pytest.approx(-60, abs=0.01)
    frequency = [np.linspace(30, 124.9, 20_000)[reached]]
    assert gain(node("chebyshev1", order=6, cutoff=(30.0,), ripple=0.5), frequency)[0] > -50
    assert gain(node("butterworth", order=6, cutoff=(30.0,)), frequency)[0] > -30


def test_bessel_delays_all_alike():
    """A step overshoots by less than 1 %, where Butterworth's does by a tenth."""
    step = np.ones(200)
    assert filtered(node("bessel", 1000.0, order=4, cutoff=(20.0,)), step).max() < 1.01
    assert filtered(node("butterworth", 1000.0, order=4, cutoff=(20.0,)), step).max() > 1.1
    f = np.linspace(0.5, 15, 40)
    phase = np.unwrap(np.angle(response(node("bessel", 1000.0, order=4, cutoff=(20.0,)), f)))
    delay = -np.diff(phase) / np.diff(f)
    assert delay.max() < 1.01 * delay.min()


# --- Biquads ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("frequency", "q"), [(50.0, 30.0), (60.0, 5.0), (0.5, 1.0), (100.0, 2.0)])
def test_a_notch_takes_its_frequency_away_and_is_as_wide_as_asked(frequency, q):
    own = node("notch", frequency=frequency, q=q)
    assert np.abs(response(own, np.array([frequency])))[0] < 1e-9
    np.testing.assert_allclose(gain(own, [0.0, 125.0]), 0, atol=1e-9)
    width = frequency / q
    f = np.linspace(max(1e-3, frequency - width), min(124.999, frequency + width), 200_001)
    below = f[gain(own, f) < HALF_POWER]
    assert below[-1] - below[0] == pytest.approx(width, rel=1e-4)


@pytest.mark.parametrize("decibels", [12.0, -20.0])
def test_a_peak_and_shelves_have_the_gain_asked_for(decibels):
    ends, middle = [0.0, 125.0], [20.0]
    for kind, expected, at_middle in (
        ("biquad_peak", [0, 0], decibels),
        ("low_shelf", [decibels, 0], decibels / 2),
        ("high_shelf", [0, decibels], decibels / 2),
    ):
        own = node(kind, frequency=20.0, gain=decibels)
        np.testing.assert_allclose(gain(own, ends), expected, atol=1e-9)
        np.testing.assert_allclose(gain(own, middle), at_middle, atol=1e-9)


def test_a_peak_of_no_gain_changes_nothing():
    x = ECG[:500]
    for kind in ("biquad_peak", "low_shelf", "high_shelf"):
        np.testing.assert_allclose(filtered(node(kind, frequency=20.0, gain=0.0), x), x, atol=1e-12)


# --- Finite responses ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("taps", [16, 32, 65, 128, 129, 251])
def test_d04_a_fir_delays_by_no_more_than_its_taps_and_wraps_none(taps):
    own = node("fir", taps=taps, cutoff=(30.0,))
    h = designed(own)
    np.testing.assert_allclose(h, h[::-1], atol=1e-15)
    y = filtered(own, np.eye(1, taps + 100)[0], (1, 2, taps // 2, taps, taps + 1))
    np.testing.assert_allclose(y, np.concatenate([h, np.zeros(100)]), atol=1e-16)
    sine = np.sin(2 * np.pi * 5 * (np.arange(1000) - (taps - 1) / 2) / RATE)
    given = np.sin(2 * np.pi * 5 * np.arange(1000) / RATE)
    amplitude = np.abs(response(own, np.array([5.0])))[0]
    np.testing.assert_allclose(filtered(own, given)[taps:], amplitude * sine[taps:], atol=1e-12)


@pytest.mark.parametrize(
    ("window", "attenuation"), [("bartlett", 25), ("hann", 44), ("hamming", 51), ("blackman", 74), ("kaiser", 80)]
)
def test_each_window_of_a_fir_has_its_attenuation(window, attenuation):
    """Oppenheim & Schafer, table 7.2; beta = 7.857 for 80 dB by Kaiser's formula."""
    beta = {"beta": 7.857} if window == "kaiser" else {}
    own = node("fir", taps=201, cutoff=(30.0,), window=window, **beta)
    assert gain(own, np.linspace(40, 125, 4000)).max() < -attenuation + 1
    assert gain(own, [0.0])[0] == pytest.approx(0, abs=1e-9)


def test_an_optimal_fir_has_equal_ripples_as_they_are_weighted():
    own = node("fir_optimal", taps=65, bands=(0.0, 30.0, 38.0, 125.0), desired=(1.0, 0.0), weights=(1.0, 10.0))
    passed = np.abs(np.abs(response(own, np.linspace(0, 30, 3000))) - 1)
    stopped = np.abs(response(own, np.linspace(38, 125, 9000)))
    assert passed.max() == pytest.approx(10 * stopped.max(), rel=0.02)
    peaks = stopped[1:-1][(stopped[1:-1] > stopped[:-2]) & (stopped[1:-1] > stopped[2:])]
    assert len(peaks) > 20
    np.testing.assert_allclose(peaks, stopped.max(), rtol=0.02)


def test_an_optimal_fir_that_remez_first_gets_wrong():
    """With its usual 25 iterations it says that it is done, an error of 0.12 in the last band."""
    own = node("fir_optimal", taps=201, bands=(0.0, 45.0, 48.0, 52.0, 55.0, 125.0), desired=(1.0, 0.0, 1.0))
    for low, high, expected in ((0, 45, 1), (48, 52, 0), (55, 125, 1)):
        error = np.abs(np.abs(response(own, np.linspace(low, high, 2000))) - expected)
        assert error.max() == pytest.approx(0.0042, abs=1e-4)


def test_an_optimal_fir_is_sought_on_a_finer_grid_where_remez_fails_on_a_coarse_one():
    own = node("fir_optimal", taps=501, bands=(0.0, 20.0, 25.0, 125.0), desired=(1.0, 0.0))
    assert gain(own, np.linspace(25, 125, 5000)).max() < -150


# --- Convolution --------------------------------------------------------------------------------------------------

KERNELS = {size: np.random.default_rng(size).normal(size=size) for size in (1, 2, 100, 128, 129, 300, 1000, 5000)}


@pytest.mark.parametrize("size", KERNELS)
def test_d07_convolution_in_calls_of_any_length_is_the_whole_ones(size):
    own = node("convolution", kernel=KERNELS[size].tolist())
    x = ECG[:6000]
    whole = filtered(own, x)
    assert whole[0] == KERNELS[size][0] * x[0], "nothing waits until the kernel is full"
    scale = np.abs(KERNELS[size]).sum() * np.abs(x).max()
    np.testing.assert_allclose(whole, np.convolve(x, KERNELS[size])[:6000], atol=1e-14 * scale)
    for length in (10, 64, 257):
        assert filtered(own, x, tuple(range(length, 6000, length))).tobytes() == whole.tobytes()


def test_d07_state_is_kept_and_the_kernel_is_not_turned_round():
    own = node("convolution", kernel=[1.0, 2.0, 3.0])
    assert filtered(own, np.array([1.0, 0, 0, 10, 0, 0]), (1, 4)).tolist() == [1, 2, 3, 10, 20, 30]


def test_rows_may_be_at_different_places_of_their_frames():
    own = trial(node("convolution", kernel=KERNELS[1000].tolist()))
    frame = frame_length(1000)
    assert frame < 1000
    ahead = [0, 1, frame - 1, frame, frame + 1, 3 * frame, 5 * frame - 7]
    x = np.stack([ECG[start : start + 3000] for start in range(0, 7000, 1000)])[:, np.newaxis]
    states = [own.run(x[row : row + 1, :, :seen]).state if seen else own.fresh(1) for row, seen in enumerate(ahead)]
    state = {name: np.concatenate([one[name] for one in states]) for name in states[0]}
    for samples in (1, 5, frame - 1, frame, frame + 1, 1000):
        rest = np.stack([x[row, :, seen : seen + samples] for row, seen in enumerate(ahead)])
        together = own.step(state, rest)
        for row, seen in enumerate(ahead):
            alone = own.run(x[row : row + 1, :, : seen + samples])
            assert together.values[row].tobytes() == alone.values[0][seen:].tobytes()
            assert all(array[row].tobytes() == alone.state[name].tobytes() for name, array in together.state.items())


def test_convolution_neither_drifts_nor_remembers_a_burst():
    own = node("convolution", kernel=KERNELS[300].tolist())
    x = 1e6 + np.random.default_rng(1).normal(size=400_000)
    x[200_000:200_100] *= 1000.0
    y = filtered(own, x, tuple(range(50_000, 400_000, 50_000)))
    expected = np.convolve(x, KERNELS[300])[: len(x)]
    np.testing.assert_allclose(y, expected, atol=1e-12 * np.abs(x).max())
    calm = slice(201_000, None)
    np.testing.assert_allclose(y[calm], expected[calm], atol=1e-9)
    undisturbed = filtered(own, np.where(np.arange(len(x)) < 200_100, 0.0, x))
    assert y[calm].tobytes() == undisturbed[calm].tobytes()


# --- Resuming: the peer loses its place ---------------------------------------------------------------------------


def resumable() -> list[Node]:
    of_each = [node(kind, **STAGES[kind].examples[0]) for kind in FILTERS]
    return [*of_each, node("convolution", kernel=KERNELS[300].tolist())]


@pytest.mark.parametrize("own", resumable(), ids=lambda own: own.type)
def test_d03_a_filter_resumes_after_any_number_of_samples(own):
    x, others = ECG[:400].reshape(1, 1, 400), ECG[5000:5800].reshape(2, 1, 400)
    for at in [*range(1, 21), *(63, 64, 65, 128)]:
        check_resume(trial(own), x, others, at, at % 2)
    check_chunks(trial(own), x, range(1, 21))


# --- Filter bank --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scale", "limits", "expected"),
    [
        ("linear", (1.0, 41.0), [1, 11, 21, 31, 41]),
        ("log", (1.0, 16.0), [1, 2, 4, 8, 16]),
        # 1 + f / 700 grows by a factor of 2 in 4 steps.
        ("mel", (700.0, 2100.0), [700, 964.89, 1279.90, 1654.51, 2100]),
        # 0 to 4 bark, by the inverse that Traunmüller gives: 1960 (z + 0.53) / (26.28 - z).
        ("bark", (39.528, 398.51), [39.528, 118.623, 204.234, 297.199, 398.51]),
    ],
)
def test_edges_of_a_bank_are_evenly_spaced_on_its_scale(scale, limits, expected):
    edges = filter_bank.edges(filter_bank.Params(4, limits, scale))
    np.testing.assert_allclose(edges, expected, rtol=1e-5)
    assert (edges[0], edges[-1]) == limits


def test_d27_each_band_of_a_bank_is_the_butterworth_it_is_said_to_be():
    own = node("filter_bank", count=3, range=(2.0, 98.0), order=3)
    bank = Trial(own.stage, own.params, Signal(RATE, 2))
    x = np.stack([ECG[:600], ECG[900:1500]])
    values = bank.run(x[np.newaxis], [7, 300]).values[0][:, :, 0]
    assert values.shape[1] == bank.stage.signal(bank.params, bank.signal).channels == 6
    for channel in range(2):
        for band, cutoff in enumerate([(2.0, 34.0), (34.0, 66.0), (66.0, 98.0)]):
            alone = filtered(node("butterworth", order=3, cutoff=cutoff, btype="bandpass"), x[channel])
            np.testing.assert_allclose(values[:, channel * 3 + band], alone, rtol=1e-9, atol=1e-13)
    np.testing.assert_allclose(gain(own, [34.0])[:2, 0], HALF_POWER, atol=1e-6)


# --- Responses ----------------------------------------------------------------------------------------------------


def filters_of_the_registry() -> list[tuple[str, dict[str, Any]]]:
    """All that are linear and time-invariant, whatever their family."""
    return [
        (kind, dict(given))
        for kind, stage in STAGES.items()
        if stage.design is not None and not stage.changes_pace
        for given in stage.examples
    ]


@pytest.mark.parametrize(("kind", "given"), filters_of_the_registry(), ids=lambda own: str(own)[:40])
def test_a_response_is_the_transform_of_the_impulse_response(kind, given):
    own = node(kind, **given)
    samples = 1 << 16
    impulses = trial(own).run(np.eye(1, samples)[:, np.newaxis]).values[0][:, :, 0].T
    f = np.fft.rfftfreq(samples, 1 / RATE)[::97]
    expected = np.fft.rfft(impulses)[:, ::97]
    np.testing.assert_allclose(np.atleast_2d(response(own, f)), expected, atol=1e-8 * np.abs(expected).max())


def test_what_is_not_linear_has_no_response():
    with pytest.raises(ValueError, match=r"stage hjorth \(hjorth\): expected a linear time-invariant filter"):
        response(node("hjorth", window=5), np.array([1.0]))


def test_every_filter_of_the_family_says_its_design():
    assert all(STAGES[kind].design is not None for kind in FILTERS)
    assert MOST_DIRECT < 200, "an example of convolution is long enough for frames"
