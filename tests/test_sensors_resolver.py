"""The order in which a block's pipeline is looked for, on a real Redis and snapshots as a table has them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest

from app.dsp.engine import Engine
from app.dsp.pipeline_file import parse_pipeline
from app.dsp.snapshot import Position
from app.mirror.keys import sensor_key
from app.mirror.ownership import Ownership
from app.mirror.states import Saved
from app.pipelines import shipped_pipelines
from app.redis_client import RedisClient, redis_client
from app.runtime.claims import Claims
from app.runtime.definitions import Definitions
from app.runtime.resolver import Resolver
from app.sensors.described import write_set
from app.sensors.metadata import SensorMeta
from app.settings import Settings
from app.wire.blocks import encode_frame, encode_json, packed
from tests.feeding import Block, Partition
from tests.mirroring import claim
from tests.system import noise

PIPELINES = shipped_pipelines()
CHANGED = parse_pipeline(PIPELINES["ecg-branched"].text.replace("window = 50", "window = 60"), "changed")


class Message(NamedTuple):
    key: bytes
    value: bytes
    offset: int = 0


def block(sensor_id: str, pipeline: str | None = None) -> Message:
    return Message(sensor_id.encode(), encode_json(sensor_id, np.ones(12), 0, pipeline=pipeline))


def snapshot(pipeline: Any, samples: int) -> bytes:
    engine = Engine(pipeline)
    (sensor,) = engine.admit(["s"])
    Partition(engine).feed(Block("s", noise(samples, seed=1), 0, 0))
    sensor.position = Position("nrt-sensors", 3, 1)
    return engine.snapshots([sensor])[0]


class World:
    """A resolver, and all that it looks at."""

    def __init__(self, redis: RedisClient, prefix: str, definitions: Definitions) -> None:
        self.redis, self.prefix = redis, prefix
        self.metas: dict[str, SensorMeta] = {}
        self.residents: dict[str, Any] = {}
        self.waiting: dict[str, Any] = {}
        self.table: dict[bytes, bytes] = {}
        self.on_read: Callable[[], None] = lambda: None
        self.resolver = Resolver(
            "wearable",
            PIPELINES,
            self.metas,
            self.residents,
            self.waiting,
            Claims(Ownership(redis, prefix, "nrt")),
            self._read,
            definitions.name_of,
        )

    def _read(self, partition: int, keys: Sequence[bytes]) -> list[bytes | None]:
        assert partition == 3
        self.on_read()
        return [self.table.get(key) for key in keys]

    async def save(self, sensor_id: str, pipeline: str, next_index: int) -> None:
        owner = Ownership(self.redis, self.prefix, "rt")
        (claimed,) = await owner.claim([claim(sensor_id)])
        position = Position("rt-sensors", 0, 1)
        state = Saved(sensor_id, b"bytes", claimed.epoch, 0, next_index, position, pipeline, 250.0, b"")
        assert await owner.save([state]) == []

    async def runs(self, *messages: Message) -> dict[str, list[str]]:
        """Pipelines of each sensor's blocks, in the order of the columns."""
        decoded = await self.resolver.decode(messages, 3)
        assert not decoded.bad
        found: dict[str, list[str]] = {}
        for columns in decoded.columns:
            for sensor_id in columns.sensor_ids:
                found.setdefault(sensor_id, []).append(columns.pipeline.name)
        return found


@pytest.fixture(params=["up", "down"])
def redis_is(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
async def world(settings: Callable[..., Settings], redis_is: str) -> AsyncIterator[World]:
    own = settings() if redis_is == "up" else settings(redis_url="redis://127.0.0.1:1")
    async with redis_client(own) as redis:
        definitions = Definitions(redis, own.topic_prefix, own.datadir / "definitions", [CHANGED])
        await definitions.on_start()
        yield World(redis, own.topic_prefix, definitions)


def in_memory(pipeline: str) -> Any:
    return SimpleNamespace(engine=SimpleNamespace(pipeline=PIPELINES[pipeline]))


async def test_what_a_worker_knows_itself(world: World) -> None:
    """Whether Redis is up or not."""
    world.metas |= {"set": SensorMeta("ecg"), "label": SensorMeta(labels={"a": "b"}), "both": SensorMeta("ecg")}
    world.residents |= {"in": in_memory("ecg-beats"), "both": in_memory("ecg-beats"), "label": in_memory("ecg-beats")}
    columns = SimpleNamespace(pipeline=PIPELINES["emg"])
    world.waiting |= {
        "held": SimpleNamespace(portions=[SimpleNamespace(columns=columns)]),
        "leaving": SimpleNamespace(portions=[]),
    }
    world.table |= {b"met": snapshot(PIPELINES["ecg"], 40), b"former": snapshot(CHANGED, 40), b"damaged": b"?"}
    assert await world.runs(
        *(block(id_) for id_ in ("set", "label", "both", "in", "held", "leaving", "met", "former", "damaged", "new")),
        *(block(id_, "ecg-branched") for id_ in ("set", "in", "new")),
    ) == {
        "set": ["ecg", "ecg-branched"],
        "label": ["ecg-beats"],
        "both": ["ecg"],
        "in": ["ecg-beats", "ecg-branched"],
        "held": ["emg"],
        "leaving": ["wearable"],
        "met": ["ecg"],
        "former": ["ecg-branched"],
        "damaged": ["wearable"],
        "new": ["wearable", "ecg-branched"],
    }


@pytest.mark.parametrize("redis_is", ["up"], indirect=True)
async def test_what_ran_last_elsewhere(world: World) -> None:
    """The newest state tells, wherever it lies; before there is one, whoever claimed the sensor."""
    await world.save("ahead", "ecg-beats", 500)
    await world.save("behind", "ecg-beats", 20)
    world.table |= {b"ahead": snapshot(PIPELINES["ecg"], 40), b"behind": snapshot(PIPELINES["ecg"], 40)}
    await Ownership(world.redis, world.prefix, "rt").claim([claim("claimed")._replace(pipeline="ecg-beats")])
    # Redis's copy of what was set serves those who have no table; a worker has its own.
    await write_set(world.redis, world.prefix, {"ahead": SensorMeta("emg")})
    await world.redis.set(sensor_key(world.prefix, "foreign", "meta"), "not a hash")
    await world.redis.hset(sensor_key(world.prefix, "odd", "state"), "next", "many")
    frame = Message(b"g", encode_frame([packed(id_, np.ones(12), 0) for id_ in ("claimed", "foreign", "odd")]))
    assert await world.runs(block("ahead"), block("behind"), frame) == {
        "ahead": ["ecg-beats"],
        "behind": ["ecg"],
        "claimed": ["ecg-beats"],
        "foreign": ["wearable"],
        "odd": ["wearable"],
    }
    assert await world.redis.hget(sensor_key(world.prefix, "claimed", "meta"), "tier") == b"rt"


async def test_a_sensor_that_leaves_memory_while_others_are_asked_for_is_asked_for_too(world: World) -> None:
    world.residents["leaves"] = in_memory("ecg")
    world.table[b"leaves"] = snapshot(PIPELINES["ecg"], 40)
    world.on_read = world.residents.clear
    assert await world.runs(block("new"), block("leaves")) == {"new": ["wearable"], "leaves": ["ecg"]}
    assert await world.runs(block("leaves")) == {"leaves": ["ecg"]}, "nothing is kept from one batch to the next"


async def test_a_new_sensor_goes_on_in_the_pipeline_that_its_first_block_names(world: World) -> None:
    """In one batch as in two, in the second of which it is in memory."""
    assert await world.runs(block("a", "ecg"), block("b"), block("a"), block("b", "ecg"), block("b")) == {
        "a": ["ecg", "ecg"],
        "b": ["ecg", "wearable", "wearable"],
    }
