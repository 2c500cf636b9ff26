"""Faults with real processes: nothing lost, nothing wrong, everything committed, and all copies of state agree.

Each fault has a plan of its own here, and all together have one; `continuum chaos` runs them for longer.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from app.chaos.disk import SmallDisk
from app.chaos.load import Load
from app.chaos.plan import KINDS, Fault, Kind, counts_for, make_plan
from app.chaos.report import Report
from app.chaos.run import Run
from app.chaos.surroundings import Surroundings, surroundings
from app.settings import Settings, load_settings

SESSION = 6.0

Mark = Callable[[Path], Path]


async def carried_out(around: Surroundings, load: Load, faults: list[Fault], workers: int, mark: Mark) -> Report:
    for number in range(1, workers + 2):
        mark(around.worker_folder(number))
    return await Run(around, load, faults, workers, print).carry_out()


def happened(report: Report, faults: list[Fault]) -> bool:
    """Whether every fault of a plan took place."""
    return sum(report.faults.values()) == len(faults) and not report.skipped


async def test_workers_killed_and_restarted(settings: Callable[..., Settings], stopped_at_end: Mark) -> None:
    around = Surroundings(settings(session_timeout=SESSION, checkpoint_seconds=2.0))
    faults = [Fault(2.0, "kill", 1, 0.0), Fault(5.0, "term", 1, 0.0), Fault(9.0, "kill", 1, 0.0)]
    report = await carried_out(around, Load(100, 200.0, 12.0), faults, 1, stopped_at_end)
    assert report.passed, report
    assert happened(report, faults)
    assert report.blocks == 2400
    assert report.repeated > 0, "a kill makes a worker read again what it had not committed"


async def in_surroundings_of_its_own(folder: Path, faults: list[Fault], load: Load, mark: Mark) -> Report:
    settings = load_settings(session_timeout=SESSION, checkpoint_seconds=5.0)
    mark(folder)
    disks = any(fault.kind == "disk-full" for fault in faults)
    with surroundings(settings, folder, 3, print, disks=disks) as around:
        return await carried_out(around, load, faults, 2, mark)


FAULTS: dict[str, list[tuple[Kind, int, float]]] = {
    "a paused worker wakes": [("pause", 1, 9.0), ("pause", 2, 9.0)],
    "a worker's network is cut": [("cut", 1, 9.0), ("stall", 2, 9.0)],
    "a worker's disk is full": [("disk-full", 1, 5.0), ("disk-full", 2, 8.0)],
    "a worker's folder is gone": [("wipe", 1, 0.0), ("wipe-live", 2, 0.0)],
    "workers come and go": [("join", 3, 0.0), ("kill", 1, 9.0), ("leave", 3, 0.0)],
    "a broker restarts": [("broker", 1, 5.0), ("broker", 2, 3.0)],
    "Redis fails": [("redis-kill", 1, 5.0), ("redis-flush", 1, 0.0), ("redis-pause", 2, 5.0)],
}


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", FAULTS)
async def test_a_fault_of_each_kind(tmp_path: Path, stopped_at_end: Mark, name: str) -> None:
    faults = [Fault(3.0 + 18.0 * number, *fault) for number, fault in enumerate(FAULTS[name])]
    if any(fault.kind == "disk-full" for fault in faults) and not SmallDisk.permitted():
        pytest.skip("mounting a file system needs root")
    load = Load(300, 300.0, 18.0 * len(faults) + 10.0)
    report = await in_surroundings_of_its_own(tmp_path, faults, load, stopped_at_end)
    assert report.passed, report
    assert happened(report, faults)


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_faults_of_all_kinds_at_random(tmp_path: Path, stopped_at_end: Mark) -> None:
    load = Load(1000, 400.0, 150.0)
    counts = {kind: max(1, count) for kind, count in counts_for(load.seconds / 60).items()}
    faults = make_plan(1, counts, load.seconds, 2, SESSION)
    assert {fault.kind for fault in faults} == set(KINDS)
    report = await in_surroundings_of_its_own(tmp_path, faults, load, stopped_at_end)
    assert report.passed, report
    assert sum(report.faults.values()) == len(faults) - sum(fault.kind in report.skipped for fault in faults)
    assert not set(report.skipped) - {"disk-full"}, "only a disk may be lacking, without the right to mount one"
