"""Spectra, mel bands, wavelets and envelopes against closed forms, other libraries and the peer's defects."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import pywt
from scipy.signal import welch

from app.dsp.conformance import Trial
from app.dsp.engine import Engine
from app.dsp.pipeline_file import parse_pipeline
from app.dsp.stage import Signal
from app.dsp.stages import STAGES
from app.dsp.stages.spectral import _mel
from tests.feeding import Block, Partition

FS = 250.0


def trial(kind: str, rate: float = FS, **params: Any) -> Trial:
    return Trial(STAGES[kind], STAGES[kind].params(**params), Signal(rate, 1))


def series(kind: str, x: np.ndarray, rate: float = FS, cuts: tuple[int, ...] = (), **params: Any) -> np.ndarray:
    """What a stage makes of one channel: (channels, values)."""
    return trial(kind, rate, **params).run(x[np.newaxis, np.newaxis], cuts).values[0][..., 0].T


def noise(samples: int) -> np.ndarray:
    return np.random.default_rng(20).normal(size=samples)


def sine(frequency: float, samples: int, rate: float = FS) -> np.ndarray:
    return np.sin(2 * np.pi * frequency * np.arange(samples) / rate)


# --- Fourier ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["stft", "mel_spectrogram"])
def test_d05_frames_follow_a_tone_that_changes(kind):
    x = np.concatenate([sine(20, 1000), sine(80, 1000)])
    how = {"window": 100, "hop": 25}
    if kind == "mel_spectrogram":
        how |= {"bands": 20}
    frames = series(kind, x, cuts=(7, 256, 512, 999, 1500), **how)
    assert frames.shape[1] == 1 + (2000 - 100) // 25
    ends = 100 + 25 * np.arange(frames.shape[1])
    loudest = frames.argmax(axis=0)
    edges = _mel.hertz(np.linspace(0, _mel.mel(125), 22))
    expected = [np.abs(edges[1:-1] - tone).argmin() if kind == "mel_spectrogram" else tone / 2.5 for tone in (20, 80)]
    assert (loudest[ends <= 1000] == expected[0]).all()
    assert (loudest[ends >= 1100] == expected[1]).all()


def test_d05_transforms_go_on_after_the_first_frame():
    frames = series("fft", np.concatenate([sine(tone, 100) for tone in (10, 20, 30, 40)]), cuts=(33, 250), size=100)
    assert frames.argmax(axis=0).tolist() == [4, 8, 12, 16]


@pytest.mark.parametrize("size", [2, 3, 63, 64, 100, 251])
def test_parseval(size):
    x = noise(size * 5)
    power = series("fft", x, size=size, output="power")
    both = np.full(len(power), 2.0)  # negative frequencies are not given
    both[0] = 1
    if size % 2 == 0:
        both[-1] = 1
    energy = np.square(x).reshape(5, size).sum(axis=1)
    np.testing.assert_allclose(both @ power / size, energy, rtol=1e-12)


@pytest.mark.parametrize("size", [63, 64])
def test_the_samples_come_back_from_real_and_imaginary_parts(size):
    x = noise(size * 4)
    parts = series("fft", x, size=size, output="real_imag")
    spectrum = parts[0::2] + 1j * parts[1::2]
    np.testing.assert_allclose(np.fft.irfft(spectrum, size, axis=0).T.ravel(), x, atol=1e-14)


def test_a_tone_is_in_its_bin():
    """Of amplitude A it has A size / 2 there, and nothing elsewhere; its phase is that of a cosine."""
    x = 3 * np.cos(2 * np.pi * 25 * np.arange(100) / FS + 0.7)
    magnitude, phase = (series("fft", x, size=100, output=output)[:, 0] for output in ("magnitude", "phase"))
    assert magnitude[10] == pytest.approx(150, rel=1e-12)
    assert np.delete(magnitude, 10).max() < 1e-11
    assert phase[10] == pytest.approx(0.7, rel=1e-12)


@pytest.mark.parametrize("taper", ["none", "hann", "hamming", "blackman", "bartlett"])
def test_the_density_of_white_noise_is_its_variance_over_half_the_rate(taper):
    x = 2 * noise(100_000)
    density = series("stft", x, window=200, taper=taper, output="density").mean(axis=1)
    np.testing.assert_allclose(density[2:-2].mean(), 4 / (FS / 2), rtol=0.02)
    window = "boxcar" if taper == "none" else taper
    _, expected = welch(x, FS, window, nperseg=200, noverlap=100, detrend=False)
    np.testing.assert_allclose(density, expected, rtol=1e-9)


def test_density_adds_up_to_the_mean_power():
    x = noise(1000) + 5
    density = series("fft", x, size=125, output="density")
    np.testing.assert_allclose(density.sum(axis=0) * FS / 125, np.square(x).reshape(8, 125).mean(axis=1), rtol=1e-12)


def test_a_burst_leaves_no_trace_once_it_has_left_the_window():
    x = noise(20_000)
    burst = x.copy()
    burst[5000:5200] *= 1000
    for kind, how in (
        ("stft", {"window": 128, "hop": 32}),
        ("mfcc", {"window": 128, "hop": 32, "bands": 16}),
        ("hilbert_envelope", {}),
        ("wavelet", {}),
    ):
        clean, disturbed = (series(kind, own, **how) for own in (x, burst))
        per_value = len(x) // clean.shape[1]
        np.testing.assert_array_equal(disturbed[:, 5400 // per_value :], clean[:, 5400 // per_value :], kind)
        assert not np.array_equal(disturbed, clean)


def test_powers_of_long_frames_stay_finite():
    x = np.full(1 << 16, 1e150)
    with np.errstate(over="raise", invalid="raise"):
        assert series("fft", x, size=1 << 16, output="power")[0, 0] == 1e303
        assert series("fft", x, size=1 << 16)[0, 0] == pytest.approx(65536e150)
        for kind in ("mel_spectrogram", "mfcc"):
            assert np.isfinite(series(kind, x, window=1 << 16)).all()


# --- Mel ----------------------------------------------------------------------------------------------------------


def test_the_mel_scale():
    """1000 Hz are 1000 mel, near enough, and the scale is as long as HTK has it."""
    np.testing.assert_allclose(_mel.mel(np.array([0.0, 700.0, 1000.0])), [0, 2595 * np.log10(2), 999.9855], rtol=1e-7)
    np.testing.assert_allclose(_mel.hertz(_mel.mel(np.array([20.0, 4000.0]))), [20, 4000])


def dense(window: int, rate: float, bands: int, frequency_range: tuple[float, float] | None = None) -> np.ndarray:
    bank = _mel.bank(window, rate, bands, frequency_range)
    matrix = np.zeros((bands, window // 2 + 1))
    band = np.repeat(np.arange(bands), np.diff([*bank.starts, len(bank.bins)]))
    matrix[band, bank.bins] = bank.weights
    return matrix


def test_triangles_of_the_mel_bank():
    """Bin by bin from the formula; between the first and the last peak all triangles add up to 1."""
    matrix = dense(512, 16_000.0, 26, (100.0, 7000.0))
    low, high = (2595 * np.log10(1 + f / 700) for f in (100.0, 7000.0))
    edges = [700 * (10 ** ((low + (high - low) * n / 27) / 2595) - 1) for n in range(28)]
    for band in range(26):
        left, peak, right = edges[band : band + 3]
        for number in range(257):
            f = number * 31.25
            rise, fall = (f - left) / (peak - left), (right - f) / (right - peak)
            assert matrix[band, number] == pytest.approx(max(0.0, min(rise, fall)), abs=1e-12)
    frequencies = np.arange(257) * 31.25
    inside = (frequencies >= edges[1]) & (frequencies <= edges[-2])
    np.testing.assert_allclose(matrix[:, inside].sum(axis=0), 1, rtol=1e-12)
    assert not matrix[:, (frequencies <= edges[0]) | (frequencies >= edges[-1])].any()


def test_coefficients_of_speech_as_a_recogniser_takes_them():
    """25 ms each 10 ms at 16 kHz, by the plain definition: a discrete Fourier sum, triangles, logarithms, cosines."""
    rate, window, hop, bands = 16_000.0, 400, 160, 26
    time = np.arange(4000) / rate
    x = np.sin(2 * np.pi * (300 + 4000 * time) * time) + 0.1 * noise(4000)
    found = series("mfcc", x, rate, cuts=(1, 500), window=window, hop=hop, lifter=22.0)
    n, k = np.arange(window), np.arange(window // 2 + 1)[:, np.newaxis]
    hann, waves = 0.5 - 0.5 * np.cos(2 * np.pi * n / window), np.exp(-2j * np.pi * k * n / window)
    assert found.shape == (13, 1 + (4000 - window) // hop)
    for frame in range(found.shape[1]):
        own = x[frame * hop : frame * hop + window] * hann
        energies = dense(window, rate, bands) @ np.abs((waves * own).sum(axis=1)) ** 2
        for i in range(13):
            b = np.arange(bands)
            c = np.sum(np.log(energies + 1e-10) * np.cos(np.pi * i * (b + 0.5) / bands))
            c *= np.sqrt((1 if i == 0 else 2) / bands) * (1 + 11 * np.sin(np.pi * i / 22))
            assert found[i, frame] == pytest.approx(c, rel=1e-9, abs=1e-9)


def test_silence_has_the_floor_for_its_loudness_and_no_shape():
    cepstra = series("mfcc", np.zeros(128), window=128, bands=16)[:, 0]
    assert cepstra[0] == pytest.approx(np.sqrt(16) * np.log(1e-10))
    np.testing.assert_allclose(cepstra[1:], 0, atol=1e-12)


def test_loudness_changes_the_first_coefficient_alone():
    x = noise(128)
    quiet, loud = (series("mfcc", gain * x, window=128, bands=16)[:, 0] for gain in (10, 1000))
    assert loud[0] - quiet[0] == pytest.approx(4 * 2 * np.log(100), rel=1e-9)
    np.testing.assert_allclose(loud[1:], quiet[1:], atol=1e-9)


def test_a_pipeline_writes_frames_as_durations():
    text = """
    name = "audio"
    sample_rate = 16000
    [[stages]]
    type = "mfcc"
    window = "25ms"
    hop = "10ms"
    [[stages]]
    type = "moving_rms"
    window = "100ms"
    [features]
    mfcc = { of = "mfcc", take = "vector" }
    """
    pipeline = parse_pipeline(text, "audio.toml")
    mfcc, rms = pipeline.nodes
    assert (mfcc.params.framing[:2], mfcc.gives, rms.params.window) == ((400, 160), Signal(100.0, 13), 10)
    x = noise(1600)
    # The last frame that ended with a block is the record's; before the first one there is nothing to say.
    features = Partition(Engine(pipeline)).feed(*(Block("s", x[n : n + 200], n) for n in range(0, 1600, 200)))
    frames = series("mfcc", x, 16_000.0, window=400, hop=160)
    ended = [-1, *((end - 400) // 160 for end in range(400, 1601, 200))]
    assert not features.full[0].any()
    np.testing.assert_array_equal(features.values[1:], frames.T[ended[1:]])


# --- Wavelets -----------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Level value of 3 is too high")
@pytest.mark.parametrize("wavelet", ["haar", "db4", "sym8", "coif2", "bior3.5"])
@pytest.mark.parametrize("samples", [32, 1000])
def test_d19_every_so_many_values_are_the_coefficients_of_pywt(wavelet, samples):
    """At the 2**level-th sample and so on, from the first one: before it pywt's signal is 0 too, in this mode."""
    x, levels = noise(samples), 3
    bands = series("wavelet", x, cuts=(5, 17), wavelet=wavelet, levels=levels)
    expected = pywt.wavedec(x, wavelet, mode="zero", level=levels)
    for own, coefficients, level in zip(bands, expected, [levels, *range(levels, 0, -1)], strict=True):
        kept = own[2**level - 1 :: 2**level]
        np.testing.assert_allclose(kept, coefficients[: len(kept)], atol=1e-12)
    if samples == 1000:  # away from the ends, the mode makes no difference
        symmetric = pywt.wavedec(x, wavelet, mode="symmetric", level=levels)
        np.testing.assert_allclose(bands[0, 7::8][40:100], symmetric[0][40:100], atol=1e-12)


def test_d19_haar_is_sums_and_differences_of_neighbours():
    approximation, detail = series("wavelet", np.array([1.0, 3.0, 2.0, 2.0, 7.0, 0.0]), wavelet="haar", levels=1)
    np.testing.assert_allclose(approximation[1::2], np.array([4, 4, 7]) / np.sqrt(2))
    np.testing.assert_allclose(detail[1::2], np.array([-2, 0, 7]) / np.sqrt(2))


def test_subbands_share_the_energy():
    """Each level has its share as often as it has values for each coefficient."""
    x = np.concatenate([noise(500), np.zeros(300)])
    bands = np.square(series("wavelet", x, wavelet="db4", levels=4)).sum(axis=1)
    assert bands @ (1 / np.array([16, 16, 8, 4, 2])) == pytest.approx(np.square(x).sum(), rel=1e-12)


def test_a_tone_is_in_the_subband_of_its_octave():
    for tone, band in ((90, 4), (45, 3), (22, 2), (3, 0)):
        bands = np.square(series("wavelet", sine(tone, 1000), wavelet="sym8", levels=4)).sum(axis=1)
        assert (bands / [16, 16, 8, 4, 2]).argmax() == band


# --- Envelope -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("taps", "carrier"), [(65, 40.0), (65, 62.5), (101, 110.0), (31, 30.0)])
def test_d05_the_envelope_is_that_of_an_amplitude_modulated_tone(taps, carrier):
    time = np.arange(2000) / FS
    envelope = 2 + np.cos(2 * np.pi * 1.5 * time)
    found = series("hilbert_envelope", envelope * np.cos(2 * np.pi * carrier * time), cuts=(3, 64, 1000), taps=taps)[0]
    delay = (taps - 1) // 2
    np.testing.assert_allclose(found[taps - 1 :], envelope[taps - 1 - delay : -delay], rtol=0.012)


@pytest.mark.parametrize("taps", [15, 65, 129])
def test_the_envelope_of_a_tone_is_flat_in_the_band_that_is_said(taps):
    for tone in np.linspace(2 * FS / taps, FS / 2 - 2 * FS / taps, 7):
        flat = series("hilbert_envelope", sine(tone, 3 * taps), taps=taps)[0, taps:]
        np.testing.assert_allclose(flat, 1, atol=0.01)
