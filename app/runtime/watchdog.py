"""The watchdog: ends a worker that has stopped making progress, so that its supervisor starts it anew."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from faust.types import TP
from mode import Service

from app.errors import ContinuumError
from app.kafka_client import admin_client, client_options, started
from app.tiers import in_force

if TYPE_CHECKING:
    from app.faust_app import ContinuumApp
    from app.transport.recovery import TableManager

logger = logging.getLogger(__name__)

LOOK_SECONDS = 5.0
ANSWER_SECONDS = 10.0
"""Longest wait for the brokers."""

STALLED_EXIT = 1


class StalledError(ContinuumError):
    """Partitions of this worker grow, and it commits nothing of them."""


class Offsets(NamedTuple):
    """Where a partition's commit and its end stand."""

    committed: int
    end: int


class _Stand(NamedTuple):
    since: Offsets
    """As it was when the commit came to stand."""
    seconds: float
    """For how long the lag has been seen greater than then."""


class StallDetector:
    """Tells which partitions have stalled: their lag grows, and their commit does not move."""

    def __init__(self) -> None:
        self._stands: dict[TP, _Stand] = {}
        self._progress: object = None

    def forget(self) -> None:
        """Begin anew: what was seen so far says nothing about this worker."""
        self._stands.clear()

    def look(self, offsets: Mapping[TP, Offsets], progress: object, elapsed: float) -> dict[TP, float]:
        """Take note of where the partitions stand now.

        Parameters
        ----------
        offsets
            Of the partitions that the worker has.
        progress
            Any other sign of progress: whatever differs from the last look.
        elapsed
            Since the last look, s.

        Returns
        -------
        Seconds, by partition, for which the lag has been seen to grow.
        """
        if progress != self._progress:
            self._progress = progress
            self._stands.clear()
        stands = {}
        for tp, now in offsets.items():
            before = self._stands.get(tp)
            if before is None or before.since.committed != now.committed:
                stands[tp] = _Stand(now, 0.0)
            elif now.end > before.since.end:
                stands[tp] = _Stand(before.since, before.seconds + elapsed)
            else:
                stands[tp] = before
        self._stands = stands
        return {tp: stand.seconds for tp, stand in stands.items() if stand.seconds}


class Watchdog(Service):
    """Asks the brokers, with clients of its own in a thread of its own, whether this worker commits what it gets.

    Faust's consumers can stall for good, and its event loop can hang in a call that never returns: then nothing
    in them would notice. While the brokers do not answer, it is not this worker that stalls.

    Parameters
    ----------
    app
        The application.
    """

    def __init__(self, app: ContinuumApp, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.app = app
        self._detector = StallDetector()
        self._answering = True
        self._watching: tuple[asyncio.AbstractEventLoop, asyncio.Task[None]] | None = None
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
        self._main_loop: asyncio.AbstractEventLoop
        settings = app.settings
        # A commit is due when a checkpoint is; a group may take its time to rebalance.
        due = max(in_force(settings, tier).checkpoint_seconds for tier in settings.tiers)
        self._limit = settings.watchdog_seconds + due
        self._pause = min(LOOK_SECONDS, self._limit / 4)

    async def on_start(self) -> None:
        """Begin to watch."""
        self._main_loop = asyncio.get_running_loop()
        self._thread.start()

    async def on_stop(self) -> None:
        """Watch no longer, unless it is the watchdog that ends the process."""
        if self._watching is not None and not isinstance(self.crash_reason, StalledError):
            loop, task = self._watching
            loop.call_soon_threadsafe(task.cancel)
            await asyncio.to_thread(self._thread.join, ANSWER_SECONDS)

    def _run(self) -> None:
        try:
            asyncio.run(self._watch())
        except Exception as error:  # noqa: BLE001 - a worker that nobody watches must not go on
            asyncio.run_coroutine_threadsafe(self.crash(error), self._main_loop)

    async def _watch(self) -> None:
        self._watching = asyncio.get_running_loop(), cast("asyncio.Task[None]", asyncio.current_task())
        try:
            while True:
                try:
                    await self._watch_while_answered()
                except (KafkaError, ContinuumError, OSError) as error:  # a time-out is an OSError
                    if self._answering:
                        logger.warning("watchdog: the brokers do not answer (%r); it looks again when they do", error)
                    self._answering = False
                    self._detector.forget()
                    await asyncio.sleep(self._pause)
        except asyncio.CancelledError:
            return

    async def _watch_while_answered(self) -> None:
        settings = self.app.settings
        async with AsyncExitStack() as stack:
            async with asyncio.timeout(ANSWER_SECONDS):
                consumer = await stack.enter_async_context(
                    started(AIOKafkaConsumer(**client_options(settings)), settings)
                )
                admin = await stack.enter_async_context(admin_client(settings))
            last = time.monotonic()
            while True:
                async with asyncio.timeout(ANSWER_SECONDS):
                    offsets = await self._offsets(consumer, admin)
                self._answering = True
                # A worker that was paused has not stalled for all that time.
                elapsed, last = min(time.monotonic() - last, 2 * self._pause), time.monotonic()
                await self._judge(offsets, elapsed)
                await asyncio.sleep(self._pause)

    async def _offsets(self, consumer: AIOKafkaConsumer, admin: AIOKafkaAdminClient) -> dict[TP, Offsets]:
        tps = [TopicPartition(tp.topic, tp.partition) for tp in self.app.inputs()]
        if not tps:
            return {}
        committed = await admin.list_consumer_group_offsets(self.app.settings.group_id, partitions=tps)
        ends = await consumer.end_offsets(tps)
        begins = await consumer.beginning_offsets(tps)
        return {
            TP(tp.topic, tp.partition): Offsets(committed[tp].offset if tp in committed else begins[tp], ends[tp])
            for tp in tps
        }

    async def _judge(self, offsets: dict[TP, Offsets], elapsed: float) -> None:
        recovered_at = cast("TableManager", self.app.tables).recovery.progressed_at if offsets else None
        progress = recovered_at, self.app.rebalancing
        limit = self._limit + (self.app.settings.rebalance_timeout if self.app.rebalancing else 0.0)
        growing = self._detector.look(offsets, progress, elapsed)
        stalled = {tp: seconds for tp, seconds in growing.items() if seconds >= limit}
        if stalled:
            await self._end_worker(stalled, offsets)

    async def _end_worker(self, stalled: dict[TP, float], offsets: dict[TP, Offsets]) -> None:
        """End the process: in order, if that can still be done, else at once."""
        found = "; ".join(
            f"{tp.topic}-{tp.partition} is committed up to {offsets[tp].committed}, ends at {offsets[tp].end} and has"
            f" grown for {seconds:.0f} s"
            for tp, seconds in sorted(stalled.items())
        )
        reason = StalledError(
            f"this worker has stalled and exits with {STALLED_EXIT}, to be started again: {found}."
            " CONTINUUM_WATCHDOG_SECONDS sets how long that may last"
        )
        logger.critical("watchdog: %s", reason)
        asyncio.run_coroutine_threadsafe(self.crash(reason), self._main_loop)
        await asyncio.sleep(self.app.settings.shutdown_seconds)
        sys.stderr.write(f"continuum: stalled, and not stopped in time either; exiting with {STALLED_EXIT}\n")
        sys.stderr.flush()
        os._exit(STALLED_EXIT)
