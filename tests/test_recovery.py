"""Recovery from the changelog: what is applied, when it ends, and that a kill in its middle loses nothing."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP

from app.replay import plan_replay
from app.sources import builtin_ecg
from app.transport.recovery import Recovery
from tests.pages import until
from tests.replaying import replay, verifier_of
from tests.sides import make_side
from tests.system import System

OWN, STANDBY, LOST = (TP("rt-state-changelog", partition) for partition in range(3))


def records(*offsets: int) -> list[Any]:
    return [SimpleNamespace(offset=offset, key=b"a", value=b"") for offset in offsets]


class Applied:
    """A table that notes the offsets of what it is given."""

    def __init__(self) -> None:
        self.offsets: dict[int, list[int]] = {}

    def apply(self, partition: int, own: list[Any]) -> None:
        self.offsets.setdefault(partition, []).extend(record.offset for record in own)


def begun(tmp_path: Path, table: Any) -> Recovery:
    """A recovery of the table under way: one partition is the worker's own, of another it is the standby."""
    recovery: Recovery = make_side("ours", tmp_path).app.tables.recovery
    recovery.active_tps.add(OWN)
    recovery.standby_tps.add(STANDBY)
    recovery.tp_to_table.update(dict.fromkeys((OWN, STANDBY), table))
    recovery.active_offsets[OWN], recovery.standby_offsets[STANDBY] = 4, -1
    recovery.active_highwaters[OWN] = 9
    recovery._set_recovery_started()
    return recovery


async def test_each_record_is_applied_once_until_the_last_that_is_needed(tmp_path: Path) -> None:
    table = Applied()
    recovery = begun(tmp_path, table)
    recovery.apply(OWN, records(4, 5, 7))  # a seek goes to the last one applied; 6 has been compacted away
    recovery.apply(STANDBY, records(0, 1))
    assert recovery.need_recovery()
    assert not recovery.signal_recovery_end.is_set()
    recovery.apply(OWN, records(8, 9))
    assert table.offsets == {0: [5, 7, 8, 9], 1: [0, 1]}
    assert not recovery.in_recovery
    assert recovery.signal_recovery_end.is_set()


async def test_who_waits_for_the_end_learns_of_it_however_late(tmp_path: Path) -> None:
    """Faust's own loop forgets the signal with the next record, of a standby's partition for one."""
    recovery = begun(tmp_path, Applied())
    recovery.apply(OWN, records(5, 9))
    recovery.apply(STANDBY, records(0))
    async with asyncio.timeout(1):
        await recovery.signal_recovery_end.wait()


async def test_what_comes_of_a_partition_that_was_given_up_is_dropped(tmp_path: Path) -> None:
    table = Applied()
    recovery = begun(tmp_path, table)
    recovery.apply(LOST, records(0, 1))
    assert table.offsets == {}


async def test_what_could_not_be_written_does_not_count_as_recovered(tmp_path: Path) -> None:
    class Full:
        def apply(self, partition: int, own: list[Any]) -> None:
            raise OSError("no space left on device")

    recovery = begun(tmp_path, Full())
    with pytest.raises(OSError, match="no space"):
        recovery.apply(OWN, records(5, 9))
    assert recovery.active_offsets[OWN] == 4
    assert recovery.in_recovery


def text_of(log: Path) -> str:
    return log.read_text() if log.exists() else ""


@pytest.mark.slow
async def test_a_worker_killed_in_the_middle_of_its_recovery_goes_on(system: System) -> None:
    plan = plan_replay(builtin_ecg(), sensors=200, seconds=120)
    worker = await system.worker()
    sending = asyncio.create_task(replay(system, plan, speed=2))
    await asyncio.sleep(6)
    assert await worker.stop() == 0
    for _ in range(2):
        shutil.rmtree(Path(system.settings.datadir) / "workers")
        starting = asyncio.create_task(system.worker())
        log = system.settings.datadir / f"worker-{len(system.workers) + 1}.log"

        async def restoring(log: Path = log) -> bool:
            return "Restoring state from changelog" in await asyncio.to_thread(text_of, log)

        await until(restoring, "it reads the changelog")
        starting.cancel()
        system.workers[-1].kill()
    worker = await system.worker()
    assert not sending.done()
    await sending
    verdict = await system.verify(verifier_of(plan))
    assert verdict.passed, verdict
    assert await worker.stop() == 0
