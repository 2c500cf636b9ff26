"""Being told to stop: Ctrl-C, SIGTERM and a terminal that goes away all end a command the same, orderly way."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Coroutine
from types import FrameType, TracebackType
from typing import Any, Self, TypeVar

from app.cli.output import note

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

T = TypeVar("T")


class Interruption:
    """For the time of a `with` block, the first of these signals is a `KeyboardInterrupt`, and later ones are nothing.

    So what the block cleans up on its way out is not cut short: not by an impatient second Ctrl-C, nor by the second
    SIGTERM that `make` hands on. The interrupt ends the process with 128 and the signal's number, as shells have it.
    """

    def __init__(self) -> None:
        self._number: int | None = None
        self._cleaning = False
        self._task: asyncio.Task[Any] | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        for number in _SIGNALS:
            # What is ignored stays so: `nohup`, or a shell's background job.
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._take)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        interrupted = isinstance(error, KeyboardInterrupt) and self._number is not None
        for number, handler in self._before.items():
            # A signal on the way out would replace the exit code.
            signal.signal(number, signal.SIG_IGN if interrupted else handler)
        if self._number is not None and interrupted:
            note(f"interrupted by {signal.Signals(self._number).name}")
            sys.exit(128 + self._number)

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine, which an interrupt cancels; after it, only cleaning up is expected, and not interrupted."""
        try:
            return asyncio.run(self._cancellable(main))
        except asyncio.CancelledError:
            if self._number is None:
                raise
            raise KeyboardInterrupt from None
        finally:
            self._cleaning = True

    async def _cancellable(self, main: Coroutine[Any, Any, T]) -> T:
        self._task = asyncio.current_task()
        try:
            return await main
        finally:
            self._cleaning = True
            self._task = None

    def _take(self, number: int, _: FrameType | None) -> None:
        if self._cleaning or self._number is not None:
            return
        self._number = number
        if self._task is None:
            raise KeyboardInterrupt
        self._task.get_loop().call_soon_threadsafe(self._task.cancel)


def told_to_stop() -> asyncio.Event:
    """Give what is set once one of these signals comes: for a command that then finishes what it has in hand."""
    stop = asyncio.Event()
    for number in _SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop
