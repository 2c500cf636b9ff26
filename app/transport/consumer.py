"""The consumer: partition batches, exact commit points, and no message lost or repeated at a rebalance."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage, Message
from mode.utils.futures import notify

from app import compiled
from app.topics import TopicError
from app.transport import reading
from app.transport.batch import PartitionBatch
from app.transport.deliveries import Deliveries
from app.transport.interest import Interest
from app.transport.lease import Lease
from app.transport.queued import Queued, size_of

if TYPE_CHECKING:
    from app.faust_app import ContinuumApp
    from app.transport.recovery import TableManager

EMPTY_FETCH_PAUSE = 0.05
"""Seconds between looks at the active partitions while there are none."""

LONGEST_FETCH = 0.25
"""Seconds that a fetch waits for records; a seek has to wait for it."""

FULL_FETCH = 0.01
"""The same while a topic of which enough waits is left out: it is taken up soon after there is room again."""

RESPONSE_BYTES = 8 << 20
"""Of one response; while its batches wait they hold all of it, and larger ones cost more for each byte."""

RESPONSE_MILLISECONDS = 100
"""How long a broker may wait for records: a partition that is used up meanwhile is asked for only after that."""

LAST_COMMIT_SECONDS = 1.0
"""What a worker that stops waits for brokers that have not answered it before."""


LEASE_PAUSE = 0.05
"""Seconds between looks at a lease that has run out and may be prolonged or lost."""


class _Moment(NamedTuple):
    """When a fetch began: after how many seeks, in which generation of the group."""

    seeks: int
    generation: int


class OutOfOrderError(Exception):
    """A partition's batch did not follow the one before it; going on would lose messages."""


class ConsumerThread(driver.AIOKafkaConsumerThread):
    """The thread that runs aiokafka's consumer."""

    consumer: Consumer

    async def on_start(self) -> None:
        """Follow what the group answers from the first request on, and what is fetched."""
        reading.install()
        await super().on_start()
        consumer = self._ensure_consumer()
        fetcher = consumer._fetcher  # noqa: SLF001 - Faust sets neither, and the first fetch is yet to come
        fetcher._fetch_max_bytes, fetcher._fetch_max_wait_ms = RESPONSE_BYTES, RESPONSE_MILLISECONDS  # noqa: SLF001
        self.consumer.lease.follow(consumer._coordinator)  # noqa: SLF001 - aiokafka offers no hook
        if compiled.AVAILABLE:
            from app.transport import raw_fetch  # noqa: PLC0415 - it needs numba

            raw_fetch.follow(fetcher, self.app.topics.acks_enabled_for)
        self._interest = Interest(fetcher)

    async def _fetch_records(self, consumer: Any, active_partitions: set[TP], *args: Any, **options: Any) -> Any:
        self._interest.wants(active_partitions)
        return await super()._fetch_records(consumer, active_partitions, *args, **options)

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Seek the partitions of agents' topics to where their group's commit stands, else to their beginning.

        Faust asks for one partition after another, and leaves those without a commit where they are, although
        some of their records may have been fetched and dropped.
        """
        positions: Mapping[TP, int] = await self.call_thread(self._seek_to_committed)
        return positions

    async def _seek_to_committed(self) -> Mapping[TP, int]:
        consumer = self._ensure_consumer()
        acks = self.app.topics.acks_enabled_for
        tps = [tp for tp in consumer.assignment() if acks(tp.topic)]
        if not tps:
            return {}
        committed = await consumer._coordinator.fetch_committed_offsets(tps)  # noqa: SLF001 - one request for all
        positions = {tp: committed[tp].offset for tp in tps if tp in committed}
        fresh = [tp for tp in tps if tp not in positions]
        if fresh:
            positions |= await consumer.beginning_offsets(fresh)
        for tp, offset in positions.items():
            consumer.seek(tp, offset)
        return {TP(tp.topic, tp.partition): offset for tp, offset in positions.items()}

    async def on_thread_stop(self) -> None:
        """Leave the group when stopping.

        A static member does not leave by itself, so that a restart keeps its partitions; but a worker that has
        checkpointed everything has nothing to come back to, and nobody should wait for its session to expire.
        """
        if self._consumer is not None:
            self._consumer._coordinator._group_instance_id = None  # noqa: SLF001 - aiokafka leaves, if not static
        await super().on_thread_stop()


class Consumer(driver.Consumer):
    """Consumer whose agents' topics come as partition batches, as do the changelogs.

    Where Faust makes an event of each record, here each fetched partition batch is one event, with the list of its
    records as value and the last record's offset as its own. Those of changelogs go straight to the tables.
    """

    app: ContinuumApp

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.deliveries = Deliveries()
        self.queued = Queued()
        #: Fetches and deliveries of an older count are void: their records will be read again.
        self._seeks = 0
        self._delivered: defaultdict[TP, int] = defaultdict(int)
        self._accepted: defaultdict[TP, int] = defaultdict(int)
        self._position: dict[TP, int] = {}
        self._fetching = asyncio.Lock()
        super().__init__(*args, **kwargs)
        self.lease = Lease(self.app.settings.session_timeout)

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    # -- fetching

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Message]]:
        """Fetch, and give one message for each partition batch of an agent's topic.

        Faust drops what it has fetched of a partition that was paused meanwhile, and seeks in the middle of a
        rebalance. Here a fetch is delivered whole or, once the flow stopped or a seek came between, not at all; a
        seek precedes every start of the flow.
        """
        records, fetched_at = await self._wait_next_records(timeout)
        for tp, batch in records.items():
            is_agents = self.app.topics.acks_enabled_for(tp.topic)
            self.app.monitor.track_tp_end_offset(tp, self.highwater(tp))
            for record in [batch] if is_agents or self._is_changelog_tp(tp) else batch:
                if not self.flow_active or fetched_at != self._moment():
                    return
                if self._is_changelog_tp(tp):
                    cast("TableManager", self.app.tables).recovery.apply(tp, record)
                    await asyncio.sleep(0)
                else:
                    yield tp, self._as_batch(tp, record) if is_agents else self._to_message(tp, record)

    def _moment(self) -> _Moment:
        return _Moment(self._seeks, self.app.consumer_generation_id)

    def _as_batch(self, tp: TP, records: list[Any]) -> ConsumerMessage:
        last = records[-1]
        number = self._delivered[tp] = self._delivered[tp] + 1
        message: ConsumerMessage = self._to_message(tp, last)
        message.key = None
        batch = PartitionBatch(records, self._seeks, number, size_of(records))
        message.value = batch  # type: ignore[assignment]
        self.queued.add(tp.topic, batch.size)
        self.deliveries.add(message)
        return message

    async def _wait_next_records(self, timeout: float) -> tuple[Any, Any]:
        """Fetch from the active partitions, and give the records with the moment the fetch began.

        aiokafka takes an empty set of partitions for all of them, and Faust passes a set that others change while
        the fetch waits; so it gets a copy, and never an empty one. No fetch spans a seek: it would take records
        from behind the new position, which would then be dropped as those of an older fetch, and lost.
        """
        if not self.flow_active:
            await self.wait(self.can_resume_flow)  # type: ignore[arg-type]
        async with self._fetching:
            began = self._moment()
            active = self._get_active_partitions()
            wanted = {tp for tp in active if self.queued.has_room(tp.topic)}
            if wanted:
                longest = LONGEST_FETCH if len(wanted) == len(active) else FULL_FETCH
                return await self._getmany(active_partitions=wanted, timeout=min(timeout, longest)), began
        await self.sleep(FULL_FETCH if active else EMPTY_FETCH_PAUSE)
        return {}, began

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Ignore gaps between offsets: the commit point comes from what was delivered."""

    # -- seeking

    async def perform_seek(self) -> None:
        """Seek to the committed offsets; what was fetched or delivered before is void."""
        async with self._fetching:
            self._void()
            positions = await self.seek_to_committed()
            self._read_offset.clear()
            self._committed_offset.update(positions)
            self._position = dict(positions)

    def refuse(self) -> None:
        """Accept nothing more of what has been fetched so far: it will be read again after the next seek."""
        self._seeks += 1

    def _void(self) -> None:
        self.refuse()
        self._delivered.clear()
        self._accepted.clear()
        self.queued.forget()
        self.deliveries.forget(self.deliveries.partitions())

    def accepts(self, message: Message) -> bool:
        """Whether a delivered batch is to be processed now: all state changes lie behind this gate.

        Raises
        ------
        OutOfOrderError
            A batch between this one and the last of its partition was never processed.
        """
        batch: PartitionBatch = cast("Any", message.value)
        if batch.seeks != self._seeks:
            return False
        expected = self._accepted[message.tp] + 1
        if batch.number != expected:
            raise OutOfOrderError(
                f"batch {batch.number} of {message.tp} up to offset {message.offset}: expected batch {expected};"
                " the worker stops, and goes on from its commit when started again"
            )
        self._accepted[message.tp] = expected
        self.queued.take(message.topic, batch.size)
        self._position[message.tp] = message.offset + 1
        return True

    def lag(self, tp: TP) -> int:
        """Messages appended to a partition, as far as the broker has told, and not accepted for processing yet."""
        position, highwater = self._position.get(tp), self.highwater(tp)
        return 0 if position is None or highwater is None else max(0, highwater - position)

    # -- acks and commits

    def ack(self, message: Message) -> bool:
        """Mark a message as done."""
        if message.acked:
            return False
        message.acked = True
        self._unacked_messages.discard(message)
        notify(self._waiting_for_ack)
        return True

    async def commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:
        """Commit all that is acked now; Faust returns without doing so where another commit was under way."""
        await self.maybe_wait_for_commit_to_finish()
        return await super().commit(topics, start_new_transaction)

    async def maybe_wait_for_commit_to_finish(self) -> bool:
        """Wait for a commit that is under way; says whether one was, and ended.

        Faust takes the cancellation of who waits for that of the commit, cancels that too, and starts another: so
        a deadline around it never came to pass where the brokers do not answer.
        """
        under_way = self._commit_fut
        if under_way is None:
            return False
        await asyncio.wait([under_way])
        return not under_way.cancelled()

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        return (tp for tp in self.deliveries.partitions() if topics is None or tp in topics or tp.topic in topics)

    def _new_offset(self, tp: TP) -> int | None:
        return self.deliveries.commit_point(tp)

    async def _commit_offsets(self, offsets: Mapping[TP, int], start_new_transaction: bool = True) -> bool:  # noqa: ARG002 - Faust's signature
        """Commit, and note only what the broker has taken; Faust notes it even if the commit failed."""
        assignment = self.assignment()
        committable = {tp: offset for tp, offset in offsets.items() if tp in assignment}
        if not committable or not await self._commit(committable):
            return False
        for tp, offset in committable.items():
            self.deliveries.committed(tp, offset)
        self._committed_offset.update(committable)
        self.app.monitor.on_tp_commit(committable)
        return True

    async def wait_empty(self) -> None:
        """Commit what is acked, if the brokers answer soon.

        Faust waits here until every message is acked, for ever if one never is; the application has settled
        before (`ContinuumApp.settle`), within its deadline. Without an answer, it will be read again.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_COMMIT_SECONDS):
                await self.commit()

    # -- rebalancing

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Take partitions over, if what was checked before the start still holds of them."""
        try:
            for tier in self.app.tiers.values():
                tier.check_assigned(self.app.assignor.assigned_actives())
        except TopicError as error:
            await self.crash(error)
            return
        await super().on_partitions_assigned(assigned, generation_id)

    def may_write(self, generation: int) -> bool:
        """Whether this worker surely has the partitions of a generation, so that it may write their state.

        Parameters
        ----------
        generation
            Of the group when the work began.
        """
        return generation == self.app.consumer_generation_id and self.lease.valid(generation)

    async def confirm(self, generation: int) -> bool:
        """Do as `may_write`, and where that cannot be told for want of an answer from the group, wait for one.

        It is False once the partitions are lost or handed over: what was to be written must be dropped.
        """
        while not self.may_write(generation):
            if generation != self.app.consumer_generation_id or not self.lease.holds(generation):
                return False
            await asyncio.sleep(LEASE_PAUSE)
        return True

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Hand over: finish, checkpoint and commit before anything is forgotten.

        Faust forgets first what was acked, so that all since the last commit is read again by the new owner. Where
        the group has gone on without this worker, others own its partitions already: then all is dropped, as
        they read it again.
        """
        try:
            if self.lease.holds(self.app.consumer_generation_id):
                await self.app.settle(self.app.settings.rebalance_timeout * 0.8)
            else:
                self.app.halt()
                if revoked:
                    self.log.warning("The group went on without this worker: what it had not committed is dropped")
        except Exception as error:  # noqa: BLE001 - whatever it was, this worker must not go on
            await self.crash(error)
        self.lease.end()
        self.app.release(revoked)
        self._void()
        await super().on_partitions_revoked(revoked)
