"""Processes of our own, with logs of their own: what the demo, the benchmarks and the tests start and stop."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Self

from app.errors import ContinuumError
from app.settings import PREFIX, Settings, as_environment

LOG_LINES = 30
"""Lines of its log that a process's failure quotes."""

_FATAL = re.compile(r"^error: |Crashed reason=|^continuum: ")
_FAULT = re.compile(r"\[(ERROR|CRITICAL)\]|^Traceback ")


class ProcessFailedError(ContinuumError):
    """A process ended, or was not ready or not stopped in time; the text quotes its log."""

    exit_code = 1


class OwnProcess(ABC):
    """A process that runs a module of Python's, as the settings say.

    Parameters
    ----------
    arguments
        The module and its arguments.
    settings
        Its settings.
    log
        File that its output is appended to.
    """

    kind: ClassVar[str]
    """What it is, in a word."""

    def __init__(self, arguments: Sequence[str], settings: Settings, log: Path) -> None:
        self.log = log
        self._log_start = log.stat().st_size if log.exists() else 0
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        with log.open("ab") as output:
            self.process = subprocess.Popen(  # noqa: S603 - our own words
                [sys.executable, "-m", *arguments],
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
        ProcessFailedError
            It ended, or took longer.
        """
        try:
            async with asyncio.timeout(seconds):
                while not await self._is_ready():
                    if self.process.poll() is not None:
                        raise self.failed(await self.ended())
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise self.failed(f"not ready after {seconds:g} s") from None

    @abstractmethod
    async def _is_ready(self) -> bool:
        """Look whether it processes its partitions."""

    async def ended(self) -> str:
        """Wait until it has ended, and give how, in words."""
        while (code := self.process.poll()) is None:  # noqa: ASYNC110 - it is another process that ends
            await asyncio.sleep(0.1)
        return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    async def wait(self, seconds: float = 30.0) -> int:
        """Wait until it has ended, and give its exit code.

        Raises
        ------
        ProcessFailedError
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

    def failed(self, what: str) -> ProcessFailedError:
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
        return ProcessFailedError("\n".join([f"{self.kind} {what}; of its log, {self.log}:", *told]))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
