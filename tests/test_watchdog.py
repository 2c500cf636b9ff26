"""The watchdog: a worker that stalls ends with 1, and one that is merely slow, idle, paused or cut off does not."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from faust.types import TP
from hypothesis import given
from hypothesis import strategies as st

from app.replay import plan_replay
from app.runtime.watchdog import Offsets, StallDetector
from app.sources import builtin_ecg
from app.worker_process import WorkerProcess
from tests.processes import paused_kafka
from tests.replaying import replay, verifier_of
from tests.system import System

PARTITION, OTHER = TP("rt-sensors", 0), TP("rt-sensors", 1)
LOOK = 5.0


def longest(*looks: tuple[int, int], progress: tuple[object, ...] = ()) -> float:
    """Seconds of growth that are seen last, of looks (committed, end) at one partition."""
    detector, growing = StallDetector(), {}
    for number, (committed, end) in enumerate(looks):
        sign = progress[number] if progress else None
        growing = detector.look({PARTITION: Offsets(committed, end)}, sign, LOOK)
    return growing.get(PARTITION, 0.0)


def test_a_commit_that_stands_while_its_partition_grows_is_counted() -> None:
    assert longest((10, 10), (10, 12), (10, 14), (10, 14), (10, 20)) == 4 * LOOK


def test_a_commit_that_moves_is_progress_however_far_behind() -> None:
    assert longest((10, 100), (10, 200), (11, 300)) == 0.0
    assert longest((10, 100), (10, 200), (11, 300), (11, 400)) == LOOK


def test_an_idle_partition_that_gets_a_message_has_not_stalled() -> None:
    """However long it was idle, and even where its end can never be committed (a transaction's marker)."""
    assert longest(*[(10, 10)] * 100, (10, 11)) == LOOK
    assert longest(*[(10, 11)] * 100, (10, 12)) == LOOK


def test_recovery_and_rebalancing_are_progress() -> None:
    assert longest((10, 11), (10, 12), (10, 13), progress=(1.0, 2.0, 3.0)) == 0.0


def test_what_was_seen_before_an_outage_is_forgotten() -> None:
    detector = StallDetector()
    for end in range(11, 20):
        detector.look({PARTITION: Offsets(10, end)}, None, LOOK)
    detector.forget()
    assert detector.look({PARTITION: Offsets(10, 30)}, None, LOOK) == {}


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.booleans()), min_size=2, max_size=60))
def test_partitions_are_judged_one_by_one(steps: list[tuple[int, int, bool]]) -> None:
    """A partition that nobody touches stalls, whatever another does and whether that is still ours."""
    detector, committed, end = StallDetector(), 0, 0
    for number, (done, appended, ours) in enumerate(steps):
        end += appended
        committed = min(end, committed + done)
        offsets = {PARTITION: Offsets(5, 5 + number)}
        if ours:
            offsets[OTHER] = Offsets(committed, end)
        growing = detector.look(offsets, None, LOOK)
        assert growing.get(PARTITION, 0.0) == number * LOOK
        assert growing.get(OTHER, 0.0) <= number * LOOK


class WedgedTask(WorkerProcess):
    application = "tests.wedged.task"


class WedgedLoop(WorkerProcess):
    application = "tests.wedged.loop"


@pytest.fixture
def wedged_stock_worker(system: System, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A stock Faust worker that never finishes what it gets; it says so in `stock.log`."""
    stock = subprocess.Popen(
        [sys.executable, "-m", "faust", "-A", "tests.wedged.stock", "worker", "--without-web"],
        env={
            **os.environ,
            "STOCK_KAFKA": str(system.settings.kafka_bootstrap),
            "STOCK_PREFIX": system.settings.topic_prefix,
            "STOCK_DATADIR": str(tmp_path / "stock"),
        },
        stdout=(tmp_path / "stock.log").open("wb"),
        stderr=subprocess.STDOUT,
    )
    yield stock
    stock.kill()
    stock.wait()


@pytest.mark.slow
async def test_mend_8_a_worker_that_stalls_ends_with_1_where_stock_faust_stays(
    system: System, wedged_stock_worker: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    """Stock Faust logs that it is slow, for ever; its heartbeats keep its partitions from anybody else."""
    sending = asyncio.create_task(send_for_ever(system))
    settings = system.settings.model_copy(update={"watchdog_seconds": 4.0, "shutdown_seconds": 3.0})
    for kind in (WedgedTask, WedgedLoop):
        with kind(settings, tmp_path / f"{kind.__name__}.log") as worker:
            assert await worker.wait(60) == 1
            assert "this worker has stalled and exits with 1" in worker.log.read_text()
    assert "wedged" in (tmp_path / "stock.log").read_text()
    assert wedged_stock_worker.poll() is None
    sending.cancel()
    worker = await system.worker()
    await asyncio.sleep(2)
    assert await worker.stop() == 0
    assert await system.lag() == 0, "what the wedged ones held was not lost"


async def send_for_ever(system: System) -> None:
    number = 0
    while True:
        await system.send((b"s%d" % (number % 50), b"{}") for _ in range(50))
        await asyncio.sleep(0.5)


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_brokers_that_do_not_answer_are_no_stall(own_system: System, own_services: Path) -> None:
    own_system.settings = own_system.settings.model_copy(update={"watchdog_seconds": 3.0, "session_timeout": 6.0})
    plan = plan_replay(builtin_ecg(), sensors=50, seconds=200)
    worker = await own_system.worker()
    sending = asyncio.create_task(replay(own_system, plan, speed=5))
    await asyncio.sleep(4)
    with paused_kafka(own_services):
        await asyncio.sleep(15)
        assert worker.process.poll() is None
    assert not sending.done()
    await sending
    verdict = await own_system.verify(verifier_of(plan))
    assert verdict.passed, verdict
    log = worker.log.read_text()
    assert "watchdog: the brokers do not answer" in log
    assert "has stalled" not in log
    assert await worker.stop() == 0
