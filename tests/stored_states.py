"""States of sensors, put where workers put them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rocksdict
from numpy.typing import NDArray

from app.dsp.engine import Engine
from app.dsp.snapshot import Position, read_header
from app.mirror.ownership import Ownership
from app.mirror.states import Claim, Saved
from app.pipelines import shipped_pipelines
from app.redis_client import redis_client
from app.runtime.outbox import partition_of
from app.topics import changelog_topic, sensor_topic
from tests.feeding import Block, Partition
from tests.system import System

EPOCH_2026 = 1_767_225_600_000


def state_of(signal: NDArray[np.float64], *, topic: str = "rt-sensors", partition: int = 0, restarts: int = 0) -> bytes:
    """Run a signal through a fresh `ecg`, and give the state after it."""
    engine = Engine(shipped_pipelines()["ecg"])
    (sensor,) = engine.admit(["s"])
    Partition(engine).feed(Block("s", signal, 0, EPOCH_2026))
    sensor.restarts = restarts
    sensor.position = Position(topic, partition, len(signal))
    return engine.snapshots([sensor])[0]


async def put_in_redis(system: System, sensor_id: str, snapshot: bytes, *, tier: str = "rt") -> None:
    """Claim a sensor for a tier, and save its state."""
    async with redis_client(system.settings) as redis:
        owner = Ownership(redis, system.settings.topic_prefix, tier)
        header = read_header(snapshot)
        (claimed,) = await owner.claim([Claim(sensor_id, -1, 0, 0, -1)], force=True)
        state = Saved(
            *(sensor_id, snapshot, claimed.epoch, header.restarts, header.next, header.position),
            *("ecg", 250.0, b"{}"),
        )
        assert await owner.save([state]) == []


async def put_on_changelog(system: System, sensor_id: str, *snapshots: bytes | None, partition: int | None = None):
    key = sensor_id.encode()
    async with system.producer() as producer:
        for snapshot in snapshots:
            number = partition_of(key, 50) if partition is None else partition
            await producer.send_and_wait(changelog_topic(system.settings, "rt"), snapshot, key, number)


def put_in_table(
    system: System, sensor_id: str, snapshot: bytes, *, worker: str = "1", partition: int | None = None
) -> Path:
    key = sensor_id.encode()
    number = partition_of(key, 50) if partition is None else partition
    path = system.settings.datadir / "workers" / worker / "v1" / "tables" / f"rt-state-{number}.db"
    path.parent.mkdir(parents=True, exist_ok=True)
    options = rocksdict.Options(raw_mode=True)
    options.create_if_missing(True)
    with rocksdict.Rdict(str(path), options) as database:
        database[key] = snapshot
        database[b"__faust\0offset__"] = b"0"
    return path


async def put_everywhere(system: System, sensor_id: str, snapshot: bytes) -> None:
    put_in_table(system, sensor_id, snapshot)
    await put_on_changelog(system, sensor_id, snapshot)
    await put_in_redis(system, sensor_id, snapshot)


def source_of(system: System, sensor_id: str) -> dict[str, object]:
    """Topic and partition that a sensor of the rt tier comes from."""
    return {
        "topic": sensor_topic(system.settings, "rt"),
        "partition": partition_of(sensor_id.encode(), 50),
    }
