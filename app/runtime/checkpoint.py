"""The checkpoint protocol: features first, then state, then the commit.

A checkpoint of a partition

1. waits until the broker has all features and dead letters of the batches so far,
2. writes the changed sensors' snapshots to the table and waits until the changelog has them,
3. hands them to the Redis mirror, without waiting for it,
4. acks the batches, so that Faust commits them.

Whatever crashes in between, nothing is lost and no state counts a block twice: input after the commit is read
again, a sensor whose snapshot is ahead skips what its source position covers, and the others repeat.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from faust.types import EventT

from app import metrics
from app.runtime.mirror import Mirror
from app.runtime.processor import Processor
from app.runtime.state_table import StateTable

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Pending:
    """A batch that has been processed and not acked."""

    event: EventT[Any]
    queued: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once all its records are on their way."""
    sent: list[asyncio.Future[Any]] = field(default_factory=list)
    """Done when the broker has them."""

    async def acknowledged(self) -> None:
        """Wait until the broker has everything that the batch gave."""
        await self.queued.wait()
        await asyncio.gather(*self.sent)


class Checkpointer:
    """Checkpoints of a tier's partitions.

    Parameters
    ----------
    processor, table, mirror
        Whose state, and where it goes.
    generation
        Gives the consumer group's generation: work that began in an older one is dropped.
    interval
        Longest time between a partition's checkpoints, s.
    messages
        Blocks of one sensor after which its partition is checkpointed.
    """

    def __init__(
        self,
        processor: Processor,
        table: StateTable,
        mirror: Mirror,
        generation: Callable[[], int],
        interval: float,
        messages: int,
    ) -> None:
        self._processor = processor
        self._table = table
        self._mirror = mirror
        self._generation = generation
        self._interval = interval
        self._messages = messages
        self._pending: defaultdict[int, list[Pending]] = defaultdict(list)
        self._due: dict[int, float] = {}
        self._locks: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._wake = asyncio.Event()
        self.last_finished: float | None = None
        """When the last checkpoint ended, s since the epoch."""

    def add(self, partition: int, pending: Pending) -> None:
        """Note a batch that is being processed."""
        self._pending[partition].append(pending)
        self._due.setdefault(partition, time.monotonic() + self._first_interval(partition))

    def _first_interval(self, partition: int) -> float:
        # Spread over the interval, so that not all partitions are checkpointed at one moment.
        return self._interval * (0.5 + (partition * 0.618034) % 0.5)

    def after_batch(self, partition: int, most_blocks: int) -> None:
        """Ask for a checkpoint where a sensor has had its number of messages."""
        if most_blocks >= self._messages:
            self._due[partition] = 0.0
            self._wake.set()

    async def run(self) -> None:
        """Checkpoint partitions as they fall due, for ever."""
        while True:
            now = time.monotonic()
            due = [partition for partition, when in self._due.items() if when <= now]
            await asyncio.gather(*(self.checkpoint(partition) for partition in due))
            self._wake.clear()
            pause = min([*self._due.values(), now + self._interval / 4]) - time.monotonic()
            if pause > 0:
                try:
                    await asyncio.wait_for(self._wake.wait(), pause)
                except TimeoutError:
                    continue

    async def checkpoint_all(self) -> None:
        """Checkpoint every partition that has something to checkpoint, after those under way have ended."""
        await asyncio.gather(*(self.checkpoint(partition) for partition in {*self._pending, *self._locks}))

    async def checkpoint(self, partition: int) -> None:
        """Checkpoint one partition as it is now."""
        async with self._locks[partition]:
            generation = self._generation()
            pending = self._pending.pop(partition, [])
            self._due.pop(partition, None)
            if not pending:
                return
            started = time.monotonic()
            # Taken in one go with the list of batches: nothing awaits between the two.
            states = self._processor.take_states(partition)
            await asyncio.gather(*(batch.acknowledged() for batch in pending))
            if generation != self._generation():
                logger.warning("partition %d has moved on during its checkpoint: dropped", partition)
                return
            if states:
                await self._table.write(partition, {state.sensor_id.encode(): state.snapshot for state in states})
                self._mirror.put(states)
            if generation != self._generation():
                return
            for batch in pending:
                batch.event.ack()
            metrics.CHECKPOINTS.inc()
            metrics.SNAPSHOT_BYTES.inc(sum(len(state.snapshot) for state in states))
            metrics.CHECKPOINT_SECONDS.observe(time.monotonic() - started)
            self.last_finished = time.time()

    def release(self, partitions: Iterable[int]) -> None:
        """Forget partitions that this worker gives up: what is pending will be read again."""
        for partition in partitions:
            self._pending.pop(partition, None)
            self._due.pop(partition, None)
