"""`continuum up` and `continuum down`, as typed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis import Redis

from app.services import down


def run(*arguments: str, datadir: Path, environment: dict[str, str] | None = None) -> tuple[int, str, str]:
    done = subprocess.run(
        [Path(sys.executable).with_name("continuum"), *arguments],
        env={**os.environ, "CONTINUUM_DATADIR": str(datadir), **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, " ".join(done.stderr.split())


@pytest.fixture
def datadir(tmp_path: Path, stopped_at_end: Callable[[Path], Path]) -> Iterator[Path]:
    folder = stopped_at_end(tmp_path / "data")
    yield folder
    down(folder)


def test_only_what_is_not_set_is_started(datadir: Path) -> None:
    external = {"CONTINUUM_KAFKA_BOOTSTRAP": "kafka.example:9092"}
    code, printed, noted = run("up", "--json", datadir=datadir, environment=external)
    assert code == 0
    answer = json.loads(printed)
    assert answer["external"] == ["kafka_bootstrap"]
    assert "kafka_bootstrap" not in answer
    assert "CONTINUUM_KAFKA_BOOTSTRAP is set" in noted
    assert not (datadir / "kafka").exists()
    with Redis.from_url(answer["redis_url"]) as client:
        assert client.ping()

    assert run("up", "--json", datadir=datadir, environment=external)[:2] == (0, printed)
    assert run("down", "--json", datadir=datadir, environment=external)[:2] == (0, '{"stopped":["Redis"]}\n')
    assert run("down", datadir=datadir)[:2] == (0, "nothing was running\n")


def test_with_both_set_nothing_is_started(datadir: Path) -> None:
    external = {
        "CONTINUUM_KAFKA_BOOTSTRAP": "kafka.example:9092",
        "CONTINUUM_REDIS_URL": "redis://:secret@redis.example",
    }
    code, printed, noted = run("up", "--json", datadir=datadir, environment=external)
    assert (code, json.loads(printed)) == (0, {"external": ["kafka_bootstrap", "redis_url"]})
    assert "secret" not in printed + noted
    assert not datadir.exists()


def test_an_error_is_one_message_and_exit_code_2(tmp_path: Path) -> None:
    code, printed, noted = run("up", datadir=Path("/proc/none"))
    assert (code, printed) == (2, "")
    assert noted.startswith("error: cannot write into the data folder /proc/none")
