"""The workers of a run: each a process in a slot of its own, started again whenever it ends."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Self

from app.own_process import ProcessFailedError
from app.services.service import Progress
from app.settings import Settings
from app.worker_process import WorkerProcess

_POLL_SECONDS = 0.05

#: Between an end and the next start, as a service manager does; longer where it ends again at once.
_PAUSE, _LONGEST_PAUSE = 0.5, 4.0
_SHORT_LIFE = 10.0

#: Beyond its own deadline, for a machine with much to do.
_GRACE = 20.0

_READY_SECONDS = 240.0


class Slot:
    """A worker's place: its settings, its folder and its log stay while its processes come and go.

    Parameters
    ----------
    number
        From 1.
    settings
        Of its processes; the data folder is its own.
    log
        File that their output is appended to.
    progress
        Told of every end that nobody asked for.
    """

    def __init__(self, number: int, settings: Settings, log: Path, progress: Progress) -> None:
        self.number = number
        self.settings = settings
        self.log = log
        self.worker: WorkerProcess | None = None
        self.unasked: Counter[int] = Counter()
        """Exit codes of the ends that nobody asked for."""
        self.busy = asyncio.Lock()
        """Held by a fault that needs the slot to itself."""
        self._progress = progress
        self._wanted = asyncio.Event()
        self._asked = False

    async def supervise(self) -> None:
        """Keep a process running whenever one is wanted, for ever."""
        pause = _PAUSE
        while True:
            await self._wanted.wait()
            self._asked = False
            began = time.monotonic()
            worker = self.worker = WorkerProcess(self.settings, self.log)
            while (code := worker.process.poll()) is None:  # noqa: ASYNC110 - nobody tells when a process ends
                await asyncio.sleep(_POLL_SECONDS)
            if not self._asked:
                self.unasked[code] += 1
                self._progress(f"worker {self.number} ended by itself with code {code}; its log is {self.log}")
            pause = min(2 * pause, _LONGEST_PAUSE) if time.monotonic() - began < _SHORT_LIFE else _PAUSE
            await asyncio.sleep(pause)

    def start(self) -> None:
        """Want a process."""
        self._wanted.set()

    @property
    def wanted(self) -> bool:
        """Whether it is to have a process."""
        return self._wanted.is_set()

    async def living(self) -> WorkerProcess:
        """Give the process, once there is one that runs."""
        while self.worker is None or self.worker.process.poll() is not None:  # noqa: ASYNC110 - nor when it begins
            await asyncio.sleep(_POLL_SECONDS)
        return self.worker

    async def end(self, number: signal.Signals, *, again: bool = True) -> int:
        """End the process that runs by a signal, and give its exit code.

        Parameters
        ----------
        number
            The signal.
        again
            Whether another is to be started after it.
        """
        worker = await self.living()
        self._asked = True
        if not again:
            self._wanted.clear()
        worker.signal(number)
        try:
            return await worker.wait(self.settings.shutdown_seconds + _GRACE)
        except ProcessFailedError as error:
            self._progress(f"worker {self.number}: {error}")
            return -signal.SIGKILL

    @asynccontextmanager
    async def down(self) -> AsyncIterator[None]:
        """Kill the process, and start none within the `with` block."""
        await self.end(signal.SIGKILL, again=False)
        try:
            yield
        finally:
            self.start()

    async def ready(self) -> None:
        """Wait until its process has its partitions, through however many ends.

        Raises
        ------
        ProcessFailedError
            None has for minutes.
        """
        try:
            async with asyncio.timeout(_READY_SECONDS):
                while True:
                    worker = await self.living()
                    # It may end meanwhile, or its folder be deleted.
                    with suppress(ProcessFailedError, FileNotFoundError):
                        return await worker.ready()
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError:
            raise ProcessFailedError(
                f"worker {self.number} is not ready after {_READY_SECONDS:g} s; its log is {self.log}"
            ) from None

    def kill(self) -> None:
        """End the process without a word, if it runs."""
        self._wanted.clear()
        if self.worker is not None:
            self.worker.kill()


class Fleet:
    """All slots; used as an asynchronous context manager, which supervises them and leaves no process behind.

    Parameters
    ----------
    workers
        How many run all the time; there is one slot more.
    settings
        Gives a slot's settings by its number.
    logs
        Folder of the workers' logs.
    progress
        Told of every end that nobody asked for.
    """

    def __init__(self, workers: int, settings: Callable[[int], Settings], logs: Path, progress: Progress) -> None:
        self.slots = [
            Slot(number, settings(number), logs / f"worker-{number}.log", progress) for number in range(1, workers + 2)
        ]
        self._workers = workers
        self._supervisors: list[asyncio.Task[None]] = []

    def slot(self, number: int) -> Slot:
        """Give a slot by its number."""
        return self.slots[number - 1]

    @property
    def regular(self) -> Sequence[Slot]:
        """The slots whose workers run all the time."""
        return self.slots[: self._workers]

    async def start(self) -> None:
        """Start the regular workers; return when all have their partitions."""
        for slot in self.regular:
            slot.start()
        await self.ready()

    async def ready(self) -> None:
        """Wait until every worker that is wanted has its partitions."""
        await asyncio.gather(*(slot.ready() for slot in self.slots if slot.wanted))

    async def stop(self) -> list[int]:
        """Stop all workers at once by SIGTERM, and give their exit codes."""
        return await asyncio.gather(*(slot.end(signal.SIGTERM, again=False) for slot in self.slots if slot.wanted))

    async def __aenter__(self) -> Self:
        self._supervisors = [asyncio.create_task(slot.supervise()) for slot in self.slots]
        return self

    async def __aexit__(self, *_: object) -> None:
        for supervisor in self._supervisors:
            supervisor.cancel()
        await asyncio.gather(*self._supervisors, return_exceptions=True)
        for slot in self.slots:
            slot.kill()
