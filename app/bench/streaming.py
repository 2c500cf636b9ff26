"""Workers in steady state: sensors that stream to them faster than they work, and what they use meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import NamedTuple

import numpy as np
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from app.bench.cores import cpu_seconds, kept_on
from app.bench.errors import BenchError
from app.bench.filling import Filler
from app.bench.waiting import until
from app.kafka_client import client_options, started
from app.kafka_reader import read, retained, topic_reader
from app.pipelines import known_pipelines
from app.replay import Encoding, Plan, new_producer
from app.settings import Settings
from app.sources import builtin_ecg
from app.tiers import TIER_DEFAULTS
from app.topics import FEATURE_PARTITIONS, create_topics, features_topic, needed_topics, sensor_topic
from app.verify import FeatureVerifier, Sent
from app.worker_process import WorkerProcess

BLOCK = 256
RATE = 250.0
PATIENCE = 300.0
WATCHDOG = 3600.0
"""s: where the machine is busy otherwise, a worker is slow and not stalled."""

BACKLOG = 300_000
"""Blocks that wait, at least, so that no worker ever does."""

_AT_ONCE = 20_000
"""Blocks sent between two looks at how many are waiting."""

_LONGEST = 100_000
"""Blocks of one stream, beyond which its record of what to expect would not fit."""


class Window(NamedTuple):
    """What workers did in a while."""

    seconds: float
    blocks: int
    cpu: float
    """s, of all workers, all threads."""


class Streaming:
    """Sensors of the rt tier, and the workers that they stream to; made by `streaming`.

    Parameters
    ----------
    settings
        With topics, keys, a group and a folder of their own.
    sensors
        How many; all begin at once.
    encoding
        Of their blocks.
    name
        That their ids begin with.
    producer, consumer
        Started ones.
    """

    def __init__(
        self,
        settings: Settings,
        sensors: int,
        encoding: Encoding,
        name: str,
        producer: AIOKafkaProducer,
        consumer: AIOKafkaConsumer,
    ) -> None:
        self.settings = settings
        self.sensors = sensors
        self.workers: list[WorkerProcess] = []
        self.starved = False
        """Whether the workers ever had nothing to do while they were kept fed."""
        recording = np.round(builtin_ecg().channel(0), 3)
        ids = tuple(f"{name}-{number:06d}" for number in range(sensors))
        self._plan = Plan(recording, RATE, ids, BLOCK, _LONGEST, encoding)
        self._filler = Filler(self._plan, TIER_DEFAULTS["rt"].partitions)
        self._producer = producer
        self._consumer = consumer
        self._features = [
            TopicPartition(features_topic(settings, "ecg"), number) for number in range(FEATURE_PARTITIONS)
        ]
        self._before = self._rounds = 0
        self._sending = asyncio.Lock()

    async def begin(self) -> None:
        """Count from now on only."""
        self._before = await self.features()

    async def start_worker(self, cores: frozenset[int], **overrides: object) -> WorkerProcess:
        """Start one worker more, all of whose threads keep to some cores, and wait until it is ready."""
        settings = self.settings.model_copy(update={"watchdog_seconds": WATCHDOG, **overrides})
        with kept_on(cores):
            worker = WorkerProcess(settings, settings.datadir / f"worker-{len(self.workers) + 1}.log")
        self.workers.append(worker)
        await worker.ready(PATIENCE)
        return worker

    async def send(self, rounds: int) -> None:
        """Send the next blocks of every sensor."""
        async with self._sending:
            coming = range(self._rounds, self._rounds + rounds)
            await self._filler.send(self._producer, sensor_topic(self.settings, "rt"), coming)
            self._rounds += rounds

    async def features(self) -> int:
        """Count the records that the workers have given so far."""
        ends: dict[TopicPartition, int] = await self._consumer.end_offsets(self._features)
        return sum(ends.values()) - self._before

    async def all_done(self) -> None:
        """Wait until all blocks sent have their features."""
        wanted = self._rounds * self.sensors

        async def done() -> bool:
            self._look_after_workers()
            return await self.features() >= wanted

        await until(done, PATIENCE, f"{self.workers[-1].log}: not all features")

    async def all_resident(self) -> None:
        """Wait until the workers, kept fed, have all sensors in memory."""

        async def resident() -> bool:
            self._look_after_workers()
            statuses = [await worker.status() for worker in self.workers]
            return sum(status.tiers["rt"].sensors for status in statuses) >= self.sensors

        await until(resident, PATIENCE, f"{self.workers[-1].log}: not {self.sensors} sensors in memory")

    @asynccontextmanager
    async def kept_fed(self) -> AsyncIterator[None]:
        """Keep so many blocks waiting that no worker ever has nothing to do, for the time of a `with` block."""
        task = asyncio.create_task(self._keep_fed())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled() and (error := task.exception()):
                raise error

    async def _keep_fed(self) -> None:
        # A round is never split, and some of them always wait.
        backlog, rounds = max(BACKLOG, 3 * self.sensors), max(1, _AT_ONCE // self.sensors)
        fed = False
        while True:
            waiting = self._rounds * self.sensors - await self.features()
            if waiting < backlog:
                self.starved |= fed and waiting <= 0
                await asyncio.shield(self.send(rounds))
            else:
                fed = True
                await asyncio.sleep(0.02)

    async def window(self, seconds: float) -> Window:
        """See what the workers do in so many seconds."""
        begin = await self._now()
        await asyncio.sleep(seconds)
        self._look_after_workers()
        end = await self._now()
        return Window(end.seconds - begin.seconds, end.blocks - begin.blocks, end.cpu - begin.cpu)

    async def _now(self) -> Window:
        async with self._sending:  # it keeps the loop busy, and what is asked for would come late
            blocks = await self.features()
            return Window(time.monotonic(), blocks, sum(cpu_seconds(own.process.pid) for own in self.workers))

    def _look_after_workers(self) -> None:
        for worker in self.workers:
            if worker.process.poll() is not None:
                raise worker.failed(f"exited with {worker.process.returncode}")

    async def stop(self) -> None:
        """Stop all workers, and see that they passed over nothing.

        Raises
        ------
        BenchError
            Blocks were refused, came late or left gaps, or a worker did not stop well.
        """
        for worker in self.workers:
            own = (await worker.status()).tiers["rt"]
            if own.dead_letters or own.late or own.gaps:
                raise BenchError(
                    f"{own.late} late blocks, {own.gaps} gaps, dead letters {own.dead_letters}: see {worker.log}"
                )
        for worker in self.workers:
            if (code := await worker.stop()) != 0:
                raise worker.failed(f"exited with {code}")
        self.workers.clear()

    async def verify(self) -> None:
        """Check the features of some sensors against the offline pass.

        Raises
        ------
        BenchError
            One is wrong, or missing among others of its sensor.
        """
        seen: dict[str, list[bytes]] = {}
        async with topic_reader(self.settings) as reader:
            stretches = await retained(reader, self.settings, self._features[0].topic)
            first = next((own for own in stretches.items() if own[1].end > own[1].start), None)
            if first is None:
                raise BenchError("no features at all")
            async for records in read(reader, dict([first])):
                for record in records:
                    seen.setdefault(record.key.decode(), []).append(record.value)
        for sensor_id in list(seen)[:_VERIFIED]:
            _verify(self._plan, sensor_id, seen[sensor_id])

    def kill(self) -> None:
        """End all workers at once, whatever has happened."""
        for worker in self.workers:
            worker.kill()


_VERIFIED = 20


def _verify(plan: Plan, sensor_id: str, records: list[bytes]) -> None:
    verifier = FeatureVerifier()
    own = Plan(plan.recording, RATE, plan.sensors, BLOCK, len(records), plan.encoding)
    blocks = [Sent(number * BLOCK, BLOCK) for number in range(len(records))]
    verifier.expect(sensor_id, own.signal(plan.sensors.index(sensor_id)), blocks)
    for record in records:
        verifier.add(record)
    if not verifier.verdict.passed:
        raise BenchError(f"{sensor_id}: {verifier.verdict}; nothing was measured")


@asynccontextmanager
async def streaming(
    settings: Settings, sensors: int, encoding: Encoding, *, name: str = "sensor"
) -> AsyncIterator[Streaming]:
    """Give sensors, on the topics of the settings, for the time of a `with` block; at its end all workers are ended."""
    await create_topics(settings, needed_topics(settings, known_pipelines(settings.pipelines)))
    consumer = AIOKafkaConsumer(**client_options(settings))
    async with started(consumer, settings), started(new_producer(settings), settings) as producer:
        own = Streaming(settings, sensors, encoding, name, producer, consumer)
        await own.begin()
        try:
            yield own
        finally:
            own.kill()


def memory_of(pid: int) -> Mapping[str, int]:
    """Memory of a process in bytes.

    Returns
    -------
    ``resident``, ``proportional`` (pages that it shares counted by its part), ``private`` (those that only it has)
    and ``peak`` (most that was ever resident).
    """
    found: dict[str, int] = {}
    for file in ("smaps_rollup", "status"):
        with open(f"/proc/{pid}/{file}") as lines:  # noqa: PTH123
            for line in lines:
                name, _, value = line.partition(":")
                if value.strip().endswith(" kB"):
                    found[name] = 1024 * int(value.split()[0])
    return {
        "resident": found["Rss"],
        "proportional": found["Pss"],
        "private": found["Private_Clean"] + found["Private_Dirty"],
        "peak": found["VmHWM"],
    }
