"""How work grows with workers and with sensors: what two do, what a block costs, what a sensor takes of memory.

All is measured in steady state: sensors have been claimed and are in memory, and more waits than can be worked on.
Each run has topics of its own, so that the tenth finds the disk as the first did.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from itertools import cycle
from typing import NamedTuple

from app.bench.cores import Cores
from app.bench.result import SuiteResult
from app.bench.streaming import PATIENCE, Streaming, Window, memory_of, streaming
from app.bench.surroundings import Surroundings, discarded
from app.bench.waiting import until
from app.replay import Encoding
from app.settings import Settings
from app.tiers import TIER_DEFAULTS, in_force
from app.worker_process import WorkerProcess

WORKERS_SENSORS = 1000
WINDOW_SECONDS = 10.0
"""That workers are watched in a run: each of their partitions has a checkpoint meanwhile."""

REFERENCE = 1000
"""Sensors whose cost of a block the others' are compared with."""

NEVER = 1e6
"""s between checkpoints where there are to be none."""

COST = "cost of a block"

MEMORY_CHECKPOINTS = 3
"""Checkpoints of every sensor, each after a block, before its memory is taken."""

QUIET_SECONDS = 1.0
"""Without the end of a checkpoint, after which none is under way."""

Progress = Callable[[str], None]


class Scale(NamedTuple):
    """How much is measured.

    Attributes
    ----------
    own
        What to work on.
    cores
        Where.
    encoding
        Of the blocks.
    repeats
        Runs of each contender, in turn.
    result
        Is filled.
    progress
        Told of each run.
    """

    own: Surroundings
    cores: Cores
    encoding: Encoding
    repeats: int
    result: SuiteResult
    progress: Progress


async def measure_workers(scale: Scale, counts: Sequence[int] = (1, 2)) -> None:
    """Measure workers of one group on the same partitions, each on a core of its own where there are enough."""
    result = scale.result
    each = [frozenset({core}) for core in sorted(os.sched_getaffinity(0), reverse=True)]
    rest = len(each) - max(counts)
    result.conditions.remarks["cores of 2 workers"] = (
        "one each; Kafka, Redis and the bench on the others"
        if rest > 0
        else f"one each, which Kafka, Redis and the bench share: {len(each)} in all"
    )
    case = f"workers, {WORKERS_SENSORS:,} sensors"
    for number in range(1, scale.repeats + 1):
        for count in counts:
            name = f"{count} worker{'s' if count > 1 else ''}"
            settings = scale.own.part(f"workers-{count}-{number}")
            async with discarded(settings), streaming(settings, WORKERS_SENSORS, scale.encoding) as sensors:
                for _, cores in zip(range(count), cycle(each), strict=False):
                    await sensors.start_worker(cores)
                await _shared_out(sensors)
                window = await _window(sensors, WINDOW_SECONDS, in_force(settings, "rt").checkpoint_seconds)
            _add(scale, case, name, window, sensors, number)
    one = result.measurement(case, "1 worker")
    for count in counts:
        if count > 1:
            result.compare("throughput", result.measurement(case, f"{count} workers"), one)


async def measure_cost(scale: Scale, sizes: Sequence[int]) -> None:
    """Measure what a block costs a worker on one core, of few sensors and of many, with checkpoints and without."""
    result = scale.result
    seconds = in_force(scale.own.settings, "rt").checkpoint_seconds
    every, off = f"{COST}, checkpoints every {seconds:g} s", f"{COST}, checkpoints off"
    never = {"checkpoint_seconds": NEVER, "checkpoint_messages": 10**9}
    for number in range(1, scale.repeats + 1):
        for size in sizes:
            for case, overrides, settle in ((every, {}, seconds), (off, never, 0.0)):
                settings = scale.own.part(f"cost-{size}-{number}{'-off' if overrides else ''}")
                settings = settings.model_copy(update=overrides)
                async with discarded(settings), streaming(settings, size, scale.encoding) as sensors:
                    await sensors.start_worker(scale.cores.measured)
                    window = await _window(sensors, WINDOW_SECONDS, settle)
                _add(scale, case, f"{size:,} sensors", window, sensors, number)
    for size in sizes:
        own, without = (result.measurement(case, f"{size:,} sensors") for case in (every, off))
        of_checkpoints = 1 - without.figures["CPU"].spread.median / own.figures["CPU"].spread.median
        own.details["share of checkpoints"] = round(of_checkpoints, 3)
        if size != REFERENCE and REFERENCE in sizes:
            for case, measured in ((every, own), (off, without)):
                result.compare("CPU", measured, result.measurement(case, f"{REFERENCE:,} sensors"))


async def measure_memory(scale: Scale, sizes: Sequence[int]) -> None:
    """Measure what a sensor of `ecg` takes of a worker's memory, beyond what one that has had one sensor takes."""
    for number in range(1, scale.repeats + 1):
        for size in sizes:
            settings = scale.own.part(f"memory-{size}-{number}")
            async with discarded(settings):
                await _memory(scale, settings, size, number)


async def _memory(scale: Scale, settings: Settings, size: int, number: int) -> None:
    interval = in_force(settings, "rt").checkpoint_seconds
    async with (
        streaming(settings, 1, "msgpack", name="first") as first,
        streaming(settings, size, scale.encoding) as sensors,
    ):
        worker = await first.start_worker(scale.cores.measured)
        await first.send(2)
        await first.all_done()
        await _checkpointed(worker, interval)
        empty = memory_of(worker.process.pid)
        await sensors.begin()
        first.workers.clear()
        sensors.workers.append(worker)
        await sensors.send(2)
        await sensors.all_done()
        at_once = memory_of(worker.process.pid)
        for _ in range(MEMORY_CHECKPOINTS):
            await _checkpointed(worker, interval)
            await sensors.send(1)
            await sensors.all_done()
        await _checkpointed(worker, interval)
        later = memory_of(worker.process.pid)
        await sensors.stop()
    measured = scale.result.measurement("memory", f"{size:,} sensors")
    measured.details["empty worker, MB"] = round(empty["resident"] / 1e6)
    for name, kind, now in (
        ("resident", "resident", later),
        ("before checkpoints", "resident", at_once),
        ("private", "private", later),
        ("peak", "peak", later),
    ):
        measured.add(name, (now[kind] - empty[kind]) / size, "B a sensor", "lower")
    scale.progress(
        f"run {number} of {scale.repeats}: {size:,} sensors: {measured.figures['resident'].runs[-1]:,.0f} B each"
    )


async def _window(sensors: Streaming, seconds: float, settle: float) -> Window:
    """See what workers do in a while, some time after all sensors are in memory."""
    async with sensors.kept_fed():
        await sensors.all_resident()
        await asyncio.sleep(settle)
        window = await sensors.window(seconds)
    await sensors.stop()
    await sensors.verify()
    return window


def _add(scale: Scale, case: str, contender: str, window: Window, sensors: Streaming, number: int) -> None:
    """Add a run's figures; the first is the one that its case is about."""
    measured = scale.result.measurement(case, contender)
    rate, cpu = window.blocks / window.seconds, 1e6 * window.cpu / window.blocks
    if case.startswith(COST):
        measured.add("CPU", cpu, "µs/block", "lower")
    measured.add("throughput", rate, "blocks/s", "higher")
    if not case.startswith(COST):
        measured.add("CPU", cpu, "µs/block", "lower")
    if sensors.starved:
        measured.details["fed too slowly in runs"] = int(measured.details.get("fed too slowly in runs", 0)) + 1
    scale.progress(
        f"run {number} of {scale.repeats}: {measured.label}: {cpu:.1f} µs of CPU a block, {rate:,.0f} blocks/s"
    )


async def _shared_out(sensors: Streaming) -> None:
    """Wait until each worker has its share of the partitions."""
    partitions, workers = TIER_DEFAULTS["rt"].partitions, len(sensors.workers)

    async def shared() -> bool:
        statuses = [await worker.status() for worker in sensors.workers]
        counts = [len(status.tiers["rt"].partitions) for status in statuses]
        return sum(counts) == partitions and min(counts) >= partitions // workers and all(own.ready for own in statuses)

    await until(shared, PATIENCE, f"{sensors.workers[-1].log}: partitions not shared out")


async def _checkpointed(worker: WorkerProcess, interval: float) -> None:
    """Wait until all that a worker has done is in its table, and its newest states are in Redis."""
    await asyncio.sleep(interval)

    async def quiet() -> bool:
        own = (await worker.status()).tiers["rt"]
        return own.checkpoint_age is not None and own.checkpoint_age > QUIET_SECONDS and not own.mirror.pending

    await until(quiet, PATIENCE, f"{worker.log}: checkpoints do not end")
