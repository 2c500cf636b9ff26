"""`continuum chaos` from the shell: what it refuses, and that it leaves nothing behind when it is ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

CONTINUUM = Path(sys.executable).with_name("continuum")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [(["--only", "kill,thunder"], "thunder"), (["--only", "join"], "leave"), (["--workers", "0"], "workers")],
)
def test_what_it_refuses(arguments: list[str], named: str) -> None:
    ran = subprocess.run([CONTINUUM, "chaos", *arguments], check=False, capture_output=True, text=True)
    assert ran.returncode == 2
    assert named in ran.stderr


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ended_early_it_leaves_no_process(
    tmp_path: Path, stopped_at_end: Callable[[Path], Path], number: signal.Signals
) -> None:
    chaos = subprocess.Popen(
        [CONTINUUM, "chaos", "--only", "kill"],
        env={**os.environ, "CONTINUUM_DATADIR": str(tmp_path)},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert chaos.stderr is not None
    for line in chaos.stderr:
        if "features" in line:  # it has begun
            break
    (folder,) = (tmp_path / "chaos").iterdir()
    stopped_at_end(folder)
    assert len(left_in(tmp_path)) >= 4 + 3, "three brokers, Redis, three workers"
    chaos.send_signal(number)
    assert chaos.wait(60) == 130
    assert not left_in(tmp_path)


def left_in(folder: Path) -> list[psutil.Process]:
    """Processes that work in a folder, or have their data there."""
    found = []
    for process in psutil.process_iter():
        try:
            data = process.environ().get("CONTINUUM_DATADIR", "")
            if process.pid != os.getpid() and any(Path(one).is_relative_to(folder) for one in (process.cwd(), data)):
                found.append(process)
        except psutil.Error:
            continue
    return found
