"""Standby replicas: another worker's disk has the state already when its owner dies."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from app.replay import plan_replay
from app.sources import builtin_ecg
from tests.changelogs import changelog_records, stale_records
from tests.replaying import replay, verifier_of
from tests.system import System
from tests.test_checkpoint import rocksdb_values


@pytest.mark.slow
async def test_a_standby_has_the_state_and_goes_on_from_it(system: System) -> None:
    system.settings = system.settings.model_copy(update={"standby_replicas": 1, "session_timeout": 6.0})
    plan = plan_replay(builtin_ecg(), sensors=60, seconds=200)
    earlier = replace(plan, sensors=tuple(f"earlier-{number}" for number in range(60)), blocks_per_sensor=20)
    first, second = await system.worker(), await system.worker()
    await asyncio.gather(first.ready(), second.ready())
    await replay(system, earlier, speed=1e6)
    async with asyncio.timeout(60):
        while await system.lag():  # noqa: ASYNC110 - it is other processes that commit
            await asyncio.sleep(0.2)
    assert await second.stop() == 0
    records = await changelog_records(system)
    assert rocksdb_values(system.settings.datadir / "workers" / "2") == {
        record.key: record.value for record in records
    }, "its own half, and the other's as a standby"

    second = await system.worker()
    await first.ready()
    sending = asyncio.create_task(replay(system, plan, speed=6))
    await asyncio.sleep(12)
    first.kill()
    assert not sending.done()
    await sending
    verdict = await system.verify(verifier_of(plan))
    assert verdict.passed, verdict
    assert stale_records(await changelog_records(system)) == []
    assert await second.stop() == 0
    assert await system.lag() == 0
