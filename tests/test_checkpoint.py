"""What a checkpoint leaves behind, and that a worker goes on from it: from disk, changelog, and after kill -9."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import rocksdict
from redis.asyncio import Redis

from app.dsp.snapshot import decode
from app.redis_client import redis_client
from app.replay import Plan, plan_replay
from app.sources import builtin_ecg
from app.topics import changelog_topic
from app.verify import FeatureVerifier, Sent
from app.wire.blocks import encode_json
from tests.replaying import replay, verifier_of
from tests.system import System

SENSORS = 30


def rocksdb_values(folder: Path) -> dict[bytes, bytes]:
    """All snapshots on a worker's disk."""
    values = {}
    for partition in (folder / "v1" / "tables").glob("rt-state-*.db"):
        database = rocksdict.Rdict(str(partition), options=rocksdict.Options(raw_mode=True))
        values |= {key: value for key, value in database.items() if not key.startswith(b"__faust")}
        database.close()
    return values


async def changelog_values(system: System) -> dict[bytes, bytes]:
    """The newest value of each key on the changelog."""
    topic = changelog_topic(system.settings, "rt")
    records = await system.read(topic, until=1_000_000, seconds=4)
    return {record.key: record.value for record in sorted(records, key=lambda record: record.offset)}


async def mirrored(redis: Redis, system: System, sensor_id: str) -> dict[bytes, bytes]:
    return await redis.hgetall(f"{system.settings.topic_prefix}sensor:{{{sensor_id}}}:state")


async def one_pass(system: System, plan: Plan) -> None:
    """Send a plan through a worker that is then stopped."""
    worker = await system.worker()
    await replay(system, plan, speed=1e6)
    verdict = await system.verify(verifier_of(plan), quiet=0.5)
    assert verdict.passed, verdict
    assert await worker.stop() == 0


async def test_table_changelog_and_mirror_hold_the_same(system: System) -> None:
    plan = plan_replay(builtin_ecg(), sensors=SENSORS, seconds=20)
    await one_pass(system, plan)
    on_disk = rocksdb_values(system.settings.datadir / "workers" / "1")
    assert sorted(on_disk) == sorted(sensor.encode() for sensor in plan.sensors)
    assert on_disk == await changelog_values(system)
    async with redis_client(system.settings) as redis:
        for sensor in plan.sensors:
            snapshot = on_disk[sensor.encode()]
            header = decode(snapshot).header
            assert header.next == plan.blocks_per_sensor * 256
            assert header.position.topic == f"{system.settings.topic_prefix}rt-sensors"
            state = await mirrored(redis, system, sensor)
            assert state[b"snapshot"] == snapshot
            assert state[b"owner"] == b"rt"
            assert int(state[b"next"]) == header.next
            position = header.position
            assert state[b"position"].decode() == f"{position.topic}-{position.partition}-{position.offset}"
            meta = await redis.hgetall(f"{system.settings.topic_prefix}sensor:{{{sensor}}}:meta")
            assert meta == {b"pipeline": b"ecg", b"tier": b"rt", b"rate": b"250.0"}
            assert await redis.get(f"{system.settings.topic_prefix}sensor:{{{sensor}}}:features")


async def test_goes_on_from_the_changelog_without_its_disk(system: System) -> None:
    plan = plan_replay(builtin_ecg(), sensors=SENSORS, seconds=120)
    worker = await system.worker()
    sending = asyncio.create_task(replay(system, plan, speed=8))
    await asyncio.sleep(3)
    assert await worker.stop() == 0
    shutil.rmtree(system.settings.datadir / "workers")
    assert not sending.done()
    worker = await system.worker()
    await sending
    verdict = await system.verify(verifier_of(plan))
    assert verdict.passed, verdict
    assert verdict.repeated == 0
    assert await worker.stop() == 0


async def test_kill_9_repeats_alike_and_loses_nothing(system: System) -> None:
    plan = plan_replay(builtin_ecg(), sensors=SENSORS, seconds=160)
    worker = await system.worker()
    sending = asyncio.create_task(replay(system, plan, speed=6))
    for _ in range(2):
        await asyncio.sleep(2.5)
        worker.kill()
        assert not sending.done()
        worker = await system.worker()
    await sending
    verdict = await system.verify(verifier_of(plan))
    assert verdict.passed, verdict
    assert verdict.repeated > 0, "blocks since the last commit come again"
    assert await worker.stop() == 0
    assert await system.lag() == 0


async def test_redis_down_holds_nothing_up(system: System) -> None:
    plan = plan_replay(builtin_ecg(), sensors=SENSORS, seconds=20)
    nowhere = system.settings.model_copy(update={"redis_url": type(system.settings.redis_url)("redis://127.0.0.1:9/0")})
    system.settings = nowhere
    await one_pass(system, plan)
    assert await system.lag() == 0
    status_log = system.workers[0].log.read_text()
    assert "mirror: Redis does not answer" in status_log


async def test_blocks_after_a_gap_in_one_batch_are_all_counted(system: System) -> None:
    """A gap is asked about before it is believed, with the first block after it; the others follow."""
    signal = builtin_ecg().channel(0)
    blocks = [Sent(number * 256, 256) for number in (0, 1, 2, 5, 6, 7, 9, 10, 11, 12)]
    verifier = FeatureVerifier(pipeline="ecg")
    messages = []
    for sensor in range(20):
        id_ = f"gap-{sensor}"
        verifier.expect(id_, signal[sensor * 100 :], blocks)
        for start, length in blocks:
            samples = signal[sensor * 100 + start :][:length]
            messages.append((id_.encode(), encode_json(id_, samples, 1_700_000_000_000 + start * 4, seq=start)))
    await system.send(messages)
    worker = await system.worker()
    verdict = await system.verify(verifier, seconds=30)
    assert verdict.passed, verdict
    assert (await worker.status()).tiers["rt"].events["replayed"] == 0
    assert await worker.stop() == 0
    assert await system.lag() == 0
