"""The poller: reads one tier's topic and lets the function process it, as a Lambda event source mapping does.

Records are gathered into batches, of several partitions where these have some; a partition is in one batch at a time,
so its order is kept. Offsets are committed once the function has processed them, never before. What failed is sent
again, for ever, after pauses that grow. A batch that ran out of time or killed its process is halved: it may have been
too large. An error that the handler itself reports is one of Redis or Kafka, which smaller batches do not help.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError

from app.kafka_client import client_options, started
from app.serverless.environment import Invocation
from app.serverless.event_source import Batch, Source, encode_event, event_bytes
from app.serverless.figures import Figures
from app.serverless.runtime_api import MAX_PAYLOAD
from app.settings import Settings, TierName
from app.topics import sensor_topic

POLL_MS = 200
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 10.0
"""Seconds between a failure and the next try; they double, and differ at random by up to a tenth."""

TOO_LARGE = {"Sandbox.Timedout", "Runtime.ExitError"}
"""Errors that a smaller batch may not have."""

#: Left for what an event says beside its records.
_LARGEST_EVENT = MAX_PAYLOAD - (64 << 10)

Invoke = Callable[[bytes], Awaitable[Invocation]]


class _Span(NamedTuple):
    """Offsets of a partition that are in flight: the first that is not processed, and the one after the last."""

    first: int
    end: int


@dataclass(frozen=True)
class Batching:
    """How records become events, in the words of Lambda's event source mappings.

    Parameters
    ----------
    size
        Most records of a batch.
    window
        Longest wait for a batch to fill, from its first record, s.
    concurrency
        Most batches in flight.
    source
        Whose events are made.
    """

    size: int = 100
    window: float = 0.5
    concurrency: int = 4
    source: Source = "self-managed"


class Poller(ConsumerRebalanceListener):  # type: ignore[misc]
    """Reads one tier's topic, as one of the consumers of the function's group.

    Parameters
    ----------
    settings
        Of the function.
    tier
        Whose topic.
    invoke
        Lets the function process an event.
    batching
        How records become events.
    """

    def __init__(self, settings: Settings, tier: TierName, invoke: Invoke, batching: Batching) -> None:
        self.figures = Figures()
        self._settings = settings
        self._topic = sensor_topic(settings, tier)
        self._invoke = invoke
        self._batching = batching
        self._consumer = AIOKafkaConsumer(
            **client_options(settings),
            group_id=settings.function_group(tier),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=round(settings.session_timeout * 1000),
            heartbeat_interval_ms=round(settings.session_timeout * 1000 / 3),
            rebalance_timeout_ms=round(settings.rebalance_timeout * 1000),
        )
        self._waiting: dict[TopicPartition, list[ConsumerRecord]] = {}
        self._since: dict[TopicPartition, float] = {}
        self._in_flight: dict[TopicPartition, _Span] = {}
        self._deliveries: set[asyncio.Task[bool]] = set()
        self._wake = asyncio.Event()
        self._giving_up = asyncio.Event()
        """What fails now is not sent again: the partitions go to others, or we stop."""
        self._stopped = asyncio.Event()

    async def run(self) -> None:
        """Poll until told to stop; then finish and commit what is in flight.

        Raises
        ------
        BrokerError
            None of the brokers answers.
        """
        async with started(self._consumer, self._settings):
            self._consumer.subscribe([self._topic], listener=self)
            async with asyncio.TaskGroup() as group:
                fetching = group.create_task(self._fetch())
                await self._dispatch(group)
                fetching.cancel()

    def stop(self) -> None:
        """Begin no more batches."""
        self._stopped.set()
        self._giving_up.set()
        self._wake.set()

    @property
    def partitions(self) -> list[int]:
        """Numbers of the partitions that are ours now."""
        return sorted(tp.partition for tp in self._consumer.assignment())

    @property
    def lag(self) -> int:
        """Records of our partitions that are not processed yet."""
        total = 0
        for tp in self._consumer.assignment():
            span, waiting, end = self._in_flight.get(tp), self._waiting.get(tp), self._consumer.highwater(tp)
            first = span.first if span else waiting[0].offset if waiting else None
            total += end - first if first is not None and end is not None else 0
        return total

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:  # noqa: ARG002
        """Let what is in flight end and be committed; what takes too long is ended, and others read it again."""
        self._giving_up.set()
        await self._end_deliveries(self._settings.rebalance_timeout / 2)
        for own in (self._waiting, self._since, self._in_flight):
            own.clear()

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:  # noqa: ARG002
        """Begin at what is committed."""
        if not self._stopped.is_set():
            self._giving_up.clear()
            self._wake.set()

    async def _fetch(self) -> None:
        size = self._batching.size
        while True:
            # Those that have a batch waiting are paused, so this never comes to hold more than two of them.
            for tp, records in (await self._consumer.getmany(timeout_ms=POLL_MS, max_records=size)).items():
                self._since.setdefault(tp, time.monotonic())
                waiting = self._waiting.setdefault(tp, [])
                waiting += records
                if len(waiting) >= size and tp in self._consumer.assignment():
                    self._consumer.pause(tp)
                self._wake.set()

    async def _dispatch(self, group: asyncio.TaskGroup) -> None:
        while not self._stopped.is_set():
            self._wake.clear()
            due = self._due()
            if due is None or due > 0:
                with suppress(TimeoutError):
                    async with asyncio.timeout(due):
                        await self._wake.wait()
                continue
            batch = self._take(self._ready())
            delivery = group.create_task(self._deliver(batch))
            self._deliveries.add(delivery)
            delivery.add_done_callback(self._delivered)
        # No callback of ours may be left waiting for a partition that others want meanwhile.
        await self._end_deliveries(self._settings.shutdown_seconds)

    async def _end_deliveries(self, seconds: float) -> None:
        """Let what is in flight end and be committed; what takes longer is ended, and comes again."""
        if not self._deliveries:
            return
        _, late = await asyncio.wait(self._deliveries, timeout=seconds)
        for delivery in late:
            delivery.cancel()
        if late:
            await asyncio.wait(late)

    def _delivered(self, delivery: asyncio.Task[bool]) -> None:
        self._deliveries.discard(delivery)
        self._wake.set()

    def _ready(self) -> list[TopicPartition]:
        """Partitions that have records waiting and none in flight, those first whose records wait longest."""
        ready = [tp for tp, records in self._waiting.items() if records and tp not in self._in_flight]
        return sorted(ready, key=self._since.__getitem__)

    def _due(self) -> float | None:
        """Seconds until the next batch may go, from now; None while there is nothing for one."""
        ready = self._ready()
        if not ready or self._giving_up.is_set() or len(self._deliveries) >= self._batching.concurrency:
            return None
        if sum(len(self._waiting[tp]) for tp in ready) >= self._batching.size:
            return 0.0
        if sum(map(event_bytes, self._of(ready))) >= _LARGEST_EVENT:
            return 0.0
        return self._since[ready[0]] + self._batching.window - time.monotonic()

    def _of(self, partitions: Iterable[TopicPartition]) -> Iterable[ConsumerRecord]:
        return (record for tp in partitions for record in self._waiting[tp])

    def _take(self, ready: Iterable[TopicPartition]) -> Batch:
        """Take the next batch's records from those that wait: at least one, up to what an event may hold."""
        taken: dict[TopicPartition, list[ConsumerRecord]] = {}
        left, room = self._batching.size, _LARGEST_EVENT
        for tp in ready:
            waiting, count = self._waiting[tp], 0
            while count < min(left, len(waiting)) and (event_bytes(waiting[count]) <= room or not (taken or count)):
                room -= event_bytes(waiting[count])
                count += 1
            if not count:
                break
            left -= count
            taken[tp], self._waiting[tp] = waiting[:count], waiting[count:]
            self._in_flight[tp] = _Span(taken[tp][0].offset, taken[tp][-1].offset + 1)
            if not self._waiting[tp]:
                del self._waiting[tp], self._since[tp]
            if len(self._waiting.get(tp, ())) < self._batching.size and tp in self._consumer.assignment():
                self._consumer.resume(tp)
        return Batch(taken)

    async def _deliver(self, batch: Batch) -> bool:
        """Send a batch until all of it is processed, and tell whether it is."""
        failed = 0
        while not self._giving_up.is_set():
            invocation = await self._invoke(
                encode_event(batch.records, self._settings.kafka_bootstrap or "", self._batching.source)
            )
            done, left = Batch({}), batch
            if invocation.response is not None:
                done, left = batch.after(invocation.response)
            self.figures.add(invocation, done=len(done), left=len(left))
            if len(done) and not await self._commit(done.next_offsets()):
                return False
            if not len(left):
                return True
            if len(left) > 1 and _too_large(invocation):
                return await self._deliver_halves(left)
            failed = 1 if len(done) else failed + 1
            await self._pause_after(failed)
            batch = left
        return False

    async def _deliver_halves(self, batch: Batch) -> bool:
        first, second = batch.split()
        if len(batch.records) == 1:
            return await self._deliver(first) and await self._deliver(second)
        async with asyncio.TaskGroup() as group:  # of different partitions: neither waits for the other
            halves = [group.create_task(self._deliver(half)) for half in (first, second)]
        return all(half.result() for half in halves)

    async def _commit(self, offsets: dict[TopicPartition, int]) -> bool:
        """Commit what is processed, and tell whether it was still ours to commit."""
        try:
            await self._consumer.commit(offsets)
        except (CommitFailedError, IllegalStateError):  # the group has given the partitions away meanwhile
            return False
        for tp, offset in offsets.items():
            span = self._in_flight.pop(tp, None)
            if span is not None and offset < span.end:
                self._in_flight[tp] = span._replace(first=offset)
        return True

    async def _pause_after(self, failures: int) -> None:
        pause = min(FIRST_PAUSE * 2 ** min(failures - 1, 16), LONGEST_PAUSE)
        with suppress(TimeoutError):
            async with asyncio.timeout(pause * random.uniform(0.9, 1.1)):  # noqa: S311 - so that tries do not coincide
                await self._giving_up.wait()


def _too_large(invocation: Invocation) -> bool:
    """Whether fewer records may fare better; not where the environment did not even come up."""
    error = invocation.error
    return error is not None and error.error_type in TOO_LARGE and bool(invocation.request_id)
