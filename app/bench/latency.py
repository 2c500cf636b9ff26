"""Latency: from when a block is due at the sender until its feature is readable, beside a bare echo, at steady rates.

The rates are shares of the throughput that is found first, or one that is given. Contenders run in turn, each on a
core of its own; the load is the same for both, and what it takes of the machine is told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
from aiokafka import AIOKafkaConsumer, TopicPartition
from numpy.typing import NDArray

from app.bench.contenders import BareKafka, Contender, Continuum
from app.bench.cores import cpu_seconds, one_apart
from app.bench.load import Load, Shape
from app.bench.open_loop import Latencies, Sending, send_and_read, sendings
from app.bench.result import Measurement, SuiteResult
from app.bench.run import run_once
from app.bench.surroundings import Surroundings, discard, forget_keys
from app.bench.throughput import BARE, continuum
from app.kafka_client import started
from app.kafka_reader import retained, topic_reader
from app.replay import new_producer
from app.topics import sensor_topic

QUANTILES = {"p99": 0.99, "p50": 0.5, "p99.9": 0.999, "max": 1.0}
WARM_UP = 60_000
"""Blocks of the run that finds the throughput, after as many that warm up."""


@dataclass(frozen=True)
class LatencyPlan:
    """What is measured.

    Attributes
    ----------
    shape
        Of the blocks.
    shares
        Of the throughput found, a case each.
    rate
        Blocks/s in place of that throughput; None to find it.
    seconds
        That each rate lasts.
    checkpoint_seconds
        Between checkpoints of ours.
    repeats
        Runs of each contender, in turn.
    warm_up
        Blocks of the runs that find the throughput.
    """

    shape: Shape
    shares: Sequence[float]
    rate: float | None
    seconds: float
    checkpoint_seconds: float
    repeats: int
    warm_up: int = WARM_UP


@dataclass(frozen=True)
class _Level:
    """Blocks of each sensor at one rate."""

    case: str
    rate: float
    first: int
    count: int


_Found = tuple[_Level, Latencies, float]
"""The latencies at a rate, and the share of its core that the contender took."""


async def measure_latency(
    plan: LatencyPlan, surroundings: Surroundings, result: SuiteResult, progress: Callable[[str], None]
) -> None:
    """Run both contenders in turn at all rates, several times over.

    Parameters
    ----------
    plan
        What is measured.
    surroundings
        Kafka and Redis.
    result
        Of the suite, which is filled.
    progress
        Told of each run.

    Raises
    ------
    BenchError
        A block was lost, or a feature wrong.
    """
    result.conditions.settings |= {"checkpoint_seconds": plan.checkpoint_seconds, "seconds a rate": plan.seconds}
    with one_apart(surroundings, result) as core:
        rate = plan.rate
        if rate is None:
            rate = await _throughput(plan, surroundings, core)
            progress(f"throughput found: {rate:,.0f} blocks/s")
        levels = _levels(plan, rate)
        each = levels[-1].first + levels[-1].count
        size = 0
        for number in range(1, plan.repeats + 1):
            for name in (continuum(plan.checkpoint_seconds), BARE):
                load = Load(plan.shape, surroundings.part(f"{number}-{len(name)}"), each)
                contender: Contender = (
                    BareKafka(name, load, core, size)
                    if name == BARE
                    else Continuum(name, load, core, plan.checkpoint_seconds)
                )
                runs, size = await _run(contender, levels)
                for level, latencies, busy in runs:
                    measured = result.measurement(level.case, name)
                    _add(measured, latencies, busy)
                    measured.details["blocks/s"] = level.rate
                    p99 = measured.figures["p99"].runs[-1]
                    progress(f"run {number} of {plan.repeats}: {measured.label}: p99 {p99:.1f} ms")
                await discard(load.settings)
    for level in levels:
        own, bare = (result.measurement(level.case, name) for name in (continuum(plan.checkpoint_seconds), BARE))
        for figure in ("p99", "p50"):
            result.compare(figure, own, bare)


async def _throughput(plan: LatencyPlan, surroundings: Surroundings, cores: frozenset[int]) -> float:
    """Find the throughput in a second run, blocks/s."""
    load = Load(plan.shape, surroundings.part("throughput"), max(1, plan.warm_up // plan.shape.sensors))
    await load.create_topics()
    await load.fill()
    contender = Continuum(continuum(plan.checkpoint_seconds), load, cores, plan.checkpoint_seconds)
    await run_once(contender, surroundings)
    run = await run_once(contender, surroundings)
    await discard(load.settings)
    return run.blocks_per_second


def _levels(plan: LatencyPlan, rate: float) -> list[_Level]:
    """Give the rates; before them each sensor has sent a block, which is not counted."""
    levels, first = [], 1
    for share in plan.shares:
        own = share * rate
        count = max(1, round(own * plan.seconds / plan.shape.sensors))
        at = f"{share:.0%} of the throughput" if plan.rate is None else f"{own:,.0f} blocks/s"
        levels.append(_Level(f"{plan.shape.case}, at {at}", own, first, count))
        first += count
    return levels


async def _run(contender: Contender, levels: Sequence[_Level]) -> tuple[list[_Found], int]:
    """Run a contender at all rates; gives what was found, and the size of a record, bytes."""
    load = contender.load
    await load.create_topics(sensors_by_append=True)
    await forget_keys(load.settings)
    found, records = [], []
    topic = sensor_topic(load.settings, "rt")
    producer = new_producer(load.settings)
    async with topic_reader(load.settings) as consumer, started(producer, load.settings):
        try:
            pid = await contender.start()
            partitions = list(await retained(consumer, load.settings, contender.output))
            consumer.assign(partitions)
            await consumer.seek_to_end()
            await _stand(consumer, partitions)
            if isinstance(contender, Continuum):
                await contender.ready()
            first = _Level("", levels[0].rate, 0, 1)
            for level in (first, *levels):
                stretch = await asyncio.to_thread(_sendings, contender, level)
                used = cpu_seconds(pid)
                latencies, came = await send_and_read(producer, topic, consumer, stretch)
                records += came
                seconds = stretch[-1].due or 1.0
                if level is not first:
                    found.append((level, latencies, (cpu_seconds(pid) - used) / seconds))
            await contender.stop()
        finally:
            contender.kill()
    if contender.verified:
        await asyncio.to_thread(load.expected.check, contender.name, records)
    return found, round(median(map(len, records)))


async def _stand(consumer: AIOKafkaConsumer, partitions: Sequence[TopicPartition]) -> None:
    """See that a consumer has its place in each partition: later records are after it."""
    for partition in partitions:
        await consumer.position(partition)


def _sendings(contender: Contender, level: _Level) -> list[Sending]:
    plan = contender.load.plan
    return sendings(plan, level.first, level.count, level.rate, by_sensor=contender.verified)


def _add(measured: Measurement, latencies: Latencies, busy: float) -> None:
    for name, own in QUANTILES.items():
        measured.add(name, _ms(latencies.readable, own), "ms", "lower")
    for name in ("p50", "p99"):
        measured.add(f"append to readable, {name}", _ms(latencies.appended, QUANTILES[name]), "ms", "lower")
    measured.add("sent late, p99", _ms(latencies.late, 0.99), "ms", "lower")
    measured.add("core used", 100 * busy, "%", "lower")
    measured.add("sender and reader", 100 * latencies.cpu, "% of a core", "lower")


def _ms(seconds: NDArray[np.float64], quantile: float) -> float:
    return 1000 * float(np.quantile(seconds, quantile))
