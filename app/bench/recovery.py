"""How long until a worker has its sensors' states again: from RocksDB, the changelog or Redis, or by a standby."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Awaitable, Callable

from app.bench.errors import BenchError
from app.bench.filling import Filler
from app.bench.result import SuiteResult
from app.bench.waiting import until
from app.kafka_client import admin_client, started
from app.pipelines import known_pipelines
from app.replay import Plan, new_producer
from app.settings import Settings
from app.sources import builtin_ecg
from app.tiers import TIER_DEFAULTS
from app.topics import create_topics, needed_topics, sensor_topic
from app.worker_process import WorkerProcess

BLOCK = 256
FIRST_BLOCKS = 5
PATIENCE = 300.0
DELETION_SECONDS = 5.0
"""Kafka deletes topics some time after it has said so."""
STANDBY_SECONDS = 15.0
"""A standby reads the changelog meanwhile."""


async def measure_recovery(
    settings: Settings, sensors: int, repeats: int, result: SuiteResult, progress: Callable[[str], None]
) -> None:
    """Give sensors states, and let workers recover them in each way, several times over.

    Parameters
    ----------
    settings
        With a topic prefix and a data folder of its own.
    sensors
        Whose states are recovered.
    repeats
        Runs of each way, in turn.
    result
        Of the suite, which is filled.
    progress
        Told of each run.
    """
    system = _System(settings.model_copy(update={"tiers": ("rt",)}), sensors, FIRST_BLOCKS + repeats)
    try:
        await create_topics(settings, needed_topics(settings, known_pipelines(settings.pipelines)))
        worker = await system.start()
        await system.feed(worker, FIRST_BLOCKS)
        await system.stop(worker)
        ways: dict[str, Callable[[], Awaitable[float]]] = {
            "RocksDB": system.from_rocksdb,
            "changelog": system.from_changelog,
            "Redis, to each sensor's next feature": system.from_redis,
            "takeover after SIGKILL": lambda: system.takeover(0),
            "takeover after SIGKILL, with a standby": lambda: system.takeover(1),
        }
        for number in range(1, repeats + 1):
            for name, way in ways.items():
                seconds = await way()
                result.measurement(f"{sensors:,} sensors", name).add("recovered after", seconds, "s", "lower")
                progress(f"run {number} of {repeats}: {name}: {seconds:.1f} s")
    finally:
        system.close()


class _System:
    """Workers on topics of their own, and sensors whose stream goes on from way to way."""

    def __init__(self, settings: Settings, sensors: int, blocks: int) -> None:
        self.settings = settings
        self.sensors = sensors
        self._workers: list[WorkerProcess] = []
        ids = tuple(f"sensor-{number:06d}" for number in range(sensors))
        plan = Plan(builtin_ecg().channel(0), 250.0, ids, BLOCK, blocks, "msgpack")
        self._filler = Filler(plan, TIER_DEFAULTS["rt"].partitions)
        self._sent = 0

    async def start(self, **overrides: object) -> WorkerProcess:
        settings = self.settings.model_copy(update=overrides)
        worker = WorkerProcess(settings, settings.datadir / f"worker-{len(self._workers) + 1}.log")
        self._workers.append(worker)
        await worker.ready(PATIENCE)
        return worker

    async def stop(self, worker: WorkerProcess) -> None:
        if (code := await worker.stop()) != 0:
            raise BenchError(f"a worker exited with {code}: see {worker.log}")

    async def feed(self, worker: WorkerProcess, blocks: int) -> None:
        """Send the next blocks of every sensor, and wait until a worker has given their features."""

        async def features() -> int:
            return (await worker.status()).tiers["rt"].features

        wanted = await features() + blocks * self.sensors
        async with started(new_producer(self.settings), self.settings) as producer:
            coming = range(self._sent, self._sent + blocks)
            await self._filler.send(producer, sensor_topic(self.settings, "rt"), coming)
        self._sent += blocks

        async def all_there() -> bool:
            return await features() >= wanted

        await until(all_there, PATIENCE, f"{worker.log}: not all features")

    async def from_rocksdb(self) -> float:
        """Start a worker whose RocksDB is current."""
        begin = time.monotonic()
        worker = await self.start()
        seconds = time.monotonic() - begin
        await self.stop(worker)
        return seconds

    async def from_changelog(self) -> float:
        """Start a worker whose RocksDB is gone."""
        self._forget()
        return await self.from_rocksdb()

    async def from_redis(self) -> float:
        """Start a worker whose RocksDB and changelog are gone, and feed it a block of each sensor."""
        self._forget()
        topics = needed_topics(self.settings, known_pipelines(self.settings.pipelines))
        changelogs = [topic.name for topic in topics if topic.name.endswith("-changelog")]
        async with admin_client(self.settings) as admin:
            await admin.delete_topics(changelogs)
        await asyncio.sleep(DELETION_SECONDS)
        await create_topics(self.settings, topics)
        begin = time.monotonic()
        worker = await self.start()
        await self.feed(worker, 1)
        seconds = time.monotonic() - begin
        # A sensor that began anew lacks the values whose windows are not full.
        if cold := sum(b"null" in bytes(record) for record in (await worker.status()).latest):
            raise BenchError(f"{cold} of the newest records are of sensors that began anew: Redis did not have them")
        await self.stop(worker)
        return seconds

    async def takeover(self, standbys: int) -> float:
        """Kill one of two workers, and wait until the other has all partitions."""
        first, second = await self.start(standby_replicas=standbys), await self.start(standby_replicas=standbys)

        async def both_ready() -> bool:
            return all([(await own.status()).ready for own in (first, second)])

        async def taken_over() -> bool:
            status = await second.status()
            return status.ready and len(status.tiers["rt"].partitions) == TIER_DEFAULTS["rt"].partitions

        await until(both_ready, PATIENCE, f"{first.log}, {second.log}: not both ready")
        if standbys:
            await asyncio.sleep(STANDBY_SECONDS)
        begin = time.monotonic()
        first.kill()
        await until(taken_over, PATIENCE, f"{second.log}: not all partitions")
        seconds = time.monotonic() - begin
        await self.stop(second)
        return seconds

    def _forget(self) -> None:
        """Delete the workers' own data."""
        shutil.rmtree(self.settings.datadir / "workers", ignore_errors=True)

    def close(self) -> None:
        """End all workers."""
        for worker in self._workers:
            worker.kill()
