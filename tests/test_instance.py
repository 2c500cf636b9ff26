"""A worker's identity: one worker a name, found by others without getting in its way, and never taken for another."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app.errors import ContinuumError
from app.runtime import instance
from app.runtime.instance import LivingWorker, living_workers, stop_workers

# A process that takes an identity like a worker, says which, and keeps it until its input ends or it is told to stop.
HOLDER = """
import sys
from app.errors import ContinuumError
from app.runtime.instance import claim_instance
from app.settings import load_settings

try:
    own = claim_instance(load_settings())
except ContinuumError as error:
    sys.exit(str(error))
if len(sys.argv) > 1:
    own.announce(sys.argv[1])
print(own.name, flush=True)
sys.stdin.read()
"""

Holder = subprocess.Popen[str]
Hold = Callable[..., Holder]


@pytest.fixture
def hold(tmp_path: Path) -> Iterator[Hold]:
    """Give a function that starts a holder on the data folder `tmp_path`."""
    started: list[Holder] = []

    def start(*arguments: str, instance: str = "") -> Holder:
        holder = subprocess.Popen(
            [sys.executable, "-c", HOLDER, *arguments],
            env={**os.environ, "CONTINUUM_DATADIR": str(tmp_path), "CONTINUUM_INSTANCE": instance},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(holder)
        return holder

    yield start
    for holder in started:
        holder.kill()
        holder.communicate()


def name_of(holder: Holder) -> str:
    assert holder.stdout is not None
    return holder.stdout.readline().strip()


def test_an_empty_name_is_none(hold: Hold, tmp_path: Path) -> None:
    holder = hold(instance="")
    name = name_of(holder)
    assert living_workers(tmp_path) == [LivingWorker(holder.pid, name, None)]
    assert (tmp_path / "workers" / "1" / "instance").read_text() == name


def test_names_are_kept_and_taken_in_turn(hold: Hold, tmp_path: Path) -> None:
    first = hold("http://a:1")
    names = [name_of(first)]
    second = hold("http://b:2")
    names.append(name_of(second))
    assert living_workers(tmp_path) == [
        LivingWorker(first.pid, names[0], "http://a:1"),
        LivingWorker(second.pid, names[1], "http://b:2"),
    ]
    first.kill()
    first.wait()
    assert living_workers(tmp_path) == [LivingWorker(second.pid, names[1], "http://b:2")]
    again = hold()
    assert name_of(again) == names[0]
    assert living_workers(tmp_path)[0] == LivingWorker(again.pid, names[0], None), "the address was its predecessor's"


def test_who_looks_is_not_in_the_way(hold: Hold, tmp_path: Path) -> None:
    """A start that meets those who look for it neither takes another identity nor is refused its name."""
    with ThreadPoolExecutor(4) as lookers:
        looking = True

        def look() -> None:
            while looking:
                living_workers(tmp_path)

        looks = [lookers.submit(look) for _ in range(4)]
        try:
            for name in ["ward-7", "", "ward-7", "", "ward-7", ""]:
                holder = hold(instance=name)
                assert name_of(holder), holder.communicate()[1]
                holder.kill()
                holder.wait()
        finally:
            looking = False
        for done in looks:
            done.result()
    assert sorted(folder.name for folder in (tmp_path / "workers").iterdir()) == ["1", "ward-7"]


def test_a_set_name_is_one_worker_s(hold: Hold) -> None:
    assert name_of(hold(instance="ward-7")) == "ward-7"
    refused = hold(instance="ward-7")
    assert "CONTINUUM_INSTANCE=ward-7: a worker of this name is running" in refused.communicate()[1]


@pytest.mark.parametrize("left", ["", "no number", "1", "999999999 http://a:1"])
def test_what_a_dead_worker_left_names_no_process(hold: Hold, tmp_path: Path, left: str) -> None:
    folder = tmp_path / "workers" / "1"
    folder.mkdir(parents=True)
    for name in ("instance", "pid", "url"):
        (folder / name).write_text(left)
    assert living_workers(tmp_path) == []
    holder = hold()
    assert name_of(holder)
    (folder / "url").write_text(left)
    (living,) = living_workers(tmp_path)
    assert (living.pid, living.url) == (holder.pid, None)


def test_folders_that_are_no_worker_s_are_passed_over(hold: Hold, tmp_path: Path) -> None:
    (tmp_path / "workers" / "v1" / "tables").mkdir(parents=True)
    (tmp_path / "workers" / "instance").write_text("worker-0")
    assert living_workers(tmp_path) == []
    assert stop_workers(tmp_path, 1.0) == []
    holder = hold()
    name = name_of(holder)
    assert [worker.pid for worker in living_workers(tmp_path)] == [holder.pid]
    assert stop_workers(tmp_path, 5.0) == [name]
    assert holder.wait() == -signal.SIGTERM


def test_a_worker_of_another_container_is_not_signalled(hold: Hold, tmp_path: Path) -> None:
    """The kernel names it 0, which as a process id means ourselves and all our group."""
    name = name_of(hold())
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(instance, "_lock_holder", lambda _: 0)
        patched.setattr(os, "kill", lambda *_: pytest.fail("signalled"))
        with pytest.raises(ContinuumError, match=rf"{name}: running on .*in another container.*stop each there"):
            stop_workers(tmp_path, 1.0)
