"""`continuum run`: what a recording gives offline is what a worker would send, and equals plain scipy."""

from __future__ import annotations

import csv
import dataclasses
import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

import app.run
from app.cli.run import run
from app.dsp.pipeline_file import parse_pipeline
from app.errors import ContinuumError
from app.offline import FEATURES, Policies, ecg_features
from app.pipelines import shipped_pipelines
from app.records import EcgFeatures
from app.run import Run, RunError
from app.sources import Recording, builtin_ecg, read_recording, resampled
from app.verify import FeatureVerifier, Sent
from tests.feeding import TWO_CHANNELS, two_channels
from tests.recordings import record_path

ECG = shipped_pipelines()["ecg"]
BUILTIN = builtin_ecg()


def command(*arguments: str | Path):
    cli = typer.Typer()
    cli.command()(run)
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def ran(*arguments: str | Path) -> list[bytes]:
    """Run the command, and give the records that it wrote to stdout."""
    result = command(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout_bytes.splitlines()


def said(result) -> str:
    return " ".join(result.stderr.split())


def recording(signals: np.ndarray, sample_rate: float = 250.0, start: datetime | None = None) -> Recording:
    signals = np.atleast_2d(signals)
    return Recording("rec", sample_rate, tuple(f"c{n}" for n in range(len(signals))), signals, start)


def values(records: list[bytes]) -> np.ndarray:
    decoded = [json.loads(record) for record in records]
    return np.array([[record[name] for name in FEATURES] for record in decoded], dtype=float)


def csv_file(path: Path, columns: dict[str, np.ndarray]) -> Path:
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    lines = [",".join("" if value != value else repr(value) for value in row) for row in rows]
    path.write_text("\n".join([",".join(columns), *lines]))
    return path


# --- The records ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [7, 256, 1000, 65_536])
@pytest.mark.parametrize("pipeline", ["ecg", "ecg-branched"])
def test_records_equal_an_offline_pass(block, pipeline):
    x = BUILTIN.channel(0)
    planned = Run(shipped_pipelines()[pipeline], BUILTIN, block, "s")
    records = [record for batch in planned.records() for record in batch]
    ends = np.minimum(np.arange(block, len(x) + block, block), len(x))
    assert len(records) == len(ends) == planned.total_blocks
    assert (planned.left_out, ends[-1]) == (0, len(x)), "the last block is as short as it comes"
    expected = ecg_features(x, ends, branched=pipeline == "ecg-branched")
    np.testing.assert_allclose(values(records), expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize("batch", [1, 1000, 10**6])
def test_records_come_some_at_a_time_and_do_not_depend_on_how_many(batch, monkeypatch):
    samples = BUILTIN.channel(0)[:20_000].copy()
    samples[[3000, 9000]] = np.nan
    planned = Run(ECG, recording(samples), 100, "s")
    together = [record for part in planned.records() for record in part]
    monkeypatch.setattr(app.run, "BATCH_SAMPLES", batch)
    parts = list(planned.records())
    assert max(len(part) for part in parts) == min(max(1, batch // 100), 198)
    assert [record for part in parts for record in part] == together


def test_records_are_those_of_the_features_topic():
    start = datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)
    planned = Run(ECG, recording(BUILTIN.channel(0)[:600], start=start), 256, "bed-7")
    ((*_, record),) = planned.records()
    typed = EcgFeatures.loads(record)
    assert (typed.sensorId, typed.seq, typed.gap, typed.tier, typed.pipeline) == ("bed-7", 512, 0, "offline", "ecg")
    assert typed.timestamp == round(start.timestamp() * 1000) + 2048
    assert json.loads(typed.dumps()) == json.loads(record)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e150])
def test_blocks_that_touch_an_invalid_sample_are_left_out(bad):
    samples = BUILTIN.channel(0)[:5000].copy()
    samples[[0, 1024, 1500, 4999]] = bad
    planned = Run(ECG, recording(samples), 256, "s")
    records = [json.loads(record) for part in planned.records() for record in part]
    assert (planned.total_blocks, planned.left_out) == (20, 4)
    assert [(record["seq"], record["gap"]) for record in records if record["gap"]] == [(1536, 512)]
    assert records[0]["seq"] == 256
    whole = ecg_features(samples[1536:4864], [4864 - 1536])[0]
    assert [records[-1][name] for name in FEATURES] == pytest.approx(whole, rel=1e-9)


@pytest.mark.parametrize(
    "policies",
    [Policies("hold", 2.5, "interpolate"), Policies("interpolate", 0.5, "hold"), Policies("zero", 2.0, "reject")],
)
def test_samples_that_are_missing_are_made_up_as_the_pipeline_says(policies):
    """Blocks that touch a sample too great to compute with are left out; NaN too, unless it is repaired."""
    pipeline = dataclasses.replace(ECG, **policies._asdict())
    samples = BUILTIN.channel(0)[:20_000].copy()
    samples[[3000, 5000, 5300, 12_000]] = 1e151
    samples[[100, *range(900, 1200), 9000]] = np.nan
    valid = np.abs(samples) < 1e150 if policies.non_finite == "reject" else ~(np.abs(samples) >= 1e150)
    sent = [
        Sent(start, len(samples[start : start + 256]))
        for start in range(0, 20_000, 256)
        if valid[start : start + 256].all()
    ]
    planned = Run(pipeline, recording(samples), 256, "s")
    verifier = FeatureVerifier(policies=policies)
    verifier.expect("s", samples, sent)
    for part in planned.records():
        for record in part:
            verifier.add(record)
    assert verifier.verdict.passed, verifier.verdict
    assert planned.left_out == 79 - len(sent) == (8 if policies.non_finite == "reject" else 4)


def test_several_channels():
    x = np.stack([BUILTIN.channel(0)[:3000], BUILTIN.channel(0)[3000:6000]])
    planned = Run(two_channels(), recording(x), 256, "s")
    records = [json.loads(record) for part in planned.records() for record in part]
    ends = np.minimum(np.arange(256, 3256, 256), 3000)
    for channel in (0, 1):
        own = np.array([[record[f"{name}_{channel}"] for name in FEATURES] for record in records], dtype=float)
        np.testing.assert_allclose(own, ecg_features(x[channel], ends), rtol=1e-9, atol=0)


# --- The command ----------------------------------------------------------------------------------------------------


def test_the_built_in_ecg():
    result = command("--builtin")
    records = result.stdout_bytes.splitlines()
    assert [record for part in Run(ECG, BUILTIN, 256, "builtin").records() for record in part] == records
    assert said(result) == "293 records of sensor builtin: pipeline ecg, blocks of 256 samples at 250 Hz"


def test_csv_reads_back_exactly(tmp_path):
    path = tmp_path / "features.csv"
    result = command("--builtin", "--block", "100", "--format", "csv", "--output", path, "--sensor", 'a, "b"')
    assert (result.exit_code, result.stdout) == (0, "")
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    records = [json.loads(line) for line in ran("--builtin", "--block", "100", "--sensor", 'a, "b"')]
    assert len(rows) == len(records) == 750
    assert list(rows[0]) == list(records[0])
    for row, record in zip(rows, records, strict=True):
        for name, value in record.items():
            assert row[name] == ("" if value is None else value if isinstance(value, str) else repr(value))
    assert rows[0]["hjorth_mobility"] == ""


def test_jsonl_to_a_file(tmp_path):
    path = tmp_path / "features.jsonl"
    path.write_text("what was there before")
    assert command("--builtin", "--output", path).stdout == ""
    assert path.read_bytes().splitlines() == ran("--builtin")


def test_a_csv_file_with_a_channel_rate_and_missing_samples(tmp_path):
    x = BUILTIN.channel(0)[:3000].copy()
    x[700] = np.nan
    path = csv_file(tmp_path / "walk.csv", {"EMG": np.zeros(3000), "ECG": x})
    result = command(path, "--rate", "250", "--channel", "ECG", "--block", "500", "--pipeline", "ecg-branched")
    records = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(record["sensorId"], record["seq"], record["gap"]) for record in records] == [
        ("walk", start, 500 if start == 1000 else 0) for start in (0, 1000, 1500, 2000, 2500)
    ]
    expected = ecg_features(x[1000:], np.arange(500, 2001, 500), branched=True)
    np.testing.assert_allclose(values(result.stdout_bytes.splitlines()[1:]), expected, rtol=1e-9, atol=0)
    assert "blocks left out, as they touch invalid samples: 1 of 6" in said(result)


def test_times_in_a_csv_file_become_timestamps(tmp_path):
    begin = 1_700_000_000_000
    times = begin + np.arange(1000) * 4
    path = csv_file(tmp_path / "walk.csv", {"timestamp": times, "ECG": BUILTIN.channel(0)[:1000]})
    timestamps = [json.loads(line)["timestamp"] for line in ran(path)]
    assert timestamps == [begin + start * 4 for start in (0, 256, 512, 768)]


def test_a_pipeline_of_ones_own_with_several_channels(tmp_path):
    pipeline = tmp_path / "mine.toml"
    pipeline.write_text(TWO_CHANNELS)
    x = np.stack([BUILTIN.channel(0)[n * 2000 :][:2000] for n in range(3)])
    path = csv_file(tmp_path / "three.csv", {"A": x[0], "B": x[1], "C": x[2]})
    for channels, expected in (([], [0, 1]), (["--channel", "C", "--channel", "0"], [2, 0])):
        records = ran(path, "--rate", "250", "--pipeline", pipeline, *channels)
        planned = Run(two_channels(), recording(x[expected]), 256, "three")
        assert records == [record for part in planned.records() for record in part]
        assert json.loads(records[0])["pipeline"] == "two-channels"


@pytest.mark.parametrize(("name", "channel", "left_out"), [("100", "MLII", 0), ("v102s", "V", 6)])
@pytest.mark.parametrize("block", ["256", "1000"])
def test_real_recordings(name, channel, left_out, block):
    path = record_path(name)
    resample = ["--resample", "250"] if name == "100" else []
    result = command(path, "--channel", channel, "--block", block, *resample)
    x = resampled(read_recording(path, channel=channel), 250.0).channel(0)
    length = int(block)
    sent = [
        Sent(start, len(x[start : start + length]))
        for start in range(0, len(x), length)
        if np.isfinite(x[start : start + length]).all()
    ]
    verifier = FeatureVerifier()
    verifier.expect(name, x, sent)
    for record in result.stdout_bytes.splitlines():
        verifier.add(record)
    assert verifier.verdict.expected == len(sent) > 200
    assert verifier.verdict.passed, verifier.verdict
    assert ("blocks left out" in result.stderr) == bool(left_out)
    if left_out and block == "256":
        assert f"{left_out} of 879" in result.stderr


def test_the_reader_may_go_away():
    """As `| head -1` does: no traceback."""
    program = "import typer; from app.cli.run import run; cli = typer.Typer(); cli.command()(run); cli()"
    process = subprocess.Popen(
        [sys.executable, "-c", program, "--builtin", "--block", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=Path(__file__).parents[1],
    )
    assert json.loads(process.stdout.readline())["seq"] == 0
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(timeout=60) == 1


# --- Refusals -------------------------------------------------------------------------------------------------------


def refusal(*arguments: str | Path) -> str:
    result = command(*arguments)
    assert isinstance(result.exception, ContinuumError), result.output
    assert result.stdout == ""
    return str(result.exception)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "nothing to run, or two things: expected either a file or --builtin"),
        (["x.csv", "--builtin"], "expected either a file or --builtin"),
        (["absent.csv"], "absent.csv is not there; expected a WFDB record"),
        (["--builtin", "--channel", "V5"], "builtin has no channel 'V5'; it has 0 'ECG'"),
        (["--builtin", "--channel", "0", "--channel", "0"], "2 channels: pipeline ecg takes 1; name as many"),
        (["--builtin", "--block", "0"], "0 samples a block: expected 1 to 65536"),
        (["--builtin", "--block", "65537"], "65537 samples a block: expected 1 to 65536"),
        (["--builtin", "--sensor", ""], "sensor '': expected a name of 1 to 256 bytes"),
        (["--builtin", "--sensor", "ä" * 129], "expected a name of 1 to 256 bytes"),
        (["--builtin", "--resample", "0"], "sampling rate 0"),
        (["--builtin", "--output", "/nonexistent/x"], "/nonexistent/x cannot be written (No such file"),
        (
            ["--builtin", "--output", "/dev/full"],
            "/dev/full cannot be written (No space left on device); make room, or give another",
        ),
        (["--builtin", "--pipeline", "eeg"], "pipeline 'eeg' ([Errno 2] No such file or directory: 'eeg'): expected"),
        (["--builtin", "--pipeline", "/"], "report, wearable, or the path of a TOML file"),
    ],
)
def test_bad_arguments(arguments, text):
    assert text in refusal(*arguments)


@pytest.mark.parametrize("resample", [[], ["--resample", "200"]])
def test_another_rate_is_refused_with_both_rates_and_the_remedy(tmp_path, resample):
    path = csv_file(tmp_path / "walk.csv", {"ECG": np.zeros(1000)})
    rate = resample[-1] if resample else "360"
    assert refusal(path, "--rate", "360", *resample) == (
        f"walk has {rate} Hz, and pipeline ecg takes 250 Hz; resample it: --resample 250"
    )
    assert len(ran(path, "--rate", "360", "--resample", "250")) == 3


def test_the_recording_is_not_written_over(tmp_path):
    path = csv_file(tmp_path / "walk.csv", {"ECG": np.zeros(1000)})
    before = path.read_bytes()
    text = refusal(path, "--rate", "250", "--output", tmp_path / "." / "walk.csv")
    assert text == f"--output {path} is the recording itself; give another file"
    assert path.read_bytes() == before


def test_a_recording_without_a_valid_block_is_refused():
    with pytest.raises(RunError, match="no 256 samples in a row of rec are valid; choose another channel or smaller"):
        Run(ECG, recording(np.where(np.arange(1000) % 100, 1.0, np.nan)), 256, "s")


def test_a_bad_pipeline_file_is_refused_with_the_place(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(TWO_CHANNELS.replace("window = 50", "window = 0"))
    assert refusal("--builtin", "--pipeline", path) == (
        f"{path}: stage 2 (moving_rms): window = 0: expected 1 to 1048576 samples"
    )
    path.write_bytes(b"\xff")
    assert "report, wearable, or the path of a TOML file" in refusal("--builtin", "--pipeline", path)


def test_any_rate_and_stage_a_pipeline_may_have():
    """A report every 100 s: the records say when, to the millisecond."""
    slow = parse_pipeline(
        'name="slow"\nsample_rate=0.01\n[[stages]]\ntype="moving_rms"\nwindow=3\n[features]\nrms="moving_rms"', "t"
    )
    planned = Run(slow, recording(np.array([3.0, 4.0, 5.0, 0.0]), 0.01), 1, "s")
    records = [json.loads(record) for part in planned.records() for record in part]
    assert [record["timestamp"] for record in records] == [0, 100_000, 200_000, 300_000]
    assert [record["rms"] for record in records] == [None, None, *np.sqrt([50 / 3, 41 / 3]).tolist()]
