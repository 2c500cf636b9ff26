"""Throughput of one worker: from a filled topic to the last feature acknowledged, beside the plain Faust agent.

Each run fills a contender's topic while the contender is stopped, starts it, and takes the time between its first
and its last feature record, by the records' own time stamps. Every record is checked against the offline pass.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
from aiokafka import AIOKafkaConsumer

from app.bench.contenders import Contender, Continuum, PlainFaust
from app.errors import ContinuumError
from app.kafka_client import client_options, started
from app.replay import Plan, new_producer, play
from app.settings import Settings
from app.sources import builtin_ecg
from app.topics import features_topic, sensor_topic
from app.verify import FeatureVerifier, Sent

BLOCK = 256
QUIET_SECONDS = 60.0


class BenchError(ContinuumError):
    """A run did not give what it must, so it measured nothing."""

    exit_code = 1


class Run(NamedTuple):
    """One run of a contender."""

    blocks_per_second: float
    cpu_microseconds: float
    """CPU of the worker's process for a block, start included."""


@dataclass
class Result:
    """All runs of a contender."""

    name: str
    blocks: int
    """Blocks a run."""
    runs: list[Run] = field(default_factory=list)

    def spread(self, figure: str) -> tuple[float, float, float]:
        """Minimum, median and maximum of a figure of the runs."""
        values = [getattr(run, figure) for run in self.runs]
        return min(values), median(values), max(values)


class Case(NamedTuple):
    """A contender, and how many blocks each of its sensors sends a run."""

    contender: Contender
    blocks_per_sensor: int


def own_settings(settings: Settings, number: int, run: str) -> Settings:
    """Give settings with topics and a folder of their own."""
    name = f"bench-{run}-{number}"
    return settings.model_copy(
        update={"topic_prefix": f"{name}-", "app_id": name, "datadir": settings.datadir / "bench" / name}
    )


def cases(settings: Settings, sensors: int, blocks: int) -> list[Case]:
    """Give all contenders, each with topics and a folder of its own.

    Parameters
    ----------
    settings
        The common ones.
    sensors
        Simulated sensors.
    blocks
        Blocks a run, all sensors together; the plain agent, many times slower, gets a tenth.
    """
    run = secrets.token_hex(3)
    own = partial(own_settings, settings, run=run)
    each = max(1, blocks // sensors)
    return [
        Case(Continuum("continuum, JSON", "json", own(1)), each),
        Case(Continuum("continuum, MessagePack", "msgpack", own(2)), each),
        Case(Continuum("continuum, frames of 32", "frame", own(3)), each),
        Case(PlainFaust("plain Faust agent, JSON", "json", own(4)), max(1, each // 10)),
    ]


def checkpoint_cases(settings: Settings, sensors: int, blocks: int) -> list[Case]:
    """Give one contender with checkpoints more and less often, and never but at its end."""
    run = secrets.token_hex(3)
    found = []
    for number, (name, seconds) in enumerate({"every 1 s": 1.0, "every 10 s": 10.0, "off": 1e6}.items()):
        often = {"checkpoint_seconds": seconds, "checkpoint_messages": 10**9}
        own = own_settings(settings, number, run).model_copy(update=often)
        found.append(Case(Continuum(f"checkpoints {name}", "msgpack", own), max(1, blocks // sensors)))
    return found


async def measure(own: list[Case], sensors: int, repeats: int, progress: Callable[[str], None]) -> list[Result]:
    """Run contenders in turn, several times over.

    Raises
    ------
    BenchError
        A contender lost a block or computed a wrong feature.
    """
    results = [Result(case.contender.name, sensors * case.blocks_per_sensor) for case in own]
    for case in own:
        await case.contender.create_topics()
    for number in range(1, repeats + 1):
        for case, result in zip(own, results, strict=True):
            run = await _run(case, sensors)
            result.runs.append(run)
            progress(f"run {number} of {repeats}: {result.name}: {run.blocks_per_second:,.0f} blocks/s")
    return results


async def _run(case: Case, sensors: int) -> Run:
    contender = case.contender
    # Devices send what their converters give: microvolts, not all digits of a double.
    recording = np.round(builtin_ecg().channel(0), 3)
    ids = tuple(f"{secrets.token_hex(3)}-{number}" for number in range(sensors))
    plan = Plan(recording, 250.0, ids, BLOCK, case.blocks_per_sensor, contender.encoding)
    verifier = await asyncio.to_thread(_expectations, plan)
    topic = features_topic(contender.settings, "ecg")
    consumer = AIOKafkaConsumer(topic, **client_options(contender.settings), max_partition_fetch_bytes=4 << 20)
    async with started(consumer, contender.settings):
        await consumer.seek_to_end()
        await asyncio.gather(*(consumer.position(partition) for partition in consumer.assignment()))
        async with started(new_producer(contender.settings), contender.settings) as producer:
            await play(plan, producer, sensor_topic(contender.settings, "rt"), speed=float("inf"))
        try:
            pid = await contender.start()
            run = await _receive(consumer, pid, verifier, plan.total_blocks)
            await contender.stop()
        finally:
            contender.kill()
    if not verifier.verdict.passed:
        raise BenchError(f"{contender.name}: {verifier.verdict}; nothing was measured")
    return run


def _expectations(plan: Plan) -> FeatureVerifier:
    verifier = FeatureVerifier()
    blocks = [Sent(number * BLOCK, BLOCK) for number in range(plan.blocks_per_sensor)]
    for sensor, sensor_id in enumerate(plan.sensors):
        verifier.expect(sensor_id, plan.signal(sensor), blocks)
    return verifier


async def _receive(consumer: AIOKafkaConsumer, pid: int, verifier: FeatureVerifier, blocks: int) -> Run:
    """Take all features down, and check them afterwards: checking takes as much of the machine as computing."""
    records: list[tuple[int, bytes]] = []
    cpu_at_first = cpu_at_last = 0.0
    last = time.monotonic()
    while len(records) < blocks and time.monotonic() - last < QUIET_SECONDS:
        for batch in (await consumer.getmany(timeout_ms=50)).values():
            if not records:
                cpu_at_first = _cpu_seconds(pid)
            records += [(record.timestamp, record.value) for record in batch]
            last = time.monotonic()
        with suppress(FileNotFoundError):
            cpu_at_last = _cpu_seconds(pid)
    for _, value in records:
        verifier.add(value)
    times = [timestamp for timestamp, _ in records]
    seconds = (max(times, default=0) - min(times, default=0)) / 1000 or float("nan")
    return Run(len(records) / seconds, 1e6 * (cpu_at_last - cpu_at_first) / max(1, len(records)))


def _cpu_seconds(pid: int) -> float:
    """CPU that a process has used, of all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
