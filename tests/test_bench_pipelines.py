"""The benchmark of pipelines: every shipped one, by every way there is to run it."""

from __future__ import annotations

import msgspec
import pytest
from typer.testing import CliRunner

from app.bench import pipelines as bench
from app.cli.bench import bench as cli
from app.dsp.engine import Engine
from app.dsp.fused import load_kernel
from app.pipelines import shipped_pipelines


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "BATCHES", (1, 3))
    monkeypatch.setattr(bench, "TURN_SECONDS", 0.0)
    # They would last as long as the test run.
    monkeypatch.setattr("app.cli.bench.keep_freed_memory", lambda: None)
    monkeypatch.setattr("app.cli.bench.collect_less_often", lambda: None)


def run(*arguments: str) -> str:
    done = CliRunner().invoke(cli, ["pipelines", "--repeats", "2", *arguments], catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout


def test_every_pipeline_runs_in_every_way_it_can():
    report = msgspec.json.decode(run("--json"))
    found = {(result["pipeline"], result["sensors"], result["contender"]) for result in report["results"]}
    ways = {
        name: {"sosfilt", "numpy"} | ({"fused"} if Engine(pipeline).fused else set())
        for name, pipeline in shipped_pipelines().items()
    }
    assert found == {(name, sensors, way) for name, own in ways.items() for sensors in (1, 3) for way in own}
    assert ("fused" in ways["ecg"]) == (load_kernel() is not None)
    assert all(len(result["rates"]) == 2 and min(result["rates"]) > 0 for result in report["results"])
    assert {
        ratio for result in report["results"] if result["contender"] == "sosfilt" for ratio in result["ratios"]
    } == {1}
    assert "not measured here" in report["conditions"]["dspx"]


def test_the_table_names_the_conditions():
    shown = " ".join(run().split())
    for text in ("libraries: ", "numba: ", "dspx: 22 M samples/s, as its authors published", "│ ecg "):
        assert text in shown
