"""Sensors that move between tiers while they stream: the features are those of a sensor that never moved."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable, Sequence

import pytest
from aiokafka import AIOKafkaProducer
from redis.asyncio import Redis

from app.redis_client import redis_client
from app.replay import Plan, plan_replay
from app.sources import builtin_ecg
from app.topics import sensor_topic
from app.verify import FeatureVerifier, Sent
from app.wire.blocks import encode_json, encode_msgpack, packed
from app.worker_process import WorkerProcess
from tests.system import System

BLOCK = 256


def timestamp_of(start: int) -> int:
    """Of a block that begins with a sample, ms."""
    return 1_700_000_000_000 + start * 4


class Stream:
    """All sensors of a plan, block by block, to whichever tier is named."""

    def __init__(self, system: System, plan: Plan, *, seq: bool = True) -> None:
        self.system = system
        self.plan = plan
        self.seq = seq
        self.signals = [plan.signal(number) for number in range(len(plan.sensors))]
        self.block = 0

    def verifier(self) -> FeatureVerifier:
        """Expect what one tier alone would give, whichever gives it."""
        verifier = FeatureVerifier(pipeline="ecg")
        starts = [number * BLOCK for number in range(self.plan.blocks_per_sensor)]
        blocks = [Sent(start, BLOCK) for start in starts]
        times = [timestamp_of(start) for start in starts]
        for id_, signal in zip(self.plan.sensors, self.signals, strict=True):
            verifier.expect(id_, signal, blocks, times)
        return verifier

    async def send(self, producer: AIOKafkaProducer, tiers: Sequence[str], blocks: int, pause: float) -> None:
        """Send the next blocks of each sensor to its tier, one after another with a pause."""
        topics = [sensor_topic(self.system.settings, tier) for tier in tiers]
        for number in range(self.block, self.block + blocks):
            begin = number * BLOCK
            sent = [
                await producer.send(topic, self.message(sensor, begin), key=self.plan.sensors[sensor].encode())
                for sensor, topic in enumerate(topics)
            ]
            await asyncio.gather(*sent)
            await asyncio.sleep(pause)
        self.block += blocks

    def message(self, sensor: int, begin: int) -> bytes:
        samples = self.signals[sensor][begin : begin + BLOCK]
        timestamp = timestamp_of(begin)
        if self.seq:
            return encode_msgpack(packed(self.plan.sensors[sensor], samples, timestamp, seq=begin, pipeline="ecg"))
        return encode_json(self.plan.sensors[sensor], samples, timestamp, pipeline="ecg")


async def two_tiers(system: System, **overrides: object) -> dict[str, WorkerProcess]:
    """Start two workers, which wait for each other however slow this machine is."""
    return {tier: await system.worker(tiers=(tier,), handoff_wait=60.0, **overrides) for tier in ("rt", "nrt")}


async def resident(worker: WorkerProcess, tier: str, sensors: int) -> None:
    """Wait until a worker has so many sensors in memory."""
    async with asyncio.timeout(60):
        while (await worker.status()).tiers[tier].sensors != sensors:  # noqa: ASYNC110 - it is another process
            await asyncio.sleep(0.1)


async def features(workers: dict[str, WorkerProcess]) -> int:
    return sum([(await worker.status()).tiers[tier].features for tier, worker in workers.items()])


async def owners(redis: Redis, system: System, sensors: Iterable[str]) -> list[str]:
    prefix = system.settings.topic_prefix
    return [(await redis.hget(f"{prefix}sensor:{{{id_}}}:state", "owner") or b"").decode() for id_ in sensors]


@pytest.mark.parametrize("seq", [True, False], ids=["seq", "timestamps"])
async def test_back_and_forth_while_streaming(system: System, seq: bool) -> None:
    plan = plan_replay(builtin_ecg(), sensors=60, seconds=42 * BLOCK / 250)
    workers = await two_tiers(system)
    stream = Stream(system, plan, seq=seq)
    rounds = itertools.cycle(["rt", "nrt"])
    async with system.producer(linger_ms=2) as producer:
        for _ in range(7):
            tier = next(rounds)
            await stream.send(producer, [tier] * 60, blocks=6, pause=0.1)
            # A sensor that had moved on before the tier met it would have had a gap there.
            await resident(workers[tier], tier, 60)
    verdict = await system.verify(stream.verifier())
    assert verdict.passed, (verdict, verdict.examples)
    assert verdict.repeated == 0
    async with redis_client(system.settings) as redis:
        assert set(await owners(redis, system, plan.sensors)) == {"rt"}, "the last tier has them"
    for worker in workers.values():
        assert (await worker.status()).tiers.popitem()[1].gaps == 0
        assert await worker.stop() == 0
    assert await system.lag("rt", apart=True) == 0
    assert await system.lag("nrt", apart=True) == 0


async def test_a_tier_that_is_down_is_not_waited_for_when_the_mirror_is_current(system: System) -> None:
    plan = plan_replay(builtin_ecg(), sensors=20, seconds=20 * BLOCK / 250)
    stream = Stream(system, plan)
    async with system.producer() as producer:
        rt = await system.worker(tiers=("rt",))
        await stream.send(producer, ["rt"] * 20, blocks=10, pause=0.02)
        async with asyncio.timeout(20):
            while (await rt.status()).tiers["rt"].features < 200:  # noqa: ASYNC110 - it is another process
                await asyncio.sleep(0.1)
        assert await rt.stop() == 0
        nrt = await system.worker(tiers=("nrt",), handoff_wait=60.0)
        await stream.send(producer, ["nrt"] * 20, blocks=10, pause=0.02)
    verdict = await system.verify(stream.verifier(), seconds=30)
    assert verdict.passed, (verdict, verdict.examples)
    assert await nrt.stop() == 0


async def test_the_gap_policy_applies_when_the_owner_never_answers(system: System) -> None:
    plan = plan_replay(builtin_ecg(), sensors=5, seconds=20 * BLOCK / 250)
    stream = Stream(system, plan)
    async with system.producer() as producer:
        rt = await system.worker(tiers=("rt",), checkpoint_seconds=60.0)
        nrt = await system.worker(tiers=("nrt",))
        await stream.send(producer, ["rt"] * 5, blocks=10, pause=0.02)
        await asyncio.sleep(0.5)
        rt.kill()  # with ten blocks in memory that Redis has never seen
        await stream.send(producer, ["nrt"] * 5, blocks=10, pause=0.02)
        await asyncio.sleep(4)
        status = (await nrt.status()).tiers["nrt"]
    assert (status.sensors, status.held) == (5, 0)
    assert status.features == 50
    assert await nrt.stop() == 0
    async with redis_client(system.settings) as redis:
        assert set(await owners(redis, system, plan.sensors)) == {"nrt"}


async def test_of_two_that_believe_they_own_a_sensor_one_wins(system: System) -> None:
    """Each sensor's blocks go to both tiers in turn, block by block, faster than anybody checkpoints by itself."""
    plan = plan_replay(builtin_ecg(), sensors=10, seconds=30 * BLOCK / 250)
    workers = await two_tiers(system, checkpoint_seconds=60.0)
    stream = Stream(system, plan)
    async with system.producer() as producer:
        for number in range(30):
            tiers = [("rt", "nrt")[(number + sensor) % 2] for sensor in range(10)]
            await stream.send(producer, tiers, blocks=1, pause=0.0)
            async with asyncio.timeout(60):
                while await features(workers) < 10 * (number + 1):  # noqa: ASYNC110 - they are other processes
                    await asyncio.sleep(0.05)
    verdict = await system.verify(stream.verifier())
    assert verdict.passed, (verdict, verdict.examples)
    statuses = [(await worker.status()).tiers.popitem()[1] for worker in workers.values()]
    assert sum(status.sensors for status in statuses) == 10, "no sensor is in two memories"
    for worker in workers.values():
        assert await worker.stop() == 0


async def test_an_idle_sensor_leaves_memory_and_comes_back(system: System) -> None:
    plan = plan_replay(builtin_ecg(), sensors=20, seconds=20 * BLOCK / 250)
    stream = Stream(system, plan)
    worker = await system.worker(idle_after=1.0, checkpoint_seconds=0.5)
    async with system.producer() as producer:
        await stream.send(producer, ["rt"] * 20, blocks=10, pause=0.02)
        async with asyncio.timeout(60):
            while await features({"rt": worker}) < 200:  # noqa: ASYNC110 - it is another process
                await asyncio.sleep(0.1)
        await resident(worker, "rt", 0)
        async with redis_client(system.settings) as redis:
            assert set(await owners(redis, system, plan.sensors)) == {""}
        await stream.send(producer, ["rt"] * 20, blocks=10, pause=0.02)
    verdict = await system.verify(stream.verifier())
    assert verdict.passed, (verdict, verdict.examples)
    assert await worker.stop() == 0


async def test_a_sensor_that_changes_its_partition_is_handed_over(system: System) -> None:
    """Gateways come and go: a sensor's frames lie in the partition of whichever sends them."""
    from app.wire.blocks import encode_frame

    plan = plan_replay(builtin_ecg(), sensors=8, seconds=24 * BLOCK / 250)
    stream = Stream(system, plan)
    workers = [await system.worker(), await system.worker()]
    topic = sensor_topic(system.settings, "rt")
    async with system.producer() as producer:
        for number in range(24):
            begin, gateway = number * BLOCK, f"gateway-{number // 6}".encode()
            blocks = [
                packed(id_, stream.signals[sensor][begin : begin + BLOCK], timestamp_of(begin), seq=begin)
                for sensor, id_ in enumerate(plan.sensors)
            ]
            await producer.send_and_wait(topic, encode_frame(blocks), key=gateway)
            await asyncio.sleep(0.1)
    verdict = await system.verify(stream.verifier())
    assert verdict.passed, (verdict, verdict.examples)
    for worker in workers:
        assert await worker.stop() == 0
