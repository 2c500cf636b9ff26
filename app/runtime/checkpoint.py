"""The checkpoint protocol: features first, then state, then the commit.

A checkpoint of a partition

1. waits until the broker has all features and dead letters of the batches so far,
2. writes the changed sensors' snapshots to the table and waits until the changelog has them, some at a time: what a
   state has counted meanwhile is acknowledged before it is written,
3. hands them to the Redis mirror, without waiting for it,
4. acks the batches, so that Faust commits them; a batch that was in hand when the checkpoint began, or had blocks that
   were held, and all after it, stay.

Whatever crashes in between, nothing is lost and no state counts a block twice: input after the commit is read
again, a sensor whose snapshot is ahead skips what its source position covers, and the others repeat. A worker
that may have lost its partitions writes nothing (`Consumer.confirm`).
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import takewhile
from typing import TYPE_CHECKING, Any, cast

from app import metrics
from app.mirror.mirror import Mirror
from app.mirror.states import Saved
from app.runtime.claims import Claims
from app.runtime.portion import Pending
from app.runtime.processor import Processor
from app.runtime.state_table import StateTable
from app.tiers import TierDefaults

if TYPE_CHECKING:
    from faust.types import EventT

logger = logging.getLogger(__name__)

STATES_AT_ONCE = 150
"""Of `ecg`, all of these fit one batch of the producer, and hold up the event loop for about a millisecond."""

HELD_PAUSE = 0.5
"""Seconds until the next checkpoint of a partition of which a batch is held."""


class Moved(Exception):  # noqa: N818 - not an error: the work at hand is somebody else's now
    """The partitions have been assigned anew since the work began; it is dropped, and done again by their owner."""


class Checkpointer:
    """Checkpoints of a tier's partitions.

    Parameters
    ----------
    processor, table, mirror, claims
        Whose state, and where it goes.
    generation
        Gives the consumer group's generation: work that began in an older one is dropped.
    confirm
        Tells whether the worker still has the partitions that a generation gave it.
    own
        The tier's values in force: when a partition is checkpointed, and how many states are taken in one go.
    """

    def __init__(
        self,
        processor: Processor,
        table: StateTable,
        mirror: Mirror,
        claims: Claims,
        generation: Callable[[], int],
        confirm: Callable[[int], Awaitable[bool]],
        own: TierDefaults,
    ) -> None:
        self._processor = processor
        self._table = table
        self._mirror = mirror
        self._claims = claims
        self._generation = generation
        self._confirm = confirm
        self._interval = own.checkpoint_seconds
        self._messages = own.checkpoint_messages
        self._at_once = min(own.at_once, STATES_AT_ONCE)
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

    def after_run(self, partition: int, most_blocks: int) -> None:
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
            self._due.pop(partition, None)
            pending = self._pending.get(partition)
            if not pending:
                return
            started = time.monotonic()
            # One that is held now, or in hand, may change states that have been taken, and be done when they are saved.
            batches = list(takewhile(lambda batch: not batch.held, pending))
            held = pending[len(batches)] if len(batches) < len(pending) else None
            try:
                await self._save(partition, generation)
            except Moved:
                logger.warning("partition %d has moved on during its checkpoint: dropped", partition)
                return
            self._ack(partition, batches)
            if held is not None:
                pause = HELD_PAUSE if held.held else self._first_interval(partition)
                self._due[partition] = min(self._due.get(partition, math.inf), time.monotonic() + pause)
            metrics.CHECKPOINTS.inc()
            metrics.CHECKPOINT_SECONDS.observe(time.monotonic() - started)
            self.last_finished = time.time()

    async def _save(self, partition: int, generation: int) -> None:
        """Write the states that have changed so far, some at a time, so that other tiers' sensors need not wait."""
        left = self._processor.changed(partition)
        while True:
            # A state may have counted batches that came since; nothing awaits between it and their list.
            states = self._processor.take_states(partition, min(left, self._at_once))
            await self._write(partition, generation, list(self._pending.get(partition, ())), states)
            await self._allowed(generation)
            self._mirror.put(states)
            left -= len(states)
            if left <= 0 or not states:
                return

    async def hand_over(self, partition: int, sensor_ids: Sequence[str]) -> None:
        """Save some sensors' states where others find them, and release the sensors; acks nothing."""
        async with self._locks[partition]:
            generation = self._generation()
            batches = list(self._pending.get(partition, ()))
            states = self._processor.states_of(sensor_ids)
            if not states:
                return
            try:
                await self._write(partition, generation, batches, states)
            except Moved:
                return
            if await self._claims.save(states) is None:
                self._mirror.put(states)
            await self._claims.release([(state.sensor_id, state.epoch) for state in states])

    async def _write(self, partition: int, generation: int, batches: list[Pending], states: list[Saved]) -> None:
        """Put states into the table once everything is acknowledged that they have counted."""
        await asyncio.gather(*(batch.acknowledged() for batch in batches))
        await self._allowed(generation)
        if states:
            await self._table.write(partition, {state.sensor_id.encode(): state.snapshot for state in states})
            metrics.SNAPSHOT_BYTES.inc(sum(len(state.snapshot) for state in states))

    async def _allowed(self, generation: int) -> None:
        if not await self._confirm(generation):
            raise Moved

    def _ack(self, partition: int, batches: list[Pending]) -> None:
        """Ack batches of which everything is saved."""
        pending = self._pending[partition]
        for batch in batches:
            cast("EventT[Any]", batch.event).ack()
            pending.remove(batch)

    def release(self, partitions: Iterable[int]) -> None:
        """Forget partitions that this worker gives up: what is pending will be read again."""
        for partition in partitions:
            self._pending.pop(partition, None)
            self._due.pop(partition, None)
