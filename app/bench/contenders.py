"""The contenders of the benchmarks that read a filled topic: how each is started and stopped, on a core of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path

from app.bench.cores import kept_on
from app.bench.errors import BenchError
from app.bench.load import APPEND_TIME, PARTITIONS, PIPELINE, Load, create_state_topics
from app.settings import Settings, as_environment
from app.topics import FEATURE_PARTITIONS, Topic, create_topics, features_topic, sensor_topic
from app.worker_process import WorkerProcess

NEVER = 1e6
"""s between checkpoints where there are to be none."""

STOP_SECONDS = 20.0


class Contender(ABC):
    """Something that makes feature records of a load's blocks.

    Parameters
    ----------
    name
        As it is shown.
    load
        That it reads, from the beginning each time.
    cores
        That it is kept on.
    """

    verified = True
    """Whether its records are features, and not just as large."""
    process: subprocess.Popen[bytes] | None = None

    def __init__(self, name: str, load: Load, cores: frozenset[int]) -> None:
        self.name = name
        self.load = load
        self._cores = cores
        self._runs = 0

    @property
    def output(self) -> str:
        """Topic that its records go to."""
        return features_topic(self.load.settings, PIPELINE)

    @property
    def records(self) -> int:
        """How many records it gives."""
        return self.load.blocks

    async def start(self) -> int:
        """Start it, as one that has seen nothing, and give its process id."""
        self._runs += 1
        name = f"{self.load.settings.app_id}-{''.join(filter(str.isalnum, self.name))}-{self._runs}"
        datadir = self.load.settings.datadir / name
        datadir.mkdir(parents=True)
        settings = self.load.settings.model_copy(update={"app_id": name, "datadir": datadir, "tiers": ("rt",)})
        await self._prepare(settings)
        with kept_on(self._cores):
            self.process = self._start(settings)
        return self.process.pid

    @abstractmethod
    async def _prepare(self, settings: Settings) -> None:
        """Create the topics of a run."""

    @abstractmethod
    def _start(self, settings: Settings) -> subprocess.Popen[bytes]:
        """Start its process for a run."""

    def check_runs(self) -> None:
        """Refuse to go on where it has ended.

        Raises
        ------
        BenchError
            It has.
        """
        if self.process is None or self.process.poll() is not None:
            raise BenchError(f"{self.name} has ended; see the logs in {self.load.settings.datadir}")

    async def stop(self) -> None:
        """Stop it, or end it: stock Faust does not always stop."""
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                await asyncio.to_thread(self.process.wait, STOP_SECONDS)
        self.kill()

    def kill(self) -> None:
        """End it at once, whatever has happened."""
        if self.process is not None:
            if self.process.poll() is None:
                self.process.kill()
            self.process.wait()


class Continuum(Contender):
    """A worker of ours, with its mirror.

    Parameters
    ----------
    checkpoint_seconds
        Between checkpoints; None for none but at the end.
    """

    def __init__(self, name: str, load: Load, cores: frozenset[int], checkpoint_seconds: float | None) -> None:
        super().__init__(name, load, cores)
        self._checkpoint_seconds = NEVER if checkpoint_seconds is None else checkpoint_seconds
        self._worker: WorkerProcess | None = None

    async def _prepare(self, settings: Settings) -> None:
        await create_state_topics(settings)

    def _start(self, settings: Settings) -> subprocess.Popen[bytes]:
        # Full throttle is many times a sensor's true speed, and would bring a checkpoint by its number of blocks.
        often = {"checkpoint_seconds": self._checkpoint_seconds, "checkpoint_messages": 10**9}
        self._worker = WorkerProcess(settings.model_copy(update=often), settings.datadir / "worker.log")
        return self._worker.process

    async def ready(self) -> None:
        """Wait until it has its partitions."""
        if self._worker is not None:
            await self._worker.ready(120.0)

    def check_runs(self) -> None:
        """Refuse to go on where it has ended; its log says why."""
        if self._worker is not None and self._worker.process.poll() is not None:
            raise self._worker.failed("has ended")

    async def stop(self) -> None:
        """Stop it."""
        if self._worker is not None and await self._worker.stop() != 0:
            raise self._worker.failed("did not stop well")


class PlainFaust(Contender):
    """The plain agent (`app.bench.plain_agent`)."""

    async def _prepare(self, settings: Settings) -> None:
        await create_topics(settings, [Topic(f"{settings.app_id}-state-changelog", PARTITIONS)])

    def _start(self, settings: Settings) -> subprocess.Popen[bytes]:
        environment = {
            "PLAIN_AGENT_KAFKA": str(settings.kafka_bootstrap),
            "PLAIN_AGENT_GROUP": settings.app_id,
            "PLAIN_AGENT_PREFIX": settings.topic_prefix,
            "PLAIN_AGENT_DATADIR": str(settings.datadir / "plain"),
        }
        arguments = ["faust", "-A", "app.bench.plain_agent", "worker", "-l", "warn", "--without-web"]
        return started_process(arguments, settings.datadir / "plain.log", environment)


class BareKafka(Contender):
    """aiokafka alone, which reads the same bytes and sends as many as the features have (`app.bench.bare_kafka`).

    Parameters
    ----------
    size
        Bytes of a feature record.
    """

    verified = False

    def __init__(self, name: str, load: Load, cores: frozenset[int], size: int) -> None:
        super().__init__(name, load, cores)
        self._size = size
        self._per_record = load.plan.gateway_sensors

    @property
    def output(self) -> str:
        """Topic that its records go to."""
        return f"{self.load.settings.topic_prefix}bare-features"

    @property
    def records(self) -> int:
        """How many records it gives: as many for each message."""
        gateways = -(-self.load.shape.sensors // self._per_record)
        return gateways * self._per_record * self.load.blocks_per_sensor

    async def _prepare(self, settings: Settings) -> None:
        await create_topics(settings, [Topic(self.output, FEATURE_PARTITIONS, config=APPEND_TIME)])

    def _start(self, settings: Settings) -> subprocess.Popen[bytes]:
        numbers = [str(self._per_record), str(self._size)]
        arguments = ["app.bench.bare_kafka", settings.app_id, sensor_topic(settings, "rt"), self.output, *numbers]
        return started_process(arguments, settings.datadir / "bare.log", as_environment(settings))


def started_process(arguments: list[str], log: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start a module of Python's in a process of its own."""
    with log.open("ab") as output:
        return subprocess.Popen(  # noqa: S603 - our own words
            [sys.executable, "-m", *arguments],
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=Path(__file__).parents[2],
            start_new_session=True,  # so that Ctrl-C reaches it by way of us, once
        )
