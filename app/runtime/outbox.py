"""Sending records in batches, at a microsecond of CPU a record."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from aiokafka import AIOKafkaProducer
from aiokafka.partitioner import murmur2

if TYPE_CHECKING:
    from app.faust_app import ContinuumApp

Headers = list[tuple[str, bytes]]
NO_HEADERS: Headers = []


class Outgoing(NamedTuple):
    """A record to send."""

    key: bytes | None
    value: bytes
    headers: Headers = NO_HEADERS


@lru_cache(maxsize=200_000)
def partition_of(key: bytes, partitions: int) -> int:
    """Partition of a key as the Java client chooses it, and aiokafka and Faust do."""
    return int(murmur2(key) & 0x7FFFFFFF) % partitions


class Outbox:
    """Sends through the worker's own producer with `create_batch` and `send_batch`.

    `send` costs 7 µs a record and Faust's `topic.send` over 50; a record in a batch costs 1.
    """

    def __init__(self, app: ContinuumApp) -> None:
        self._app = app
        self._counts: dict[str, int] = {}

    async def send(self, topic: str, records: Iterable[Outgoing]) -> list[asyncio.Future[Any]]:
        """Put records on a topic, in order within a partition, each in the partition of its key.

        Returns
        -------
        One future a batch, done when the broker has it. The call itself returns once the batches are queued; it
        waits while an earlier batch of the same partition is still queued, which holds a fast input back.
        """
        count = await self._partition_count(topic)
        by_partition: defaultdict[int, list[Outgoing]] = defaultdict(list)
        for record in records:
            by_partition[partition_of(record.key or b"", count)].append(record)
        futures = []
        for partition, own in by_partition.items():
            futures += await self.send_to(topic, partition, own)
        return futures

    async def send_to(self, topic: str, partition: int, records: Iterable[Outgoing]) -> list[asyncio.Future[Any]]:
        """Put records into one partition, in order."""
        producer = self._producer
        futures: list[asyncio.Future[Any]] = []
        batch = producer.create_batch()
        for key, value, headers in records:
            if batch.append(timestamp=None, key=key, value=value, headers=headers) is None:
                futures.append(await producer.send_batch(batch, topic, partition=partition))
                batch = producer.create_batch()
                batch.append(timestamp=None, key=key, value=value, headers=headers)
        if batch.record_count():
            futures.append(await producer.send_batch(batch, topic, partition=partition))
        return futures

    async def _partition_count(self, topic: str) -> int:
        count = self._counts.get(topic)
        if count is None:
            count = self._counts[topic] = len(await self._producer.partitions_for(topic))
        return count

    @property
    def _producer(self) -> AIOKafkaProducer:
        return cast("Any", self._app.producer)._ensure_producer()  # noqa: SLF001 - Faust offers no batches
