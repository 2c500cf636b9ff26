"""Bursts: input that comes many times faster than a worker can do waits in Kafka, not in the worker's memory."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence

import pytest

from app.replay import Plan, plan_replay
from app.runtime.outbox import PRODUCER_BATCH_BYTES
from app.runtime.stretches import SLICE_BYTES
from app.runtime.tier import MOST_HELD
from app.sources import builtin_ecg
from app.tiers import TIER_DEFAULTS
from app.transport.consumer import RESPONSE_BYTES
from app.transport.queued import QUEUED_BYTES
from app.verify import FeatureVerifier, Sent
from tests.processes import resident_bytes
from tests.replaying import replay
from tests.sensor_streams import until
from tests.system import System

PARTITION_BYTES = 1 << 20
"""That one fetch gives of a partition at the most, as the messages are smaller."""

LARGE = 32_768
"""Samples of a large message, a quarter of a megabyte."""

STATE_BYTES = 16 << 10
"""Of a sensor of `ecg`, in memory, in its table and on its way to Redis, amply."""


def most_growth(sensors: int) -> int:
    """Memory that a worker of the rt tier takes at the most beside what it takes at rest, bytes."""
    partitions = TIER_DEFAULTS["rt"].partitions
    fetched = 2 * partitions * PARTITION_BYTES + RESPONSE_BYTES
    decoded = SLICE_BYTES * 16
    held = MOST_HELD * 8
    leaving = 2 * partitions * PRODUCER_BATCH_BYTES
    return fetched + QUEUED_BYTES + decoded + held + leaving + sensors * STATE_BYTES


def expecting(plans: Sequence[Plan]) -> FeatureVerifier:
    """Expect the features of several plans, whose sensors differ."""
    verifier = FeatureVerifier(tier="rt", pipeline="ecg")
    for plan in plans:
        blocks: list[list[Sent]] = [[] for _ in plan.sensors]
        for due in plan.blocks():
            blocks[due.sensor].append(Sent(due.block * plan.block, plan.block))
        for number, sensor_id in enumerate(plan.sensors):
            verifier.expect(sensor_id, plan.signal(number), blocks[number])
    return verifier


async def absorbed(system: System, plans: Sequence[Plan]) -> None:
    """Send the first plan at its true speed and the others, soon after its start, as fast as the brokers take them."""
    steady, *bursts = plans
    verifier = await asyncio.to_thread(expecting, plans)
    worker = await system.worker(checkpoint_seconds=5.0)
    resting = largest = resident_bytes(worker.process.pid)

    async def look() -> None:
        nonlocal largest
        while True:
            largest = max(largest, resident_bytes(worker.process.pid))
            await asyncio.sleep(0.1)

    async def burst() -> None:
        await asyncio.sleep(2.0)
        await asyncio.gather(*(replay(system, plan, speed=math.inf) for plan in bursts))

    async def done() -> bool:
        return (await worker.status()).tiers["rt"].blocks >= sum(plan.total_blocks for plan in plans)

    async with asyncio.TaskGroup() as group:
        looking = group.create_task(look())
        await asyncio.gather(replay(system, steady, speed=1.0), burst())
        await until(done, 600)
        looking.cancel()
    growth, bound = largest - resting, most_growth(sum(len(plan.sensors) for plan in plans))
    assert growth < bound, f"{growth >> 20} MiB more, expected less than {bound >> 20}"
    verdict = await system.verify(verifier, quiet=1.0, seconds=180)
    assert verdict.passed, verdict
    assert not (await worker.status()).tiers["rt"].dead_letters
    assert await worker.stop() == 0
    assert await system.lag() == 0


async def test_a_short_burst_is_absorbed(system: System) -> None:
    recording = builtin_ecg()
    await absorbed(
        system,
        [
            plan_replay(recording, sensors=10, seconds=5, name="steady"),
            plan_replay(recording, sensors=100, seconds=20, name="small", encoding="msgpack"),
            plan_replay(recording, sensors=8, seconds=4 * LARGE / recording.sample_rate, block=LARGE, name="large"),
        ],
    )


@pytest.mark.slow
@pytest.mark.timeout(1200)
async def test_a_burst_is_absorbed_with_bounded_memory(own_system: System) -> None:
    """Small and large messages, more of them than the worker may take up, beside a steady load."""
    recording = builtin_ecg()
    await absorbed(
        own_system,
        [
            plan_replay(recording, sensors=50, seconds=60, name="steady"),
            plan_replay(recording, sensors=500, seconds=200, name="small", encoding="msgpack"),
            plan_replay(recording, sensors=40, seconds=40 * LARGE / recording.sample_rate, block=LARGE, name="large"),
        ],
    )
