"""One run of a contender: what it gives, how fast, and what it takes of the processors."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from statistics import median

from aiokafka import AIOKafkaConsumer

from app.bench.contenders import Contender
from app.bench.cores import cpu_seconds, main_thread_seconds
from app.bench.errors import BenchError
from app.bench.surroundings import Surroundings, forget_keys
from app.kafka_reader import Stretch, Stretches, read, retained, topic_reader
from app.settings import Settings

POLL_SECONDS = 0.05
QUIET_SECONDS = 60.0


@dataclass(frozen=True)
class Run:
    """Figures of a run.

    Attributes
    ----------
    blocks_per_second
        Between the appends of the first and of the last record.
    seconds
        That this took.
    worker, main_thread, kafka, redis
        Their CPU, µs a block; None where the process is none of ours.
    size
        Of a record in the middle, bytes.
    """

    blocks_per_second: float
    seconds: float
    worker: float
    main_thread: float
    kafka: float | None
    redis: float | None
    size: int


async def run_once(contender: Contender, surroundings: Surroundings) -> Run:
    """Run a contender from the first block of its load to the last, and check what it gave.

    Raises
    ------
    BenchError
        It lost a block, computed a wrong feature, or stood still.
    """
    settings = contender.load.settings
    await forget_keys(settings)  # states that the run before has mirrored are none of this one's
    async with topic_reader(settings) as consumer:
        try:
            pid = await contender.start()
            before = await retained(consumer, settings, contender.output)
            watched = await _watch(contender, consumer, before, pid, surroundings)
            await contender.stop()
        finally:
            contender.kill()
    times, records = await read_output(settings, contender.output, before)
    if contender.verified:
        await asyncio.to_thread(contender.load.expected.check, contender.name, records)
    elif len(records) != contender.records:
        raise BenchError(f"{contender.name}: {len(records):,} records, expected {contender.records:,}")
    first, last = min(times), max(times)
    # Those of the first tick of the broker's clock, 1 ms, were worked on before it.
    timed = len(times) - times.count(first) or len(times)
    seconds = max(1, last - first) / 1000
    return Run(timed / seconds, seconds, *watched, round(median(map(len, records))))


async def read_output(settings: Settings, topic: str, before: Stretches) -> tuple[list[int], list[bytes]]:
    """Read all that has come to a topic since; gives the times of the appends, ms, and the records."""
    times: list[int] = []
    records: list[bytes] = []
    async with topic_reader(settings) as consumer:
        now = await retained(consumer, settings, topic)
        new = {partition: Stretch(before[partition].end, own.end) for partition, own in now.items()}
        async for batch in read(consumer, new):
            times += [record.timestamp for record in batch]
            records += [record.value for record in batch]
    return times, records


async def _watch(
    contender: Contender, consumer: AIOKafkaConsumer, before: Stretches, pid: int, surroundings: Surroundings
) -> tuple[float, float, float | None, float | None]:
    """Wait until all records are there; gives CPU a record of the contender, its first thread, Kafka and Redis, µs."""
    partitions = list(before)
    start = sum(own.end for own in before.values())

    def used() -> tuple[float, ...]:
        services = (cpu_seconds(surroundings.kafka_pid), cpu_seconds(surroundings.redis_pid))
        return cpu_seconds(pid), main_thread_seconds(pid), *services

    first: tuple[float, ...] | None = None
    count = count_at_first = 0
    moved = time.monotonic()
    while count < contender.records:
        await asyncio.sleep(POLL_SECONDS)
        contender.check_runs()
        known, count = count, sum((await consumer.end_offsets(partitions)).values()) - start
        if count > known:
            moved = time.monotonic()
            if first is None:
                first, count_at_first = used(), count
        elif time.monotonic() - moved > QUIET_SECONDS:
            raise BenchError(
                f"{contender.name}: only {count:,} of {contender.records:,} records, and none for {QUIET_SECONDS:g} s;"
                f" see the logs in {contender.load.settings.datadir}"
            )
    last = used()
    timed = max(1, count - count_at_first)
    worker, main, kafka, redis = (1e6 * (b - a) / timed for a, b in zip(first or last, last, strict=True))
    return (
        worker,
        main,
        None if surroundings.kafka_pid is None else kafka,
        None if surroundings.redis_pid is None else redis,
    )
