"""The demo: one command, a verdict on every feature, and an exit code that tells."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.cli import demo as command
from app.demo.session import expectations, plan_demo
from app.replay import Plan
from app.runtime.instance import living_workers
from app.services import Endpoints, running
from app.verify import FeatureVerifier

CONTINUUM = [sys.executable, "-m", "app"]


def run(datadir: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "CONTINUUM_DATADIR": str(datadir)}
    return subprocess.run(
        [*CONTINUUM, *arguments], env=environment, capture_output=True, text=True, timeout=200, check=False
    )


def test_demo_verifies_every_feature_and_leaves_nothing_running(tmp_path: Path, stopped_at_end: object) -> None:
    datadir = stopped_at_end(tmp_path / "data")
    done = run(datadir, "demo", "--sensors", "50", "--seconds", "60")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "features verified 2900/2900" in done.stdout
    assert "blocks in 2,900 of 2,900 · features out 2,900 · lag 0" in done.stdout
    assert "latest features" in done.stdout
    assert "web pages at http://127.0.0.1:" in done.stderr
    assert running(datadir) is None
    assert not living_workers(datadir)

    # Again, on the same data, and kept.
    done = run(datadir, "demo", "--sensors", "5", "--seconds", "20", "--speed", "50", "--keep")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "features verified 95/95" in done.stdout
    assert running(datadir)
    assert len(living_workers(datadir)) == 1
    done = run(datadir, "down")
    assert done.returncode == 0
    assert "worker" in done.stdout
    assert not living_workers(datadir)


def test_demo_fails_on_a_feature_that_differs(
    services: Endpoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CONTINUUM_KAFKA_BOOTSTRAP", services.kafka_bootstrap)
    monkeypatch.setenv("CONTINUUM_REDIS_URL", services.redis_url)
    monkeypatch.setenv("CONTINUUM_DATADIR", str(tmp_path))
    monkeypatch.setenv("CONTINUUM_TOPIC_PREFIX", "demo-fails-")
    monkeypatch.setenv("CONTINUUM_APP_ID", "demo-fails")

    def other_signal(plan: Plan) -> FeatureVerifier:
        verifier = expectations(plan)
        name, expected = next(iter(verifier._expected.items()))
        values = [value if value is None else value * (1 + 3e-9) for value in expected.values]
        verifier._expected[name] = expected._replace(values=values)
        return verifier

    monkeypatch.setattr(command, "expectations", other_signal)
    with pytest.raises(SystemExit) as ended:
        command.demo(sensors=5, seconds=20, speed=50, keep=False)
    assert ended.value.code == 1
    printed = capsys.readouterr().out
    assert "features verified 94/95" in printed
    assert "wrong: 1" in printed
    assert not living_workers(tmp_path)


def test_each_demo_has_sensors_of_its_own() -> None:
    assert not set(plan_demo(3, 10).sensors) & set(plan_demo(3, 10).sensors)


def test_a_mistake_is_one_line(tmp_path: Path) -> None:
    done = run(tmp_path, "demo", "--sensors", "0")
    assert done.returncode == 2
    assert done.stderr.startswith("error: 0 sensors: expected at least 1")
    assert len(done.stderr.splitlines()) == 1
