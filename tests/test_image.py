"""The image's own steps, done in a clean environment, give a worker, its health check and the function."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.settings import as_environment
from app.topics import features_topic
from app.wire.blocks import encode_json
from tests.image import ROOT, Stage, build
from tests.pages import until
from tests.system import System, noise

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def image() -> Iterator[Stage]:
    # Not below pytest's own folder, which the image's user may not enter.
    with tempfile.TemporaryDirectory(prefix="image-") as folder:
        Path(folder).chmod(0o755)
        stage = build(Path(folder))
        # An environment names the folder it was made in, and it was made in the stage before.
        build_stage = Path(folder) / "build"
        for script in [*(stage.folder / "venv/bin").iterdir()]:
            if script.is_file() and not script.is_symlink() and script.read_bytes()[:2] == b"#!":
                script.write_text(script.read_text().replace(str(build_stage), str(stage.folder)))
        shutil.rmtree(build_stage)
        yield stage


def test_it_holds_nothing_but_the_application(image: Stage) -> None:
    assert sorted(path.name for path in image.folder.iterdir()) == ["continuum", "data", "venv"]
    assert sorted(path.name for path in (image.folder / "continuum").iterdir()) == ["agents", "app", "tables"]
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert {line[1:] for line in ignored if line.startswith("!")} == {
        ".requirements/image.txt",
        "app",
        "tables",
        "agents",
    }
    listed = image.run([*image.entrypoint, "deploy", "export", "k8s", "/dev/null/x"])
    assert "cannot be written" in listed.stderr, "templates are inside"


def test_it_is_nobody_s_to_write(image: Stage) -> None:
    assert image.user == "10001:10001"
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    tried = image.run(["python", "-c", f"open('{image.folder}/continuum/app/x', 'w')"])
    assert "PermissionError" in tried.stderr
    assert (image.folder / "data").stat().st_uid == 10001


def test_commands_run(image: Stage) -> None:
    helped = image.run([*image.entrypoint, *image.cmd, "--help"])
    assert helped.returncode == 0, helped.stderr
    assert "--tiers" in helped.stdout
    helped = image.run([*image.entrypoint, "function", "serve", "--help"])
    assert helped.returncode == 0, helped.stderr


def test_lambda_s_entry_point_finds_the_handler(image: Stage) -> None:
    """As awslambdaric imports it, from the image's folder."""
    find = "from awslambdaric.bootstrap import _get_handler; print(_get_handler({!r}).__name__)"
    found = image.run(["python", "-c", find.format("app.serverless.handler.handler")])
    assert found.stdout == "handler\n", found.stderr
    without = image.run(["python", "-m", "awslambdaric", "app.serverless.handler.handler"])
    assert "AWS_LAMBDA_RUNTIME_API" in without.stderr, "the runtime client starts, and looks for Lambda"


async def test_a_worker_works_and_is_healthy(image: Stage, system: System, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    ill = image.run(image.healthcheck, CONTINUUM_WEB_PORT=port)
    assert (ill.returncode, ill.stderr.partition(":")[0]) == (1, f"no worker answers on port {port}")
    environment = {**image.variables(), **as_environment(system.settings), "CONTINUUM_WEB_PORT": port}
    environment["CONTINUUM_DATADIR"] = image.environment["CONTINUUM_DATADIR"]
    with (tmp_path / "log").open("w") as log:
        worker = subprocess.Popen(  # noqa: ASYNC220 - it goes on in the background
            [*image.as_user(), *image.entrypoint, *image.cmd, "--tiers", "rt"],
            cwd=image.within(image.workdir),
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:

        async def healthy() -> bool:
            assert worker.poll() is None, (tmp_path / "log").read_text()[-3000:]
            return image.run(image.healthcheck, CONTINUUM_WEB_PORT=port).returncode == 0

        await until(healthy, "the health check passes", seconds=120)
        await system.send([(b"s1", encode_json("s1", noise(256, seed=1), 1_700_000_000_000, seq=0))])
        (record,) = await system.read(features_topic(system.settings, "ecg"), until=1, seconds=120)
        assert json.loads(record.value)["sensorId"] == "s1"
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(60) == 0, (tmp_path / "log").read_text()[-3000:]
    finally:
        worker.kill()
        worker.wait()
