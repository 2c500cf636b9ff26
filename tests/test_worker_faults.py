"""Workers that stop, restart, join and leave while blocks flow: every feature there, right, in order."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from yarl import URL

from app.replay import plan_replay
from app.services import down, up
from app.services.kafka import KafkaServer
from app.settings import load_settings
from app.sources import builtin_ecg
from app.worker_process import WorkerProcess
from tests.pages import until
from tests.replaying import replay, verifier_of
from tests.system import System

UNHURRIED = 60.0
"""Time to stop in, s: the machine may be busy, and what a worker cannot commit in time is read again."""


async def test_restart_after_sigterm_continues_exactly(system: System) -> None:
    plan = plan_replay(builtin_ecg(), sensors=100, seconds=240)
    worker = await system.worker(shutdown_seconds=UNHURRIED)
    sending = asyncio.create_task(replay(system, plan, speed=8))
    for _ in range(2):
        await asyncio.sleep(2)
        assert not sending.done()
        assert await worker.stop() == 0
        assert await system.group_members() == 0, "a stopped worker leaves the group"
        worker = await system.worker(shutdown_seconds=UNHURRIED)
    await sending
    verdict = await system.verify(verifier_of(plan))
    assert verdict.passed, verdict
    assert verdict.repeated == 0, "what is committed on leaving is not read again"
    assert await worker.stop() == 0
    assert await system.lag() == 0


@pytest.mark.parametrize("times", [2, pytest.param(5, marks=pytest.mark.slow)])
async def test_a_worker_joins_and_leaves(system: System, times: int) -> None:
    plan = plan_replay(builtin_ecg(), sensors=200, seconds=60 * (1 + times))
    first = await system.worker(shutdown_seconds=UNHURRIED)
    sending = asyncio.create_task(replay(system, plan, speed=4))
    for _ in range(times):
        second = await system.worker(shutdown_seconds=UNHURRIED)
        shares = [await shared(first), await shared(second)]
        assert sorted(shares[0] + shares[1]) == list(range(50)), "the two share the partitions"
        assert all(shares)
        await asyncio.sleep(1)
        assert await second.stop() == 0
        await first.ready()
        assert not sending.done()
    await sending
    verdict = await system.verify(verifier_of(plan))
    assert verdict.passed, verdict
    assert verdict.repeated == 0
    assert await first.stop() == 0
    assert await system.lag() == 0


async def test_a_killed_worker_comes_back_on_another_port(system: System) -> None:
    """Kafka gives a static member its old assignment, which Faust takes only under the member's old address."""
    worker = await system.worker()
    worker.kill()
    port = URL(str(worker.url)).port
    with socket.create_server(("127.0.0.1", port)):
        again = await system.worker()
    assert again.url != worker.url
    assert await shared(again) == list(range(50))
    assert await again.stop() == 0


@pytest.mark.slow
async def test_told_to_stop_while_kafka_is_down_it_stops_by_itself(
    tmp_path: Path, stopped_at_end: Callable[[Path], Path]
) -> None:
    """What it cannot commit it gives up, closes its tables, and says so by its exit code."""
    datadir = stopped_at_end(tmp_path / "data")
    await asyncio.to_thread(up, datadir)
    system = System(load_settings(datadir=datadir))
    try:
        await system.create()
        worker = await system.worker()
        await replay(system, plan_replay(builtin_ecg(), sensors=20, seconds=12), speed=math.inf)

        async def processed() -> bool:
            return (await worker.status()).tiers["rt"].blocks > 0

        await until(processed, "blocks are in hand, whose checkpoint is some seconds away")
        kafka = KafkaServer(datadir).daemon.pid()
        assert kafka is not None
        os.kill(kafka, signal.SIGKILL)
        assert await worker.stop() == 1
        log = worker.log.read_text()
        assert "Closing rocksdb" in log
        assert "continuum: the brokers did not answer in time; exiting with 1" in log
        assert "after the signal" not in log, "the deadline had not to cut it off"
    finally:
        system.close()
        down(datadir)


async def shared(worker: WorkerProcess) -> list[int]:
    status = await worker.status()
    return status.tiers["rt"].partitions
