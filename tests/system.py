"""A system under test: its topics, its workers, and what went in and came out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from numpy.typing import NDArray

from app.kafka_client import admin_client, client_options, started
from app.pipelines import shipped_pipelines
from app.settings import Settings
from app.topics import (
    Topic,
    create_topics,
    dead_letter_topic,
    features_topic,
    needed_topics,
    partition_counts,
    sensor_topic,
)
from app.verify import FeatureVerifier, Sent, Verdict
from app.worker_process import WorkerProcess


@dataclass
class System:
    """Topics of their own on the shared Kafka, and the workers on them."""

    settings: Settings
    workers: list[WorkerProcess] = field(default_factory=list)

    async def create(self) -> None:
        await create_topics(self.settings, needed_topics(self.settings, shipped_pipelines()))

    async def delete(self) -> None:
        """Delete the topics: a broker keeps files open for each partition, and a run has thousands."""
        async with admin_client(self.settings) as admin:
            await admin.delete_topics([topic.name for topic in needed_topics(self.settings, shipped_pipelines())])

    async def worker(self, **overrides: Any) -> WorkerProcess:
        """Start a worker and wait until it is ready."""
        number = len(self.workers) + 1
        settings = self.settings.model_copy(update=overrides)
        worker = WorkerProcess(settings, self.settings.datadir / f"worker-{number}.log")
        self.workers.append(worker)
        await worker.ready()
        return worker

    def close(self) -> None:
        for worker in self.workers:
            worker.kill()

    @asynccontextmanager
    async def producer(self, **options: Any) -> AsyncIterator[AIOKafkaProducer]:
        producer = AIOKafkaProducer(**client_options(self.settings), acks="all", **options)
        async with started(producer, self.settings):
            yield producer

    async def send(self, messages: Iterable[tuple[bytes | None, bytes | None]], tier: str = "rt") -> None:
        """Send messages (key, value) in order, and wait until the broker has them."""
        async with self.producer() as producer:
            sent = [
                await producer.send(sensor_topic(self.settings, tier), value, key=key)  # type: ignore[arg-type]
                for key, value in messages
            ]
            await asyncio.gather(*sent)

    async def read(self, topic: str, until: int, seconds: float = 60.0) -> list[Any]:
        """Read a topic from its beginning until it has given so many records, or for so long."""
        consumer = AIOKafkaConsumer(topic, **client_options(self.settings), auto_offset_reset="earliest")
        records: list[Any] = []
        async with started(consumer, self.settings):
            deadline = time.monotonic() + seconds
            while len(records) < until and time.monotonic() < deadline:
                for batch in (await consumer.getmany(timeout_ms=200)).values():
                    records += batch
        return records

    async def dead_letters(self, until: int) -> list[Any]:
        return await self.read(dead_letter_topic(self.settings), until)

    async def verify(
        self, verifier: FeatureVerifier, *, pipeline: str = "ecg", quiet: float = 3.0, seconds: float = 90.0
    ) -> Verdict:
        """Read all feature records until every one is there and none has come for a while."""
        topic = features_topic(self.settings, pipeline)
        consumer = AIOKafkaConsumer(topic, **client_options(self.settings), auto_offset_reset="earliest")
        async with started(consumer, self.settings):
            last, deadline = time.monotonic(), time.monotonic() + seconds
            while time.monotonic() < deadline:
                for batch in (await consumer.getmany(timeout_ms=200)).values():
                    last = time.monotonic()
                    for record in batch:
                        verifier.add(record.value)
                if not verifier.missing() and time.monotonic() - last > quiet:
                    break
        return verifier.verdict

    async def lag(self, tier: str = "rt", *, apart: bool = False) -> int:
        """Messages on the sensor topic that its group, the tier's own if it runs apart, has not committed."""
        topic = sensor_topic(self.settings, tier)
        group = self.settings.model_copy(update={"tiers": (tier,)}).group_id if apart else self.settings.group_id
        admin = AIOKafkaAdminClient(**client_options(self.settings))
        await admin.start()
        try:
            committed = await admin.list_consumer_group_offsets(group)
        finally:
            await admin.close()
        consumer = AIOKafkaConsumer(**client_options(self.settings))
        async with started(consumer, self.settings):
            count = (await partition_counts(self.settings, [Topic(topic, 0)]))[topic]
            partitions = [TopicPartition(topic, number) for number in range(count or 0)]
            ends = await consumer.end_offsets(partitions)
        return sum(ends[tp] - (committed[tp].offset if tp in committed else 0) for tp in partitions)

    async def group_members(self) -> int:
        """Members of the consumer group, living or not yet expired."""
        admin = AIOKafkaAdminClient(**client_options(self.settings))
        await admin.start()
        try:
            (response,) = await admin.describe_consumer_groups([self.settings.group_id])
        finally:
            await admin.close()
        return len(response.groups[0][5])


def ecg_blocks(count: int, length: int = 256) -> list[Sent]:
    """Blocks of one length, one after another."""
    return [Sent(number * length, length) for number in range(count)]


def decoded(record: Any) -> dict[str, Any]:
    return msgspec.json.decode(record.value)


def noise(samples: int, seed: int) -> NDArray[np.float64]:
    """A signal that no filter leaves at rest."""
    return np.random.default_rng(seed).normal(size=samples).cumsum() / 10
