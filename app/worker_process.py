"""A worker as a process of its own: what the demo, the benchmark and the tests start and stop."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import ClassVar, Self

import aiohttp
import msgspec

from app.errors import ContinuumError
from app.runtime.instance import living_workers
from app.settings import PREFIX, Settings, as_environment
from app.web.status import WorkerStatus

LOG_LINES = 30
"""Lines of its log that a worker's failure quotes."""

_FATAL = re.compile(r"^error: |Crashed reason=|^continuum: ")
_FAULT = re.compile(r"\[(ERROR|CRITICAL)\]|^Traceback ")


class WorkerFailedError(ContinuumError):
    """A worker ended, or was not ready or not stopped in time; the text quotes its log."""

    exit_code = 1


class WorkerProcess:
    """A worker process.

    Parameters
    ----------
    settings
        Its settings.
    log
        File that its output is appended to.
    """

    application: ClassVar[str] = "app"
    """What Faust runs."""

    def __init__(self, settings: Settings, log: Path) -> None:
        self.url: str | None = None
        """Of its web pages, once they are served."""
        self.log = log
        self._log_start = log.stat().st_size if log.exists() else 0
        self._datadir = settings.datadir
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        with log.open("ab") as output:
            self.process = subprocess.Popen(  # noqa: S603 - our own words
                [sys.executable, "-m", "faust", "-A", self.application, "worker", "-l", "info"],
                env={**inherited, **as_environment(settings)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=Path(__file__).parents[1],
                start_new_session=True,  # so that Ctrl-C reaches it by way of us, once
            )

    async def ready(self, seconds: float = 60.0) -> None:
        """Wait until it has its partitions and processes them.

        Raises
        ------
        WorkerFailedError
            It ended, or took longer.
        """
        try:
            async with asyncio.timeout(seconds), aiohttp.ClientSession() as session:
                while not await self._answers_ready(session):  # noqa: ASYNC110 - it is another process that gets ready
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise self.failed(f"not ready after {seconds:g} s") from None

    async def _answers_ready(self, session: aiohttp.ClientSession) -> bool:
        if self.process.poll() is not None:
            raise self.failed(await self.ended())
        self.url = next((own.url for own in living_workers(self._datadir) if own.pid == self.process.pid), None)
        if self.url is None:
            return False
        try:
            async with session.get(f"{self.url}/readyz") as response:
                return response.status == 200
        except aiohttp.ClientError:
            return False

    async def ended(self) -> str:
        """Wait until it has ended, and give how, in words."""
        while (code := self.process.poll()) is None:  # noqa: ASYNC110 - it is another process that ends
            await asyncio.sleep(0.1)
        return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"

    async def status(self) -> WorkerStatus:
        """Ask for its figures."""
        async with aiohttp.ClientSession() as session, session.get(f"{self.url}/v1/status") as response:
            return msgspec.json.decode(await response.read(), type=WorkerStatus)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    async def wait(self, seconds: float = 30.0) -> int:
        """Wait until it has ended, and give its exit code.

        Raises
        ------
        WorkerFailedError
            It took longer; it has been killed.
        """
        try:
            return await asyncio.to_thread(self.process.wait, seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise self.failed(f"not stopped after {seconds:g} s, and killed") from None

    async def stop(self) -> int:
        """Tell it to stop, and give its exit code."""
        self.signal(signal.SIGTERM)
        return await self.wait()

    def kill(self) -> None:
        """End it at once, if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def failed(self, what: str) -> WorkerFailedError:
        """Make the error that says what went wrong, with what its log has to say of it."""
        with self.log.open("rb") as file:
            file.seek(self._log_start)
            lines = file.read().decode(errors="replace").splitlines()
        # Faust's start and its rebalances draw tables, and its end says much after what it was that went wrong.
        lines = [line for line in lines if not line.startswith(("+", "|"))]
        fatal = [number for number, line in enumerate(lines) if _FATAL.search(line)]
        faults = [number for number, line in enumerate(lines) if _FAULT.search(line)]
        first = fatal[0] if fatal else faults[-1] if faults else max(0, len(lines) - LOG_LINES)
        told = lines[first : first + LOG_LINES]
        return WorkerFailedError("\n".join([f"worker {what}; of its log, {self.log}:", *told]))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
