"""The function where there is only what its image holds: the locked requirements, Amazon's runtime, and `app/`."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import msgspec
import pytest

from app.serverless.environment import Environments, FunctionConfig
from app.serverless.samples import sample_event
from app.settings import Settings
from app.topics import features_topic
from tests.system import System

ROOT = Path(__file__).parents[1]


@pytest.fixture
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Settings], FunctionConfig]:
    """Make an environment and a folder as the image has them."""
    monkeypatch.delenv("PYTHONPATH", raising=False)
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv/bin/python"
    install = [python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    subprocess.run([*install, "--require-hashes", "--requirement", ROOT / ".requirements/runtime.txt"], check=True)
    subprocess.run([*install, f"awslambdaric=={version('awslambdaric')}"], check=True)
    has_tests = subprocess.run([python, "-c", "import pytest"], capture_output=True, check=False)
    assert has_tests.returncode, "the environment has more than it should"
    task = tmp_path / "task"
    shutil.copytree(ROOT / "app", task / "app", ignore=shutil.ignore_patterns("__pycache__"))
    return lambda settings: FunctionConfig(settings, tmp_path / "log", python=str(python), root=task)


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_it_runs_from_its_requirements_alone(
    system: System, clean: Callable[[Settings], FunctionConfig], tmp_path: Path
) -> None:
    config = clean(system.settings)
    event = sample_event(system.settings, "batch", sensors=5, blocks=4, pipeline="ecg")
    async with Environments(config, 1) as environments:
        for _ in range(2):  # the second is a replay, warm
            invocation = await environments.invoke(event)
            assert invocation.error is None, invocation.error
            assert msgspec.json.decode(invocation.response or b"") == {"batchItemFailures": []}
    assert invocation.init_seconds is None
    assert len(await system.read(features_topic(system.settings, "ecg"), 21, seconds=2.0)) == 20
