"""The contenders of the throughput benchmark: how each is fed, started and stopped."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path

from app.pipelines import known_pipelines
from app.replay import Encoding
from app.settings import Settings
from app.topics import Topic, create_topics, needed_topics
from app.worker_process import WorkerProcess


class Contender(ABC):
    """Something that makes feature records of blocks.

    Parameters
    ----------
    name
        As it is shown.
    encoding
        Of the blocks that it gets.
    settings
        With a topic prefix and a data folder of its own.
    """

    def __init__(self, name: str, encoding: Encoding, settings: Settings) -> None:
        self.name = name
        self.encoding: Encoding = encoding
        self.settings = settings
        settings.datadir.mkdir(parents=True, exist_ok=True)

    async def create_topics(self) -> None:
        """Create what it reads and writes."""
        await create_topics(self.settings, self.topics())

    def topics(self) -> list[Topic]:
        """Topics that it needs."""
        return needed_topics(self.settings, known_pipelines(self.settings.pipelines))

    @abstractmethod
    async def start(self) -> int:
        """Start it, and give its process id."""

    @abstractmethod
    async def stop(self) -> None:
        """Stop it."""

    @abstractmethod
    def kill(self) -> None:
        """End it at once, whatever has happened."""


class Continuum(Contender):
    """A worker of ours, with its checkpoints and its mirror."""

    worker: WorkerProcess | None = None

    async def start(self) -> int:
        """Start it, and give its process id."""
        self.worker = WorkerProcess(self.settings, self.settings.datadir / "worker.log")
        return self.worker.process.pid

    async def stop(self) -> None:
        """Stop it."""
        if self.worker is not None and await self.worker.stop() != 0:
            raise self.worker.failed("did not stop well")

    def kill(self) -> None:
        """End it at once."""
        if self.worker is not None:
            self.worker.kill()


class PlainFaust(Contender):
    """The plain agent (`app.bench.plain_agent`)."""

    process: subprocess.Popen[bytes] | None = None

    def topics(self) -> list[Topic]:
        """Topics that it needs: its table's changelog beside the sensors' and the features'."""
        prefix = self.settings.topic_prefix
        names = [f"{prefix}rt-sensors", f"{prefix}ecg-features", f"{prefix}plain-state-changelog"]
        return [Topic(name, 50) for name in names]

    async def start(self) -> int:
        """Start it, and give its process id."""
        environment = {
            **os.environ,
            "PLAIN_AGENT_KAFKA": str(self.settings.kafka_bootstrap),
            "PLAIN_AGENT_PREFIX": self.settings.topic_prefix,
            "PLAIN_AGENT_DATADIR": str(self.settings.datadir / "plain"),
        }
        command = [
            sys.executable,
            "-m",
            "faust",
            "-A",
            "app.bench.plain_agent",
            "worker",
            "-l",
            "warn",
            "--without-web",
        ]
        with (self.settings.datadir / "plain.log").open("ab") as log:
            self.process = subprocess.Popen(  # noqa: S603, ASYNC220 - our own words; returns at once
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=Path(__file__).parents[2],
            )
        return self.process.pid

    async def stop(self) -> None:
        """Stop it, or end it: stock Faust does not always stop."""
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                await asyncio.to_thread(self.process.wait, 20)
        self.kill()

    def kill(self) -> None:
        """End it at once."""
        if self.process is not None:
            if self.process.poll() is None:
                self.process.kill()
            self.process.wait()
