"""Sending records in batches, at a microsecond of CPU a record."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.partitioner import murmur2
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.default_records import DefaultRecordBatch

from app.runtime.prepared import Prepared

Headers = list[tuple[str, bytes]]
NO_HEADERS: Headers = []


PRODUCER_BATCH_BYTES = 512 << 10
"""Largest batch that a worker's producer takes."""

_OVERHEAD = 64 << 10
"""Bytes of a record beside its value, at the most: key, headers, frames."""


class Outgoing(NamedTuple):
    """A record to send."""

    key: bytes | None
    value: bytes | None
    headers: Headers = NO_HEADERS


def _compressed(record: Outgoing) -> BatchBuilder:
    # aiokafka has one kind of compression for all that a producer sends; a batch of our own may have another.
    room = len(record.value or b"") + _OVERHEAD
    batch = BatchBuilder(room, DefaultRecordBatch.CODEC_GZIP, is_transactional=False)
    batch.append(timestamp=None, key=record.key, value=record.value, headers=record.headers)
    return batch


class SentBatch(NamedTuple):
    """Records on their way, one after another."""

    acknowledged: asyncio.Future[Any]
    """Done when the broker has them, with the offset of the first."""
    records: int


@lru_cache(maxsize=200_000)
def partition_of(key: bytes, partitions: int) -> int:
    """Partition of a key as the Java client chooses it, and aiokafka and Faust do."""
    return int(murmur2(key) & 0x7FFFFFFF) % partitions


class Outbox:
    """Sends through a producer with `create_batch` and `send_batch`.

    `send` costs 7 µs a record and Faust's `topic.send` over 50; a record in a batch costs 1.

    Parameters
    ----------
    producer
        Gives the producer, which has been started.
    """

    def __init__(self, producer: Callable[[], AIOKafkaProducer]) -> None:
        self._producer = producer
        self._counts: dict[str, int] = {}

    async def send(self, topic: str, records: Iterable[Outgoing]) -> list[asyncio.Future[Any]]:
        """Put records on a topic, in order within a partition, each in the partition of its key.

        Returns
        -------
        One future a batch, done when the broker has it. The call itself returns once the batches are queued; it
        waits while an earlier batch of the same partition is still queued, which holds a fast input back.
        """
        count = await self.partition_count(topic)
        by_partition: defaultdict[int, list[Outgoing]] = defaultdict(list)
        for record in records:
            by_partition[partition_of(record.key or b"", count)].append(record)
        futures = []
        for partition, own in by_partition.items():
            futures += [batch.acknowledged for batch in await self.send_to(topic, partition, own)]
        return futures

    async def send_large(self, topic: str, record: Outgoing, limit: int) -> asyncio.Future[Any]:
        """Put one large record on a topic, compressed; if it is larger even so, as much of it as may be.

        It came in compressed, perhaps, and the brokers' limit is on what is sent. What is too large is never sent:
        a refusal would leave a hole in the idempotent producer's sequence.

        Parameters
        ----------
        topic, record
            What goes where; a record that is cut gets the header `truncated`, with its true size.
        limit
            Largest batch that the topic takes, bytes.

        Returns
        -------
        A future, done when the broker has it.
        """
        batch = _compressed(record)
        # A batch can be built but once, and the producer does that itself.
        if len(_compressed(record)._build()) > limit:  # noqa: SLF001 - the only way to learn its size
            value = record.value or b""
            size = str(len(value)).encode()
            batch = _compressed(Outgoing(record.key, value[: limit // 2], [*record.headers, ("truncated", size)]))
        partition = partition_of(record.key or b"", await self.partition_count(topic))
        future: asyncio.Future[Any] = await self._producer().send_batch(batch, topic, partition=partition)
        return future

    async def send_to(self, topic: str, partition: int, records: Iterable[Outgoing]) -> list[SentBatch]:
        """Put records into one partition, in order."""
        producer = self._producer()
        sent: list[SentBatch] = []
        batch = producer.create_batch()
        for key, value, headers in records:
            if batch.append(timestamp=None, key=key, value=value, headers=headers) is None:
                count = batch.record_count()
                sent.append(SentBatch(await producer.send_batch(batch, topic, partition=partition), count))
                batch = producer.create_batch()
                batch.append(timestamp=None, key=key, value=value, headers=headers)
        if count := batch.record_count():
            sent.append(SentBatch(await producer.send_batch(batch, topic, partition=partition), count))
        return sent

    async def send_prepared(self, topic: str, batches: Iterable[tuple[int, Prepared]]) -> list[asyncio.Future[Any]]:
        """Put record batches on a topic, each in its partition, those of a partition in order.

        Returns
        -------
        As `send` does, and it waits as that does.
        """
        producer = self._producer()
        return [await producer.send_batch(batch, topic, partition=partition) for partition, batch in batches]

    async def partition_count(self, topic: str) -> int:
        """Give how many partitions a topic has, as it was when that was first asked."""
        count = self._counts.get(topic)
        if count is None:
            count = self._counts[topic] = len(await self._producer().partitions_for(topic))
        return count
