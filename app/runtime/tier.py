"""A tier in a worker: its agent's loop, and the checkpoints and the mirror beside it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from typing import TYPE_CHECKING, Any, cast

from faust import Stream
from faust.types import TP, EventT, StreamT
from mode import Service

from app import metrics
from app.runtime.checkpoint import Checkpointer, Pending
from app.runtime.mirror import Mirror
from app.runtime.outbox import Outgoing
from app.runtime.processor import Counts, Output, Processor
from app.runtime.state_table import StateTable
from app.settings import TierName
from app.topics import dead_letter_topic, features_topic, sensor_topic
from app.transport.batch import PartitionBatch

if TYPE_CHECKING:
    from app.faust_app import ContinuumApp

logger = logging.getLogger(__name__)

LATEST_RECORDS = 20
"""Feature records kept for the web page."""

LONGEST_DETAIL = 500
"""Characters of a dead letter's detail, which may quote the input."""


class Tier(Service):
    """Consumes a tier's partition batches.

    Parameters
    ----------
    app
        The application; the tier registers itself with it.
    name
        Of the tier.
    table
        Where its sensors' snapshots are kept.
    pipeline
        Name of the pipeline of blocks that name none.
    """

    def __init__(self, app: ContinuumApp, name: TierName, table: StateTable, pipeline: str, **kwargs: Any) -> None:
        settings = app.settings
        self.app = app
        self.name = name
        self.topic = sensor_topic(settings, name)
        self.processor = Processor(name, self.topic, app.pipelines, pipeline, table.read)
        self.mirror = Mirror(app.redis, settings.topic_prefix, name)
        self.checkpoints = Checkpointer(
            self.processor,
            table,
            self.mirror,
            lambda: app.consumer_generation_id,
            settings.checkpoint_seconds,
            settings.checkpoint_messages,
        )
        self.counts = Counts()
        self.dead_letters: dict[str, int] = {}
        self.latest: deque[bytes] = deque(maxlen=LATEST_RECORDS)
        self._in_hand = asyncio.Lock()
        super().__init__(**kwargs)
        app.tiers[name] = self

    async def consume(self, stream: StreamT[Any]) -> None:
        """Consume a stream of partition batches, for ever.

        Acks are ours to give (`noack`): Faust would ack a batch when the loop moves on, whatever became of it.
        Whatever is raised here ends the worker, with the batch neither acked nor committed.
        """
        async for event in cast("Stream[Any]", stream).noack().events():
            await self.process(event)

    async def process(self, event: EventT[Any]) -> None:
        """Process a batch: change state, send features and dead letters."""
        consumer = self.app.batches
        async with self._in_hand:
            message = event.message
            if not consumer.accepts(message):
                return
            batch: PartitionBatch = cast("Any", message.value)
            # The event is held until it is committed; its records need not be.
            message.value = event.value = None
            partition = message.partition
            pending = Pending(event)
            self.checkpoints.add(partition, pending)
            started = time.perf_counter()
            output = self.processor.process(partition, batch.records)
            metrics.BATCH_SECONDS.labels(self.name).observe(time.perf_counter() - started)
            self._count(output)
            await self._send(output, batch, message.tp, pending)
            self.checkpoints.after_batch(partition, output.most_blocks)

    async def _send(self, output: Output, batch: PartitionBatch, tp: TP, pending: Pending) -> None:
        outbox, settings = self.app.outbox, self.app.settings
        for pipeline, records in output.features.items():
            topic = features_topic(settings, pipeline)
            pending.sent += await outbox.send(topic, (Outgoing(key, value) for key, value in records))
        if output.bad:
            letters = []
            for bad in output.bad:
                record = batch.records[bad.record]
                source = f"{tp.topic}-{tp.partition}-{record.offset}"
                headers = [
                    ("reason", bad.reason.encode()),
                    ("detail", bad.detail[:LONGEST_DETAIL].encode(errors="backslashreplace")),
                    ("source", source.encode()),
                ]
                letters.append(Outgoing(record.key, record.value, headers))
            pending.sent += await outbox.send(dead_letter_topic(settings), letters)
        pending.queued.set()

    def _count(self, output: Output) -> None:
        counts, name = output.counts, self.name
        self.counts.add(counts)
        metrics.BLOCKS.labels(name).inc(counts.blocks)
        metrics.SAMPLES.labels(name).inc(counts.samples)
        metrics.FEATURES.labels(name).inc(counts.features)
        metrics.REPLAYED.labels(name).inc(counts.replayed)
        metrics.LATE.labels(name).inc(counts.late)
        metrics.GAPS.labels(name).inc(counts.gaps)
        metrics.SENSORS.labels(name).set(self.processor.sensor_count)
        for bad in output.bad:
            metrics.DEAD_LETTERS.labels(name, bad.reason).inc()
            self.dead_letters[bad.reason] = self.dead_letters.get(bad.reason, 0) + 1
        for records in output.features.values():
            self.latest.extend(value for _, value in records[-LATEST_RECORDS:])

    async def settle(self) -> None:
        """Finish the batch in hand and checkpoint everything."""
        async with self._in_hand:
            await self.checkpoints.checkpoint_all()

    def release(self, revoked: set[TP]) -> None:
        """Forget the partitions of ours among those revoked; their state has been saved, or will be computed again."""
        partitions = [tp.partition for tp in revoked if tp.topic == self.topic]
        self.checkpoints.release(partitions)
        self.processor.release(partitions)

    @Service.task
    async def _checkpoint(self) -> None:
        await self.checkpoints.run()

    @Service.task
    async def _mirror(self) -> None:
        await self.mirror.run()
