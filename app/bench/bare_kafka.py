"""The least that any program with aiokafka does: read records, and send as many bytes as their features have.

``python -m app.bench.bare_kafka GROUP INPUT OUTPUT BLOCKS SIZE``: reads INPUT from its beginning and sends, for each
record, BLOCKS records of SIZE bytes with its key to OUTPUT. One batch a partition and poll, idempotent, all replicas'
acknowledgement, commits once a second of what was acknowledged: as the worker does.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import time
from collections import deque
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from app.faust_app import faust_settings
from app.kafka_client import client_options, started
from app.settings import Settings, load_settings
from app.topics import FEATURE_PARTITIONS

IN_FLIGHT = 16
"""Batches whose records may be unacknowledged."""
FETCH_BYTES = 1 << 20
"""Of a partition: Faust's and aiokafka's own."""


async def run(settings: Settings, group: str, source: str, target: str, blocks: int, size: int) -> None:
    """Read and send until cancelled."""
    worker = faust_settings(settings)
    consumer = AIOKafkaConsumer(
        source,
        **client_options(settings),
        group_id=group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        max_poll_records=worker["broker_max_poll_records"],
        max_partition_fetch_bytes=worker.get("consumer_max_fetch_size", FETCH_BYTES),
    )
    producer = AIOKafkaProducer(
        **client_options(settings),
        acks="all",
        enable_idempotence=True,
        max_batch_size=worker["producer_max_batch_size"],
        max_request_size=worker["producer_max_request_size"],
    )
    async with started(consumer, settings), started(producer, settings):
        passing = _Passing(producer, target, blocks, bytes(size))
        await passing.run(consumer, worker["broker_commit_interval"])


class _Passing:
    """Records on their way.

    Parameters
    ----------
    producer
        That sends.
    target
        Topic that it sends to.
    blocks
        Records sent for each that is read.
    value
        Of each.
    """

    def __init__(self, producer: AIOKafkaProducer, target: str, blocks: int, value: bytes) -> None:
        self._producer = producer
        self._target = target
        self._blocks = blocks
        self._value = value

    async def run(self, consumer: AIOKafkaConsumer, commit_seconds: float) -> None:
        """Read and send, and commit what was acknowledged."""
        flying: deque[tuple[asyncio.Future[Any], dict[TopicPartition, int]]] = deque()
        done: dict[TopicPartition, int] = {}
        committed = time.monotonic()
        while True:
            for partition, records in (await consumer.getmany(timeout_ms=200)).items():
                sent = await self._send(partition.partition % FEATURE_PARTITIONS, [own.key for own in records])
                flying.append((sent, {partition: records[-1].offset + 1}))
            while flying and (flying[0][0].done() or len(flying) > IN_FLIGHT):
                sent, offsets = flying.popleft()
                await sent
                done |= offsets
            if done and time.monotonic() - committed > commit_seconds:
                await consumer.commit(done)
                done, committed = {}, time.monotonic()

    async def _send(self, partition: int, keys: list[bytes]) -> asyncio.Future[Any]:
        """Send as many records as came of some keys; gives what is done once they are acknowledged."""
        futures = []
        producer, target, value = self._producer, self._target, self._value
        batch = producer.create_batch()
        for key in keys:
            for _ in range(self._blocks):
                if batch.append(key=key, value=value, timestamp=None) is None:
                    futures.append(await producer.send_batch(batch, target, partition=partition))
                    batch = producer.create_batch()
                    batch.append(key=key, value=value, timestamp=None)
        futures.append(await producer.send_batch(batch, target, partition=partition))
        return asyncio.gather(*futures)


async def main(arguments: list[str]) -> None:
    """Run until SIGTERM."""
    group, source, target, blocks, size = arguments
    task = asyncio.ensure_future(run(load_settings(), group, source, target, int(blocks), int(size)))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        if not task.cancelled():
            raise


if __name__ == "__main__":
    logging.getLogger("aiokafka").setLevel(logging.WARNING)
    asyncio.run(main(sys.argv[1:]))
