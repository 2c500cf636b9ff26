"""Streams of real ECG whose blocks may name their pipeline, to whichever tier is named."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from app.dsp.engine import Engine
from app.kafka_reader import read, retained, topic_reader
from app.offline import OFFLINE
from app.pipelines import shipped_pipelines
from app.redis_client import RedisClient
from app.sensors.described import described
from app.sources import builtin_ecg
from app.topics import features_topic, sensor_topic
from app.verify import FeatureVerifier, Sent
from app.wire.blocks import encode_json, encode_msgpack, packed
from app.worker_process import WorkerProcess
from tests.feeding import Block, Partition
from tests.system import System, decoded

BLOCK = 256

#: Values of records by sensor and block; null where a window was not full.
Records = dict[str, dict[int, list[float | None]]]


class Streams:
    """Sensors `s0`, `s1`, ..., block by block; those of even numbers say where each block begins."""

    def __init__(self, system: System, sensors: int) -> None:
        self.system = system
        self.ids = [f"s{number}" for number in range(sensors)]
        signal = builtin_ecg().channel(0)
        self.signals = [signal[number * 500 :].astype("f4").astype(float) for number in range(sensors)]
        self.sent = 0

    async def send(self, tier: str, blocks: int, *, pipeline: str | None = None) -> None:
        """Send the next blocks of each sensor."""
        topic = sensor_topic(self.system.settings, tier)  # type: ignore[arg-type]
        async with self.system.producer(linger_ms=2) as producer:
            for number in range(self.sent, self.sent + blocks):
                sent = [
                    await producer.send(topic, self.message(sensor, number, pipeline), key=id_.encode())
                    for sensor, id_ in enumerate(self.ids)
                ]
                await asyncio.gather(*sent)
        self.sent += blocks

    def message(self, sensor: int, number: int, pipeline: str | None) -> bytes:
        begin = number * BLOCK
        id_, samples, time = self.ids[sensor], self.signals[sensor][begin : begin + BLOCK], timestamp_of(begin)
        if sensor % 2:
            return encode_json(id_, samples, time, pipeline=pipeline)
        return encode_msgpack(packed(id_, samples.astype("f4"), time, seq=begin, pipeline=pipeline))

    def verifier(self, *, pipeline: str, blocks: Iterable[int] | None = None) -> FeatureVerifier:
        """Expect what a pipeline would give that ran from a stream's beginning, of these blocks or of all sent."""
        verifier = FeatureVerifier(OFFLINE[pipeline], pipeline=pipeline)
        starts = [number * BLOCK for number in (range(self.sent) if blocks is None else blocks)]
        sent = [Sent(start, BLOCK) for start in starts]
        for id_, signal in zip(self.ids, self.signals, strict=True):
            verifier.expect(id_, signal, sent, [timestamp_of(start) for start in starts])
        return verifier

    def unmoved(self, pipeline: str) -> Records:
        """What one engine gives of all blocks sent, in one go."""
        found: Records = {}
        for id_, signal in zip(self.ids, self.signals, strict=True):
            partition = Partition(Engine(shipped_pipelines()[pipeline]))
            begins = range(0, self.sent * BLOCK, BLOCK)
            given = partition.feed(
                *(Block(id_, signal[begin : begin + BLOCK], begin, timestamp_of(begin)) for begin in begins)
            )
            for seq, values, full in zip(given.seq, given.values.tolist(), given.full.tolist(), strict=True):
                own = [value if is_full else None for value, is_full in zip(values, full, strict=True)]
                found.setdefault(id_, {})[seq // BLOCK] = own
        return found


async def records(system: System, pipeline: str) -> Records:
    """Values of a pipeline's records; one that came again is the same."""
    names = shipped_pipelines()[pipeline].feature_names
    found: Records = {}
    async with topic_reader(system.settings) as consumer:
        stretches = await retained(consumer, system.settings, features_topic(system.settings, pipeline))
        async for some in read(consumer, stretches):
            for fields in map(decoded, some):
                values = [fields[name] for name in names]
                assert found.setdefault(fields["sensorId"], {}).setdefault(fields["seq"] // BLOCK, values) == values
    return found


def timestamp_of(start: int) -> int:
    """Of a block that begins with a sample, ms."""
    return 1_700_000_000_000 + start * 4


async def until(condition: Callable[[], Any], seconds: float = 60.0) -> None:
    """Wait for what a coroutine function says."""
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110 - it is another process
            await asyncio.sleep(0.1)


async def features(worker: WorkerProcess, tier: str, count: int) -> None:
    """Wait until a worker has given so many features."""

    async def enough() -> bool:
        return (await worker.status()).tiers[tier].features >= count

    await until(enough)


async def pipelines_of(redis: RedisClient, prefix: str, sensor_ids: Sequence[str]) -> dict[str, str]:
    """Pipelines of sensors' blocks that name none, without those of which Redis knows none."""
    answers = await described(redis, prefix, sensor_ids)
    return {sensor_id: own.runs for sensor_id, own in answers.items() if own.runs}


async def tiers_of(redis: RedisClient, prefix: str, sensor_ids: Sequence[str]) -> dict[str, str]:
    """Tiers of sensors' blocks that name none, without those of which Redis knows none."""
    answers = await described(redis, prefix, sensor_ids)
    return {sensor_id: own.goes_to for sensor_id, own in answers.items() if own.goes_to}
