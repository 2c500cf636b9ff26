"""The benchmark of pipelines: every shipped one, by every way there is to run it."""

from __future__ import annotations

import msgspec
import pytest
from typer.testing import CliRunner

from app.bench import pipelines as bench
from app.bench.result import SuiteResult
from app.cli.bench import bench as cli
from app.dsp.engine import Engine
from app.dsp.fused import load_kernel
from app.pipelines import shipped_pipelines


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "BATCHES", (1, 3))
    monkeypatch.setattr(bench, "TURN_SECONDS", 0.0)
    # They would last as long as the test run.
    monkeypatch.setattr("app.cli.bench.dsp.keep_freed_memory", lambda: None)
    monkeypatch.setattr("app.cli.bench.dsp.collect_less_often", lambda: None)
    monkeypatch.setattr("app.cli.bench.dsp._ours", lambda: ["moving_rms", "hjorth"])
    monkeypatch.setattr("app.bench.stages.ROWS", 20)


def run(*arguments: str) -> str:
    done = CliRunner().invoke(cli, ["dsp", "--repeats", "2", *arguments], catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout


def test_every_pipeline_runs_in_every_way_it_can():
    report = msgspec.json.decode(run("--json"), type=SuiteResult)
    found = {(own.case, own.contender): own for own in report.measurements}
    ways = {
        name: {"sosfilt", "numpy"} | ({"fused"} if Engine(pipeline).fused else set())
        for name, pipeline in shipped_pipelines().items()
    }
    assert found.keys() == {
        (f"{name}, {sensors} sensors a batch", way) for name, own in ways.items() for sensors in (1, 3) for way in own
    } | {("stage", "moving_rms"), ("stage", "hjorth")}
    assert ("fused" in ways["ecg"]) == (load_kernel() is not None)
    assert all(len(own.figures["throughput"].runs) == 2 for own in found.values())
    assert all(own.figures["throughput"].spread.min > 0 for own in found.values())
    assert {(ratio.case, ratio.contender) for ratio in report.ratios} == {
        own for own in found if own[1] in {"numpy", "fused"}
    }
    assert {ratio.to_contender for ratio in report.ratios} == {"sosfilt"}
    assert "not measured here" in report.conditions.remarks["dspx"]


def test_the_table_names_the_conditions():
    shown = " ".join(run().split())
    for text in (
        "libraries: ",
        "numba in force: ",
        "dspx: 22 M samples/s, as its authors published",
        "│ ecg, 3 sensors",
    ):
        assert text in shown
