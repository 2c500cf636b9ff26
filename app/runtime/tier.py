"""A tier in a worker: its agent's loop, and what runs beside it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

from faust import Stream
from faust.types import TP, EventT, StreamT
from mode import Service

from app import compiled, metrics
from app.mirror.mirror import Mirror
from app.mirror.ownership import Ownership
from app.mirror.states import Saved
from app.runtime.arrivals import POLL_SECONDS, Arrivals
from app.runtime.checkpoint import Checkpointer
from app.runtime.claims import Claims
from app.runtime.copies import saved_from
from app.runtime.departures import Departures
from app.runtime.emitter import Emitter
from app.runtime.lanes import Lanes
from app.runtime.lingering import LingeringOutbox
from app.runtime.portion import Pending
from app.runtime.processor import Processor
from app.runtime.resolver import Resolver
from app.runtime.state_table import StateTable
from app.runtime.stretches import EXPRESS_TIMES, STRETCH_BYTES, Lot, stretches
from app.runtime.upgrade import Upgrades
from app.settings import TierName
from app.tiers import in_force
from app.topics import TopicError, sensor_topic
from app.transport.batch import PartitionBatch

if TYPE_CHECKING:
    from app.faust_app import ContinuumApp

MOST_HELD = 1 << 22
"""Values of blocks that wait for their sensors, beyond which no more input is taken."""

IDLE_LOOKS = 8
"""How often in `idle_after` idle sensors are looked for."""


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
    """

    def __init__(self, app: ContinuumApp, name: TierName, table: StateTable, **kwargs: Any) -> None:
        settings = app.settings
        self.app = app
        self.name = name
        self.topic = sensor_topic(settings, name)
        own = in_force(settings, name)
        self._turn = app.turns.of(name, own.at_once * (EXPRESS_TIMES if compiled.AVAILABLE else 1))
        #: Batches of each partition that have been taken up and are not done.
        self._in_work: Counter[int] = Counter()
        #: Partitions given up while batches are worked on: what is left of theirs is not ours any more.
        self._released: set[int] = set()
        self._idle_pause = own.idle_after / IDLE_LOOKS
        self.processor = Processor(name, app.pipelines)
        self._table = table
        ownership = Ownership(app.redis, settings.topic_prefix, name, settings.handoff_wait)
        claims = Claims(ownership)
        self.mirror = Mirror(ownership, on_refused=self._lose, resync=self._all_states)
        outbox = LingeringOutbox(app.batch_producer, own.linger) if own.linger else app.outbox
        self.emitter = Emitter(outbox, settings, name)
        self.checkpoints = Checkpointer(
            self.processor,
            table,
            self.mirror,
            claims,
            lambda: app.consumer_generation_id,
            self._confirm,
            own,
        )
        self.arrivals = Arrivals(
            name, self.processor, claims, table.read, self.emitter, self.checkpoints.after_run, settings.handoff_wait
        )
        self._resolver = Resolver(
            own.pipeline,
            app.pipelines,
            app.sensors_table.metas,
            self.processor.residents,
            self.arrivals.waiting,
            claims,
            table.read,
            app.definitions.name_of,
        )
        self.arrivals.set_pipeline = self._resolver.set_pipeline
        self._lanes = Lanes(name, self.topic, self.processor, self.arrivals, self._resolver, self.emitter, own.at_once)
        self._departures = Departures(
            name,
            self.processor,
            self.arrivals,
            self.checkpoints,
            claims,
            lambda partition: app.batches.lag(TP(self.topic, partition)) + self._in_work[partition],
            settings.handoff_wait,
            own,
        )
        self._in_hand = asyncio.Lock()
        self._upgrades = Upgrades(settings, app.pipelines, self.arrivals, app.definitions, self._in_hand)
        super().__init__(**kwargs)
        app.tiers[name] = self

    def refuse_express(self, sensor_ids: Iterable[str]) -> None:
        """Note that something has been set of sensors, which the ordinary way has to look at."""
        if self.processor.express is not None:
            self.processor.express.refuse(sensor_ids)

    def check_assigned(self, active: Iterable[TP]) -> None:
        """Refuse partitions whose blocks and states are not assigned together, or that were not there at the start.

        Parameters
        ----------
        active
            All that this worker owns now.

        Raises
        ------
        TopicError
            Somebody has raised a topic's partitions beneath the workers.
        """
        states = self._table.changelog_topic_name
        by_topic: dict[str, set[int]] = {self.topic: set(), states: set()}
        for tp in active:
            by_topic.get(tp.topic, set()).add(tp.partition)
        count = self.app.partitions[self.topic]
        if by_topic[self.topic] != by_topic[states] or any(number >= count for number in by_topic[self.topic]):
            raise TopicError(
                f"the partitions of {self.topic} or {states} were raised while workers ran, from {count}: a sensor's"
                " state would not be where its blocks are. Stop all workers of the tier, and run `continuum topics"
                f" repartition --tier {self.name} --partitions N` with the count that the topic has now"
            )

    async def consume(self, stream: StreamT[Any]) -> None:
        """Consume a stream of partition batches, for ever.

        Acks are ours to give (`noack`): Faust would ack a batch when the loop moves on, whatever became of it.
        Whatever is raised here ends the worker, with the batch neither acked nor committed.
        """
        own = cast("Stream[Any]", cast("Stream[Any]", stream).noack())
        async for event in own.events():
            await self.process([event, *_queued(own, STRETCH_BYTES - _size(event))])

    async def process(self, events: Sequence[EventT[Any]]) -> None:
        """Process batches: change state, send features and dead letters."""
        await self.app.sensors_table.caught_up.wait()
        while self.arrivals.held_samples > MOST_HELD and not self.should_stop:
            await self.sleep(POLL_SECONDS)
        async with self._in_hand:
            started = time.perf_counter()
            lots = [lot for event in events if (lot := self._accepted(event)) is not None]
            if not lots:
                return
            self._released.clear()
            with self._turn.at_work():
                for stretch in stretches(lots, lambda: self._turn.at_once):
                    await self._turn.come()
                    ours = [lot for lot in stretch if lot.partition not in self._released]
                    with self._turn.slice(sum(len(lot.records) for lot in ours)):
                        await self._lanes.process(ours)
            for lot in lots:
                lot.pending.held -= 1
                self._in_work[lot.partition] -= 1
            metrics.BATCH_SECONDS.labels(self.name).observe(time.perf_counter() - started)
            metrics.SENSORS.labels(self.name).set(self.processor.sensor_count)

    def _accepted(self, event: EventT[Any]) -> Lot | None:
        """Take a batch up, unless it is void."""
        message = event.message
        if not self.app.batches.accepts(message):
            return None
        batch: PartitionBatch = cast("Any", message.value)
        # The event is held until it is committed; its records need not be.
        message.value = event.value = None
        lot = Lot(Pending(event), message.partition, batch.records)
        self.checkpoints.add(message.partition, lot.pending)
        self._in_work[lot.partition] += 1
        return lot

    async def _confirm(self, generation: int) -> bool:
        return await self.app.batches.confirm(generation)

    def _lose(self, refused: list[Saved]) -> None:
        self._departures.lose(refused)

    def _all_states(self) -> Iterator[Saved]:
        """States of all sensors of our partitions, as the table has them, for a Redis that has lost its own."""
        pipelines = {pipeline.fingerprint: pipeline for pipeline in self.app.pipelines.values()}
        for tp in sorted(self.app.batches.assignment()):
            if tp.topic == self.topic:
                # All of a partition at once: it may be given away while Redis takes them bit by bit.
                for key, snapshot in self._table.snapshots(tp.partition):
                    state = saved_from(key.decode(), snapshot, pipelines)
                    if state is not None:
                        yield state

    async def settle(self) -> None:
        """Finish the batch in hand and checkpoint everything."""
        async with self._in_hand:
            await self.checkpoints.checkpoint_all()

    def release(self, revoked: set[TP]) -> None:
        """Forget the partitions of ours among those revoked; their state has been saved, or will be computed again."""
        partitions = {tp.partition for tp in revoked if tp.topic == self.topic}
        self._released |= partitions
        self.checkpoints.release(partitions)
        self.arrivals.release(partitions)
        self.processor.release(partitions)

    @Service.task
    async def _checkpoint(self) -> None:
        await self.checkpoints.run()

    @Service.task
    async def _mirror(self) -> None:
        await self.mirror.run()

    @Service.task
    async def _meet_others(self) -> None:
        while not self.should_stop:
            await self.arrivals.resolve(self._in_hand)
            await self._departures.give_what_is_wanted()
            await self._departures.drop_what_is_lost()
            metrics.HELD.labels(self.name).set(len(self.arrivals.waiting))
            await self.sleep(POLL_SECONDS)

    @Service.task
    async def _upgrade(self) -> None:
        await self._upgrades.run()

    @Service.task
    async def _evict_idle(self) -> None:
        while not self.should_stop:
            await self.sleep(self._idle_pause)
            await self._departures.evict_idle()


def _size(event: EventT[Any]) -> int:
    batch: PartitionBatch = cast("Any", event.message.value)
    return batch.size


def _queued(stream: Stream[Any], most: int) -> Iterator[EventT[Any]]:
    """Take what waits in a stream's queue already, up to so many bytes: partitions worked on together cost less."""
    queue = cast("Any", stream.channel).queue
    while most > 0 and not queue.empty():
        event = queue.get_nowait()
        most -= _size(event)
        yield event
