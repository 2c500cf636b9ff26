"""Which pipeline runs the blocks that name none, in real workers: what is set, else what ran last, else the tier's."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from pydantic import SecretStr

from app.mirror.keys import sensor_key
from app.offline import ecg_features
from app.redis_client import RedisClient, redis_client
from app.runtime.sensors_upkeep import CHECK_SECONDS, Upkeep
from app.sensors.described import write_set
from app.sensors.metadata import SensorMeta
from app.services.ports import free_ports
from app.tiers import TIER_DEFAULTS
from tests.command import continuum
from tests.sensor_streams import BLOCK, Streams, features, pipelines_of, records, tiers_of, until
from tests.system import System


async def forget(redis: RedisClient, prefix: str) -> None:
    """Let Redis lose all that it has of a system, as it does when it is flushed."""
    keys = [key async for key in redis.scan_iter(f"{prefix}*")]
    await redis.delete(*keys)


async def test_a_sensor_that_moves_goes_on_with_what_it_ran_though_nothing_was_saved_yet(system: System) -> None:
    """There and back between two workers; the state is in memory only when the sensor moves first."""
    streams = Streams(system, 12)
    workers = {
        tier: await system.worker(tiers=(tier,), handoff_wait=60.0, checkpoint_seconds=60.0) for tier in ("rt", "nrt")
    }
    assert "ecg-branched" not in {TIER_DEFAULTS[tier].pipeline for tier in ("rt", "nrt")}
    await streams.send("rt", 1, pipeline="ecg-branched")
    await features(workers["rt"], "rt", 12)
    count = {"rt": 12, "nrt": 0}
    for tier in ("nrt", "rt", "nrt", "rt"):
        await streams.send(tier, 5)
        count[tier] += 60
        await features(workers[tier], tier, count[tier])
    verdict = await system.verify(streams.verifier(pipeline="ecg-branched"), pipeline="ecg-branched", quiet=0.5)
    assert verdict.passed, (verdict, verdict.examples)
    assert await records(system, "ecg-branched") == streams.unmoved("ecg-branched"), "to the last bit"
    for tier, worker in workers.items():
        status = (await worker.status()).tiers[tier]
        assert (status.gaps, status.dead_letters) == (0, {})
        assert await worker.stop() == 0


async def test_a_set_pipeline_takes_force_in_a_running_worker(system: System) -> None:
    """Warmed up from the topic, every block in exactly one of the pipelines; after a kill, without Redis, too."""
    streams = Streams(system, 6)
    worker = await system.worker()
    before, after, alone = 45, 10, 5
    await streams.send("rt", 1, pipeline="ecg-branched")
    await streams.send("rt", before - 1)
    await features(worker, "rt", 6 * before)
    done = await continuum(system.settings, "sensors", "set", *streams.ids[:4], "--pipeline", "ecg")
    assert done.code == 0, done
    await asyncio.sleep(1.0)
    await streams.send("rt", after)
    await features(worker, "rt", 6 * (before + after))
    async with redis_client(system.settings) as redis:
        assert await pipelines_of(redis, system.settings.topic_prefix, ["s0", "s5", "nobody"]) == {
            "s0": "ecg",
            "s5": "ecg-branched",
        }

    async def is_saved() -> bool:
        return await system.lag() == 0

    await until(is_saved)
    worker.kill()
    (dead,) = free_ports(1)
    worker = await system.worker(redis_url=SecretStr(f"redis://127.0.0.1:{dead}"))
    await streams.send("rt", alone)
    await features(worker, "rt", 6 * alone)
    former, present = await records(system, "ecg-branched"), await records(system, "ecg")
    ends = np.arange(1, streams.sent + 1) * BLOCK
    for number, id_ in enumerate(streams.ids):
        signal, is_set = streams.signals[number][: streams.sent * BLOCK], number < 4
        assert sorted(former[id_]) == list(range(before if is_set else streams.sent))
        assert sorted(present.get(id_, ())) == (list(range(before, streams.sent)) if is_set else [])
        for found, branched in ((former[id_], True), (present.get(id_, {}), False)):
            own = ecg_features(signal, ends, branched=branched)
            for block, values in found.items():
                assert np.allclose(np.array(values, float), own[block], rtol=1e-6, atol=0, equal_nan=True), (id_, block)
    assert (await worker.status()).tiers["rt"].dead_letters == {}
    worker.kill()


@pytest.mark.slow
async def test_after_a_flush(system: System) -> None:
    """The table's snapshots tell what ran last; what is set comes back to Redis from the workers' table."""
    streams = Streams(system, 4)
    done = await continuum(system.settings, "sensors", "set", "s3", "--tier", "nrt", "--label", "ward=7")
    assert done.code == 0, done
    worker = await system.worker()
    await streams.send("rt", 6, pipeline="ecg-branched")
    await features(worker, "rt", 24)
    assert await worker.stop() == 0
    async with redis_client(system.settings) as redis:
        prefix = system.settings.topic_prefix

        async def is_back() -> bool:
            return await tiers_of(redis, prefix, ["s3", "nobody"]) == {"s3": "nrt"}

        await forget(redis, prefix)
        worker = await system.worker()
        await until(is_back)
        await streams.send("rt", 4)
        await features(worker, "rt", 16)
        await asyncio.sleep(CHECK_SECONDS)  # the worker has looked after Redis once
        await forget(redis, prefix)
        await until(is_back)
    verdict = await system.verify(streams.verifier(pipeline="ecg-branched"), pipeline="ecg-branched", quiet=0.5)
    assert verdict.passed, (verdict, verdict.examples)
    assert await worker.stop() == 0


@pytest.mark.parametrize("kind", ["single", "cluster"])
async def test_what_redis_knows(kind: str, request: pytest.FixtureRequest, settings) -> None:
    url = {"redis_url": request.getfixturevalue("redis_cluster").url} if kind == "cluster" else {}
    own = settings(**url)
    async with redis_client(own) as redis:
        many = {f"m{number}": SensorMeta(tier="batch", labels={"n": str(number)}) for number in range(2_500)}
        await write_set(redis, own.topic_prefix, {**many, "p": SensorMeta("ecg-beats"), "gone": SensorMeta("ecg")})
        await write_set(redis, own.topic_prefix, {"gone": SensorMeta()})
        assert await tiers_of(redis, own.topic_prefix, [*many, "p", "gone"]) == dict.fromkeys(many, "batch")
        assert await pipelines_of(redis, own.topic_prefix, ["p", "m1", "gone"]) == {"p": "ecg-beats"}
        assert await pipelines_of(redis, own.topic_prefix, []) == {}


async def test_redis_gets_back_what_was_set(settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it has lost data, where it had not got a change, and beside a key that is not ours."""
    monkeypatch.setattr("app.runtime.sensors_upkeep.CHECK_SECONDS", 0.1)
    own = settings()
    prefix = own.topic_prefix
    async with redis_client(own) as redis:
        await redis.set(sensor_key(prefix, "foreign", "meta"), "not a hash")
        metas = {"foreign": SensorMeta(tier="rt"), "a": SensorMeta(tier="nrt"), "b": SensorMeta("ecg", "batch")}
        upkeep = Upkeep(redis, prefix, metas)

        async def has(expected: dict[str, str]) -> None:
            async def is_so() -> bool:
                return await tiers_of(redis, prefix, ["foreign", "a", "b"]) == expected

            await until(is_so)

        async with upkeep:
            upkeep.changed(metas)
            await has({"a": "nrt", "b": "batch"})
            await asyncio.sleep(0.5)  # it has looked after Redis once
            await forget(redis, prefix)
            await has({"foreign": "rt", "a": "nrt", "b": "batch"})
            del metas["b"]
            upkeep.changed({"b"})
            await has({"foreign": "rt", "a": "nrt"})
