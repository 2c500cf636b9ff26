"""A worker that was paused past its session wakes in the belief that its partitions are its own: it must not write."""

from __future__ import annotations

import asyncio
import signal
import time
from contextlib import suppress
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiokafka.protocol.group import HeartbeatRequest, SyncGroupRequest

from app.own_process import ProcessFailedError
from app.replay import plan_replay
from app.sources import builtin_ecg
from app.transport import lease as lease_module
from app.transport.consumer import Consumer
from app.transport.lease import Lease
from app.worker_process import WorkerProcess
from tests.changelogs import changelog_records, stale_records
from tests.replaying import replay, verifier_of
from tests.system import System

NO_ERROR, ILLEGAL_GENERATION, REBALANCE_IN_PROGRESS = 0, 22, 27


class Clock:
    """The clock of leases, in our hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(lease_module, "now", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


class Coordinator:
    """aiokafka's coordinator, as far as a lease follows it: its group answers when and what we say."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.generation = -1
        self.took = 0.0
        self.answer = NO_ERROR

    async def _send_req(self, request: Any) -> Any:
        self.clock.now += self.took
        return SimpleNamespace(error_code=self.answer)

    def reset_generation(self) -> None:
        self.generation = -1

    async def join(self, generation: int) -> None:
        self.generation = generation
        await self._send_req(SyncGroupRequest("group", generation, "member", "instance", []))

    async def heartbeat(self) -> None:
        await self._send_req(HeartbeatRequest("group", self.generation, "member"))


@pytest.fixture
def coordinator(clock: Clock) -> Coordinator:
    return Coordinator(clock)


@pytest.fixture
def lease(coordinator: Coordinator) -> Lease:
    lease = Lease(10.0)
    lease.follow(coordinator)
    return lease


async def test_a_lease_counts_from_the_moment_its_request_was_sent(
    lease: Lease, coordinator: Coordinator, clock: Clock
) -> None:
    """Not from that of the answer: the worker may have been paused in between."""
    assert not lease.valid(7)
    coordinator.took = 4.0
    await coordinator.join(7)
    assert lease.valid(7)
    assert not lease.valid(6)
    clock.now += 5.9
    assert lease.valid(7)
    clock.now += 0.1
    assert not lease.valid(7)
    assert lease.holds(7), "nobody has said that it is lost"
    await coordinator.heartbeat()
    assert lease.valid(7)
    clock.now += 6.0
    assert not lease.valid(7)


@pytest.mark.parametrize(("answer", "renews"), [(NO_ERROR, True), (REBALANCE_IN_PROGRESS, True), (15, False)])
async def test_only_an_answer_that_knows_us_renews(
    lease: Lease, coordinator: Coordinator, clock: Clock, answer: int, renews: bool
) -> None:
    await coordinator.join(7)
    clock.now += 9.0
    coordinator.answer = answer
    await coordinator.heartbeat()
    clock.now += 2.0
    assert lease.valid(7) is renews


async def test_a_lost_lease_comes_back_only_with_a_new_assignment(
    lease: Lease, coordinator: Coordinator, clock: Clock
) -> None:
    await coordinator.join(7)
    coordinator.reset_generation()
    assert not lease.holds(7)
    lease.renew(7, clock.now)  # a heartbeat that was on its way
    assert not lease.holds(7)
    await coordinator.join(9)
    assert lease.valid(9)
    lease.end()
    await coordinator.heartbeat()
    assert not lease.valid(9), "what has been handed over is not ours, even if the member lives"


class LeasedConsumer(Consumer):
    """The consumer's side of a lease, without a broker."""

    def __init__(self, lease: Lease, generation: int) -> None:
        self.lease = lease
        self.app = cast("Any", SimpleNamespace(consumer_generation_id=generation))


async def test_whoever_wants_to_write_waits_for_the_groups_word(
    lease: Lease, coordinator: Coordinator, clock: Clock
) -> None:
    await coordinator.join(7)
    consumer = LeasedConsumer(lease, 7)
    assert consumer.may_write(7)
    assert await consumer.confirm(7)
    assert not await consumer.confirm(6)
    clock.now += 11.0
    assert not consumer.may_write(7)
    waiting = [asyncio.create_task(consumer.confirm(7)) for _ in range(2)]
    await asyncio.sleep(0.1)
    assert not any(task.done() for task in waiting)
    await coordinator.heartbeat()
    assert await asyncio.gather(*waiting) == [True, True]
    clock.now += 11.0
    lost = asyncio.create_task(consumer.confirm(7))
    await asyncio.sleep(0)
    coordinator.reset_generation()
    assert not await lost


@pytest.mark.slow
async def test_a_worker_that_wakes_after_its_session_writes_nothing(system: System) -> None:
    system.settings = system.settings.model_copy(update={"session_timeout": 6.0})
    plan = plan_replay(builtin_ecg(), sensors=60, seconds=280)
    paused, other = await system.worker(), await system.worker()
    sending = asyncio.create_task(replay(system, plan, speed=6))
    await asyncio.sleep(3)
    before = await partitions(paused)
    assert before
    paused.signal(signal.SIGSTOP)
    await owns(other, 50)
    await asyncio.sleep(3)  # the new owner checkpoints every second
    paused.signal(signal.SIGCONT)
    with suppress(ProcessFailedError):
        await paused.ready()
    if paused.process.poll() is not None:
        assert paused.process.returncode == 1
        paused = await system.worker()
    await owns(other, 25)
    assert len(await partitions(paused)) == 25, "it works on"
    assert not sending.done()
    await sending
    verdict = await system.verify(verifier_of(plan))
    assert verdict.passed, verdict
    assert stale_records(await changelog_records(system)) == []
    assert [await worker.stop() for worker in (paused, other)] == [0, 0]
    assert await system.lag() == 0


async def partitions(worker: WorkerProcess) -> list[int]:
    return (await worker.status()).tiers["rt"].partitions


async def owns(worker: WorkerProcess, count: int, seconds: float = 60.0) -> None:
    """Wait until a worker has so many partitions and processes them."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        status = await worker.status()
        if status.ready and len(status.tiers["rt"].partitions) == count:
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"{len(await partitions(worker))} partitions after {seconds} s, expected {count}")
