"""The faults of stock Faust 0.15 that lose, repeat or reorder messages, each shown on stock Faust and mended in ours.

Both sides run the same scenario on their own real classes. The eighth, a consumer that stalls for good, needs real
processes: `test_watchdog.py`. What a worker does that was paused past its session (the seventh) is also shown with
real processes, in `test_fencing.py`.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiokafka.errors import KafkaTimeoutError
from aiokafka.protocol.group import SyncGroupRequest
from faust.types import TP

from app.runtime.outbox import SentBatch
from app.runtime.state_table import StateTable
from app.runtime.tier import Tier
from app.transport.lease import now
from tests.sides import KINDS, PARTITION, Side, make_side, record

both = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture
async def side(kind: str, tmp_path: Path) -> Side:
    return make_side(kind, tmp_path)


@both
async def test_mend_1_what_is_acked_is_committed_before_partitions_are_handed_over(kind: str, side: Side) -> None:
    """Stock forgets first what was acked: the new owner reads it again."""
    for message in await side.deliver([0, 1, 2, 3, 4]):
        side.consumer.ack(message)
    if kind == "ours":
        side.consumer.lease.begin(1, now())
    await side.consumer.on_partitions_revoked({PARTITION})
    assert side.committed == ({} if kind == "stock" else {PARTITION: 5})


class FlowingPartition:
    """A consumer as recovery sees it: while its partition is resumed, it fills the stream's queue at any moment."""

    def __init__(self, app: Any, tp: TP) -> None:
        self.tp = tp
        self.queue = app.FlowControlQueue(maxsize=100, clear_on_resume=True)
        self.end, self.position, self.resumed = 3, 0, False
        app._consumer = self
        app._fetcher = SimpleNamespace(maybe_start=lambda: asyncio.sleep(0))

    def assignment(self) -> set[TP]:
        return {self.tp}

    def fetch(self) -> None:
        while self.resumed and self.position < self.end:
            self.queue.put_nowait(self.position)
            self.position += 1

    def queued(self) -> list[int]:
        return [self.queue.get_nowait() for _ in range(self.queue.qsize())]

    def pause_partitions(self, tps: set[TP]) -> None:
        self.resumed = self.resumed and self.tp not in tps

    def resume_partitions(self, tps: set[TP]) -> None:
        self.resumed = self.resumed or self.tp in tps

    async def perform_seek(self) -> None:
        if self.tp == PARTITION:
            self.position = 0
        self.fetch()

    async def seek_wait(self, positions: dict[TP, int]) -> None:
        self.position = positions[self.tp]

    def stop_flow(self) -> None:
        """It is stopped while its partition is."""

    def resume_flow(self) -> None:
        self.fetch()


@both
@pytest.mark.parametrize("path", ["on_recovery_completed", "_resume_streams"])
async def test_mend_2_nothing_vanishes_between_recovery_and_the_first_message(kind: str, side: Side, path: str) -> None:
    """Stock resumes partitions, then seeks, then clears the streams' queues of what has come in between."""
    consumer = FlowingPartition(side.app, PARTITION)
    await getattr(side.app.tables.recovery, path)(generation_id=1)
    consumer.fetch()
    assert consumer.queued() == ([] if kind == "stock" else [0, 1, 2])


@both
async def test_mend_2_nothing_vanishes_from_what_a_standby_has_to_apply(kind: str, side: Side) -> None:
    """Stock lets standbys flow, and then clears their queue with the others: their disk never gets that."""
    changelog = TP("state-changelog", 0)
    side.app.tables._changelogs[changelog.topic] = SimpleNamespace()
    consumer, recovery = FlowingPartition(side.app, changelog), side.app.tables.recovery
    recovery.standby_tps.add(changelog)
    recovery.standby_offsets[changelog] = -1  # nothing has been applied
    consumer.resume_partitions({changelog})
    consumer.fetch()
    await recovery.on_recovery_completed(generation_id=1)
    consumer.end += 1
    consumer.fetch()
    assert consumer.queued() == ([3] if kind == "stock" else [0, 1, 2, 3])


@both
async def test_mend_3_a_commit_does_not_pass_a_first_message_that_is_not_done(kind: str, side: Side) -> None:
    for message in (await side.deliver(*([offset] for offset in range(10))))[1:]:
        side.consumer.ack(message)
    await side.consumer.commit()
    assert side.committed == ({PARTITION: 10} if kind == "stock" else {})


@both
async def test_mend_3_a_message_behind_a_gap_is_not_part_of_the_gap(kind: str, side: Side) -> None:
    """Stock takes gaps in the offsets for acked, and counts the message that ends one as part of it."""
    first, behind_gap, last = await side.deliver([1], [6], [7])
    side.consumer.ack(first)
    side.consumer.ack(last)
    await side.consumer.commit()
    assert not behind_gap.acked
    assert side.committed == {PARTITION: 8 if kind == "stock" else 2}


@both
async def test_mend_4_partitions_that_are_paused_during_a_fetch_are_not_drained(kind: str, side: Side) -> None:
    """Stock gives aiokafka its own set, which others empty; an empty one stands for all partitions there."""
    position = 0

    async def fetch(active_partitions: set[TP], **_: Any) -> dict[TP, list[Any]]:
        nonlocal position
        side.consumer.pause_partitions({PARTITION})
        if active_partitions and PARTITION not in active_partitions:  # as in aiokafka's `fetched_records`
            return {}
        position = 3
        return {PARTITION: [record(0), record(1), record(2)]}

    await side.drain(fetch, rounds=1)
    assert position == 3
    assert side.offsets == ([] if kind == "stock" else [0, 1, 2])


@both
async def test_mend_4_what_was_fetched_before_a_seek_is_not_delivered_after_it(kind: str, side: Side) -> None:
    """Stock delivers it, and then drops the earlier messages that the seek was for, as it is past them."""
    position, fetching, seeking = 3, asyncio.Event(), asyncio.Event()

    async def fetch(**_: Any) -> dict[TP, list[Any]]:
        nonlocal position
        records = [record(offset) for offset in range(position, 5)]
        position = 5
        fetching.set()
        await seeking.wait()
        return {PARTITION: records}

    async def seek_to_committed() -> dict[TP, int]:
        nonlocal position
        position = 1
        return {PARTITION: 1}

    side.consumer.seek_to_committed = seek_to_committed
    draining = asyncio.create_task(side.drain(fetch, rounds=2))
    await fetching.wait()
    seek = asyncio.create_task(side.consumer.perform_seek())
    await asyncio.sleep(0.01)
    seeking.set()
    await asyncio.gather(seek, draining)
    assert side.offsets == ([3, 4, 4] if kind == "stock" else [1, 2, 3, 4])


@both
async def test_mend_5_a_message_whose_processing_fails_is_not_acked(kind: str, side: Side) -> None:
    """Stock acks it, commits past it, and starts the agent again behind it."""
    (message,) = await side.deliver([0])
    side.app.flow_control.resume()
    channel = side.app.channel()
    stream = side.app.stream(channel)
    await stream.channel.put(side.app.create_event(None, message.value, {}, message))

    async def fail(event: Any) -> None:
        raise ValueError("unforeseen")

    async def stock_agent() -> None:
        async for event in stream.events():
            await fail(event)

    async def our_agent() -> None:
        await Tier.consume(cast("Any", SimpleNamespace(process=fail)), stream)

    agent = asyncio.create_task(stock_agent() if kind == "stock" else our_agent())
    await asyncio.wait([agent])
    assert isinstance(agent.exception(), ValueError)
    del agent
    gc.collect()  # the agent's loop over its stream ends with it
    await asyncio.sleep(0.01)
    await side.consumer.commit()
    assert side.committed == ({PARTITION: 1} if kind == "stock" else {})
    supervisor = side.app.conf.agent_supervisor.__name__
    assert supervisor == ("OneForOneSupervisor" if kind == "stock" else "CrashingSupervisor")


def started_producer(producer: Any) -> Callable[[], Awaitable[Any]]:
    async def give() -> Any:
        return producer

    return give


@both
async def test_mend_6_input_is_not_committed_whose_state_the_changelog_does_not_have(kind: str, side: Side) -> None:
    """Stock sends changelog records in the background, and only logs those that fail."""
    failed = asyncio.get_running_loop().create_future()
    failed.set_exception(KafkaTimeoutError())

    async def send(*_: Any, **__: Any) -> Any:
        return failed if kind == "stock" else [SentBatch(failed, 1)]

    (message,) = await side.deliver([0])
    if kind == "stock":
        side.app.producer.send = send
        side.app.maybe_start_producer = started_producer(side.app.producer)
        changelog: Any = side.app.topic("state-changelog", value_type=bytes)
        await changelog.send(key=b"sensor", value=b"snapshot")
        side.consumer.ack(message)
    else:
        side.app.outbox = SimpleNamespace(send_to=send)
        with pytest.raises(KafkaTimeoutError):
            await StateTable.for_tier(side.app, "rt").write(0, {b"sensor": b"snapshot"})
    await side.consumer.commit()
    assert side.committed == ({PARTITION: 1} if kind == "stock" else {})


@both
async def test_mend_7_a_worker_that_lost_its_partitions_knows_it_before_it_writes(kind: str, side: Side) -> None:
    """Stock has nothing to ask: whoever wakes from a pause writes as before."""
    coordinator = SimpleNamespace(generation=1, reset_generation=lambda: None, _send_req=answered)
    if kind == "ours":
        side.consumer.lease.follow(coordinator)
    await coordinator._send_req(SyncGroupRequest("group", 1, "member", "instance", []))
    written = []
    write: Callable[[str], None] = written.append
    for moment in ("as the owner", "after the loss"):
        if kind == "stock" or await side.consumer.confirm(side.app.consumer_generation_id):
            write(moment)
        coordinator.reset_generation()  # what aiokafka does when the group says that it goes on without us
    assert written == (["as the owner", "after the loss"] if kind == "stock" else ["as the owner"])


async def answered(_: Any) -> Any:
    return SimpleNamespace(error_code=0)
