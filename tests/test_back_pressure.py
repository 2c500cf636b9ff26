"""Back-pressure: brokers that take nothing hold the input back; memory stays bounded, and nothing is lost."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from app.replay import plan_replay
from app.sources import builtin_ecg
from tests.processes import paused_kafka, resident_bytes
from tests.replaying import replay, verifier_of
from tests.system import System

PAUSE_SECONDS = 15.0
MOST_GROWTH = 128 << 20


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_brokers_that_stand_still_while_input_waits(own_system: System, own_services: Path) -> None:
    plan = plan_replay(builtin_ecg(), sensors=500, seconds=100)
    verifier = await asyncio.to_thread(verifier_of, plan)
    await replay(own_system, plan, speed=1e6)
    worker = await own_system.worker()
    while (await worker.status()).tiers["rt"].blocks < plan.total_blocks / 20:  # noqa: ASYNC110 - it is another process
        await asyncio.sleep(0.01)
    before = resident_bytes(worker.process.pid)
    largest, done = before, 0
    with paused_kafka(own_services):
        for _ in range(int(PAUSE_SECONDS)):
            await asyncio.sleep(1)
            largest = max(largest, resident_bytes(worker.process.pid))
        done = (await worker.status()).tiers["rt"].blocks
        assert worker.process.poll() is None
    assert done < plan.total_blocks, "the pause came while input was waiting"
    assert largest - before < MOST_GROWTH, f"{(largest - before) >> 20} MiB more"
    verdict = await own_system.verify(verifier, seconds=180)
    assert verdict.passed, verdict
    await worker.ready()
    assert await worker.stop() == 0
    assert await own_system.lag() == 0
