"""Events as a Kafka event source makes them, environments of the function to hand them to, and what comes of them."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from app.kafka_reader import read, retained, topic_reader
from app.mirror.keys import sensor_key
from app.redis_client import redis_client
from app.serverless.function import Function
from app.settings import Settings
from app.topics import Topic, create_topics, dead_letter_topic, features_topic, sensor_topic
from app.verify import FeatureVerifier, Sent, Verdict
from app.wire.blocks import encode_json

MSK = {
    "eventSource": "aws:kafka",
    "eventSourceArn": "arn:aws:kafka:eu-west-1:123456789012:cluster/continuum/abc-1",
    "bootstrapServers": "b-1.continuum:9092,b-2.continuum:9092",
}
SELF_MANAGED = {"eventSource": "SelfManagedKafka", "bootstrapServers": "kafka:9092"}

BLOCK = 256
"""Samples."""

Message = tuple[int, bytes | None, bytes | None]
"""Offset, key, value."""


def record(topic: str, partition: int, message: Message, headers: Mapping[str, bytes] | None = None) -> dict[str, Any]:
    offset, key, value = message
    made: dict[str, Any] = {
        "topic": topic,
        "partition": partition,
        "offset": offset,
        "timestamp": 1_700_000_000_000 + offset,
        "timestampType": "CREATE_TIME",
        "value": None if value is None else base64.b64encode(value).decode(),
        "headers": [{name: list(content)} for name, content in (headers or {}).items()],
    }
    if key is not None:
        made["key"] = base64.b64encode(key).decode()
    return made


def event(topic: str, messages: Mapping[int, Iterable[Message]], shape: Mapping[str, str] = MSK) -> dict[str, Any]:
    records = {
        f"{topic}-{partition}": [record(topic, partition, message) for message in own]
        for partition, own in messages.items()
    }
    return {**shape, "records": records}


def timestamp_of(start: int) -> int:
    return 1_700_000_000_000 + 4 * start


def blocks_of(
    sensor_id: str,
    signal: NDArray[np.float64],
    *,
    offset: int = 0,
    start: int = 0,
    pipeline: str | None = "ecg",
    seq: bool = True,
) -> list[Message]:
    """Messages of a signal's blocks from a sample on, at offsets one after another."""
    return [
        (
            offset + number,
            sensor_id.encode(),
            encode_json(
                sensor_id,
                signal[first : first + BLOCK],
                timestamp_of(first),
                seq=first if seq else None,
                pipeline=pipeline,
            ),
        )
        for number, first in enumerate(range(start, len(signal), BLOCK))
    ]


def expecting(sensor_id: str, signal: NDArray[np.float64], *, tier: str | None = "batch") -> FeatureVerifier:
    """Expect the features of a signal's blocks."""
    verifier = FeatureVerifier(tier=tier, pipeline="ecg")
    starts = range(0, len(signal), BLOCK)
    verifier.expect(sensor_id, signal, [Sent(start, BLOCK) for start in starts], [timestamp_of(own) for own in starts])
    return verifier


class Context:
    """Lambda's context, of an invocation that has so long."""

    def __init__(self, seconds: float = 60.0) -> None:
        self._seconds = seconds

    def get_remaining_time_in_millis(self) -> int:
        return round(self._seconds * 1000)


def offsets(response: Mapping[str, Any]) -> dict[str, list[int]]:
    """Failed offsets of a response, by topic-partition."""
    found: dict[str, list[int]] = {}
    for item in response["batchItemFailures"]:
        identifier = item["itemIdentifier"]
        assert set(identifier) == {"partition", "offset"}
        found.setdefault(identifier["partition"], []).append(identifier["offset"])
    return found


class Environment:
    """An environment of the function; its invocations run in another thread, as it has a loop of its own."""

    def __init__(self, settings: Settings) -> None:
        self.function = Function(settings)
        self.topic = sensor_topic(settings, "batch")

    async def __call__(self, happening: Mapping[str, Any], seconds: float = 60.0) -> dict[str, list[int]]:
        return offsets(await asyncio.to_thread(self.function, happening, Context(seconds)))

    async def feed(self, messages: Mapping[int, Iterable[Message]], seconds: float = 60.0) -> dict[int, list[int]]:
        """Hand over messages by partition; gives the offsets that failed."""
        failed = await self(event(self.topic, messages), seconds)
        return {int(name.removeprefix(f"{self.topic}-")): own for name, own in failed.items()}


@asynccontextmanager
async def environment(settings: Settings, **overrides: Any) -> AsyncIterator[Environment]:
    made = Environment(settings.model_copy(update=overrides))
    try:
        yield made
    finally:
        await asyncio.to_thread(made.function.close)


class Outputs:
    """Topics of a prefix that the function writes to, and its keys."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    async def create(self) -> None:
        names = [features_topic(self.settings, pipeline) for pipeline in ("ecg", "wearable", "report")]
        await create_topics(self.settings, [Topic(name, 3) for name in (*names, dead_letter_topic(self.settings))])

    async def read(self, topic: str) -> list[Any]:
        """All records of a topic, as it is now: what the function gave before it answered is there."""
        async with topic_reader(self.settings) as consumer:
            log = await retained(consumer, self.settings, topic)
            return [record async for records in read(consumer, log) for record in records]

    async def features(self, sensor_id: str, pipeline: str = "ecg") -> list[dict[str, Any]]:
        """Records of a sensor, in order."""
        records = await self.read(features_topic(self.settings, pipeline))
        return [msgspec.json.decode(record.value) for record in records if record.key == sensor_id.encode()]

    async def dead_letters(self, key: bytes | None) -> list[Any]:
        return [record for record in await self.read(dead_letter_topic(self.settings)) if record.key == key]

    async def verify(self, verifier: FeatureVerifier) -> Verdict:
        for record in await self.read(features_topic(self.settings, "ecg")):
            verifier.add(record.value)
        return verifier.verdict

    async def state(self, sensor_id: str) -> dict[str, bytes]:
        """Fields of a sensor's state in Redis."""
        async with redis_client(self.settings) as redis:
            found = await redis.hgetall(sensor_key(self.settings.topic_prefix, sensor_id, "state"))
        return {name.decode(): value for name, value in found.items()}
