"""The tiers as workers run them: each with its own pipeline and values, apart or together, also through a crash."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from types import SimpleNamespace

import pytest

from app.kafka_client import started
from app.preflight import GroupConflictError, check_groups
from app.replay import Plan, Sent, new_producer, plan_builtin, play
from app.runtime.stretches import SLICE_BYTES, slices
from app.settings import TIERS, Settings, TierName, load_settings
from app.tiers import TIER_DEFAULTS, in_force
from app.topics import sensor_topic
from tests.replaying import verifier_of
from tests.system import System

#: Seconds of stream time after which every feature of a tier's pipeline has a value, for one sensor at least.
SECONDS: dict[TierName, float] = {"rt": 12.0, "nrt": 70.0, "batch": 90_000.0}


def plan_of(tier: TierName, sensors: int = 6) -> Plan:
    return plan_builtin(tier, sensors=sensors, seconds=SECONDS[tier], name=f"{tier}-sensor")


async def played(
    system: System, tier: TierName, plan: Plan, on_progress: Callable[[Sent], object] | None = None
) -> None:
    async with started(new_producer(system.settings), system.settings) as producer:
        topic = sensor_topic(system.settings, tier)
        # So fast that nobody waits, so slow that there is more than one batch.
        length = plan.blocks_per_sensor * plan.duration
        await play(plan, producer, topic, speed=length / 3, on_progress=on_progress)


async def verified(system: System, tier: TierName, plan: Plan) -> None:
    """Compare every feature with the offline pass."""
    verifier = verifier_of(plan, tier=tier)
    verdict = await system.verify(verifier, pipeline=TIER_DEFAULTS[tier].pipeline, quiet=1.0)
    assert verdict.passed, (tier, verdict, verdict.examples)


# --- Their values -----------------------------------------------------------------------------------------------


def test_each_tier_has_its_own_values() -> None:
    settings = load_settings()
    assert tuple(TIER_DEFAULTS) == TIERS
    for tier in TIERS:
        assert in_force(settings, tier) == TIER_DEFAULTS[tier]
    assert [TIER_DEFAULTS[tier].partitions for tier in TIERS] == [50, 30, 20]
    assert [TIER_DEFAULTS[tier].pipeline for tier in TIERS] == ["ecg", "wearable", "report"]
    idle = [TIER_DEFAULTS[tier].idle_after for tier in TIERS]
    assert idle == sorted(idle, reverse=True), "the slower a tier's sensors are, the sooner they leave memory"


@pytest.mark.parametrize(
    ("name", "value"), [("checkpoint_seconds", 3.5), ("checkpoint_messages", 7), ("idle_after", 42.0)]
)
def test_a_setting_goes_before_the_tiers_own(monkeypatch: pytest.MonkeyPatch, name: str, value: float) -> None:
    monkeypatch.setenv(f"CONTINUUM_{name.upper()}", str(value))
    settings = load_settings()
    for tier in TIERS:
        own = in_force(settings, tier)
        assert getattr(own, name) == value
        assert own.partitions == TIER_DEFAULTS[tier].partitions
        assert [key for key in vars(own) if getattr(own, key) != getattr(TIER_DEFAULTS[tier], key)] == [name]


def records(sizes: Sequence[int]) -> list[SimpleNamespace]:
    return [SimpleNamespace(number=number, value=b"x" * size) for number, size in enumerate(sizes)]


def test_no_slice_holds_more_than_the_tier_takes_at_once() -> None:
    batch = records([1] * 101)
    parts = list(slices(batch, lambda: 25))
    assert [len(part) for part in parts] == [25, 25, 25, 25, 1]
    assert [one for part in parts for one in part] == batch
    large = records([SLICE_BYTES // 2 + 1] * 3)
    assert [len(part) for part in slices(large, lambda: 25)] == [1, 1, 1], "fewer where they are large"
    assert [len(part) for part in slices(batch[:25], lambda: 25)] == [25]


# --- Their groups -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("living", "mine", "conflict"),
    [
        (("rt", "nrt"), ("batch",), None),
        (("batch",), ("rt", "nrt"), None),
        (("batch",), ("batch",), None),
        (("batch",), ("rt", "batch"), "group x-batch has a living worker on batch-sensors.*x-rt-batch"),
        (("nrt", "batch"), ("batch",), "group x-nrt-batch has a living worker on batch-sensors"),
        (("rt", "nrt", "batch"), ("batch",), "CONTINUUM_TIERS=rt,nrt,batch$"),
        (("batch",), ("rt", "nrt", "batch"), "run its tiers here too: CONTINUUM_TIERS=batch$"),
    ],
)
def test_a_topic_of_any_set_of_tiers_has_one_group(
    living: tuple[TierName, ...], mine: tuple[TierName, ...], conflict: str | None
) -> None:
    other, settings = (load_settings(app_id="x", tiers=tiers) for tiers in (living, mine))
    read = {other.group_id: {sensor_topic(other, tier) for tier in living}}
    topics = {sensor_topic(settings, tier) for tier in mine}
    if conflict is None:
        check_groups(settings, topics, read)
        return
    with pytest.raises(GroupConflictError, match=conflict):
        check_groups(settings, topics, read)


# --- At work ----------------------------------------------------------------------------------------------------


async def test_all_tiers_on_one_worker(system: System) -> None:
    worker = await system.worker()
    plans = {tier: plan_of(tier) for tier in TIERS}
    await asyncio.gather(*(played(system, tier, plan) for tier, plan in plans.items()))
    for tier, plan in plans.items():
        assert any(None not in expected.values for expected in verifier_of(plan, tier=tier)._expected.values())
        await verified(system, tier, plan)
    status = await worker.status()
    assert {tier: len(own.partitions) for tier, own in status.tiers.items()} == {"rt": 50, "nrt": 30, "batch": 20}
    assert {tier: own.features for tier, own in status.tiers.items()} == {
        tier: plan.total_blocks for tier, plan in plans.items()
    }
    assert await worker.stop() == 0
    assert [await system.lag(tier) for tier in TIERS] == [0, 0, 0]


@pytest.mark.slow
async def test_tiers_apart_in_sets_that_share_no_topic(system: System) -> None:
    workers = [await system.worker(tiers=("rt", "batch")), await system.worker(tiers=("nrt",))]
    plans = {tier: plan_of(tier, sensors=3) for tier in TIERS}
    await asyncio.gather(*(played(system, tier, plan) for tier, plan in plans.items()))
    for tier, plan in plans.items():
        await verified(system, tier, plan)
    assert [sorted((await worker.status()).tiers) for worker in workers] == [["batch", "rt"], ["nrt"]]
    for worker in workers:
        assert await worker.stop() == 0


async def test_state_of_the_batch_tier_survives_a_kill(system: System) -> None:
    """The mean of all reports so far cannot be right if one is lost or counted twice.

    Gateways put more sensors into a partition than the tier works on at once, so that checkpoints come bit by bit.
    """
    worker = await system.worker(tiers=("batch",), checkpoint_seconds=0.3)
    plan = plan_builtin("batch", sensors=60, seconds=10_000, name="batch-sensor", encoding="frame")
    assert plan.gateway_sensors > TIER_DEFAULTS["batch"].at_once
    half, sent = asyncio.Event(), Sent()

    def watch(now: Sent) -> None:
        nonlocal sent
        sent = now
        if now.blocks > plan.total_blocks / 2:
            half.set()

    playing = asyncio.create_task(played(system, "batch", plan, watch))
    await half.wait()
    async with asyncio.timeout(60):
        while not (await worker.status()).tiers["batch"].checkpoint_age:  # noqa: ASYNC110 - it is another process
            await asyncio.sleep(0.05)
    worker.kill()
    assert sent.blocks
    worker = await system.worker(tiers=("batch",))
    await playing
    await verified(system, "batch", plan)
    assert await worker.stop() == 0


async def test_a_tiers_own_values_are_in_force_on_a_worker(settings: Callable[..., Settings]) -> None:
    """A batch sensor rests soon after its block, saved and released; an rt sensor beside it stays."""
    system = System(settings())
    await system.create()
    try:
        worker = await system.worker(tiers=("rt", "batch"))
        plans = {"rt": plan_builtin("rt", seconds=1.1), "batch": plan_builtin("batch", seconds=100)}
        for tier, plan in plans.items():
            async with started(new_producer(system.settings), system.settings) as producer:
                await play(plan, producer, sensor_topic(system.settings, tier), speed=math.inf)

        async def sensors(tier: str) -> tuple[int, int]:
            status = (await worker.status()).tiers[tier]
            return status.features, status.sensors

        async with asyncio.timeout(60):
            while await sensors("batch") != (1, 0):  # noqa: ASYNC110 - it is another process
                await asyncio.sleep(0.2)
        assert await sensors("rt") == (1, 1)
        assert await worker.stop() == 0
    finally:
        system.close()
        await system.delete()
