"""The Redis mirror of every sensor's state: behind the table by a moment, never in its way."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import islice
from typing import cast

from app import metrics
from app.mirror.markers import Markers
from app.mirror.ownership import Ownership
from app.mirror.states import Saved
from app.redis_client import REDIS_ERRORS, explain, may_have_lost_writes

logger = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0
"""Seconds between attempts while Redis does not answer."""

SENSORS_AT_ONCE, BYTES_AT_ONCE, GATHER_SECONDS = 400, 2 << 20, 0.05
"""How many states are written together, up to which size, and for how long they are gathered: a write has costs of its
own, as much as those of 100 states."""

CHECK_SECONDS = 1.0
"""Between looks whether Redis has lost what it had."""

MOST_WAITING = 20_000
"""States that wait while Redis is down; beyond, the oldest come from the table when it answers again."""

RESYNC_SENSORS, RESYNC_SECONDS = 50, 0.025
"""How many sensors are written again, and how often: 2,000 a second, so that new states and Redis's other clients
hardly notice."""


class Mirror:
    """Writes snapshots to Redis in the background, the newest of each sensor.

    While Redis is down they wait here, one a sensor and not too many, and processing goes on. After an outage, and when
    Redis has been flushed or failed over, all states are written again: which of them a lost node had taken cannot be
    known.

    Parameters
    ----------
    ownership
        Of the tier; its saves are used.
    on_refused
        Is told which states were refused: another owns those sensors, or has newer states of them.
    resync
        Gives the states that Redis should have, as the table has them. They are taken bit by bit over seconds while
        processing goes on, so it must bear changes meanwhile.
    """

    def __init__(
        self,
        ownership: Ownership,
        *,
        on_refused: Callable[[list[Saved]], None],
        resync: Callable[[], Iterable[Saved]],
    ) -> None:
        self._ownership = ownership
        self._on_refused = on_refused
        self._resync = resync
        self._markers = Markers(ownership.redis, ownership.prefix)
        self._tier = ownership.tier
        self._waiting: dict[str, Saved] = {}
        self._again: Iterator[Saved] | None = None
        self._outage = False
        self._pause = FIRST_PAUSE
        self._write_at = self._check_at = self._again_at = 0.0
        self._wake = asyncio.Event()
        # Two writers could bring a sensor's newer state to Redis before its older one.
        self._writing = asyncio.Lock()
        for counter in (metrics.MIRROR_SAVED, metrics.MIRROR_REFUSED, metrics.MIRROR_RESYNCED):
            counter.labels(self._tier)  # shown as 0 from the start
        self.up: bool | None = None
        """Whether Redis took the last write; None before the first."""
        self.last_error: str | None = None
        """Why Redis did not take a write, the last time it did not."""
        self.last_success: float | None = None
        """When Redis last took a write, s since the epoch."""
        self.resynced = 0
        """States written again so far."""

    @property
    def pending(self) -> int:
        """Snapshots that Redis does not have yet."""
        return len(self._waiting)

    def put(self, states: Iterable[Saved]) -> None:
        """Take the newest states; returns at once."""
        for state in states:
            # Taken out first, so that the oldest change always stands at the front.
            self._waiting.pop(state.sensor_id, None)
            self._waiting[state.sensor_id] = state
        if self.up is False and len(self._waiting) > MOST_WAITING:
            for sensor_id in list(islice(self._waiting, len(self._waiting) - MOST_WAITING)):
                del self._waiting[sensor_id]
            self._outage = True  # whatever the failure was: all are written again after it
        metrics.MIRROR_PENDING.labels(self._tier).set(self.pending)
        self._wake.set()

    def forget(self, sensor_ids: Iterable[str]) -> None:
        """Drop what waits of sensors that have been saved and released otherwise."""
        for sensor_id in sensor_ids:
            self._waiting.pop(sensor_id, None)
        metrics.MIRROR_PENDING.labels(self._tier).set(self.pending)

    async def run(self) -> None:
        """Write what is waiting, until cancelled."""
        loop, task = asyncio.get_running_loop(), cast("asyncio.Task[None]", asyncio.current_task())
        # Python 3.11's wait_for, which the client uses, may swallow a cancellation.
        while not task.cancelling():
            if self._waiting and loop.time() >= self._write_at:
                if await self._flush_some():
                    self._pause = FIRST_PAUSE
                    if len(self._waiting) < SENSORS_AT_ONCE:
                        self._write_at = loop.time() + GATHER_SECONDS
                else:
                    self._write_at = loop.time() + self._pause
                    self._pause = min(2 * self._pause, LONGEST_PAUSE)
            if loop.time() >= self._check_at:
                if self.up is not None:  # before the first write there is nothing to lose
                    await self._check()
                self._check_at = loop.time() + CHECK_SECONDS
            if self._again and loop.time() >= self._again_at:
                await self._write_again(self._again)
                self._again_at = loop.time() + RESYNC_SECONDS
            due = self._check_at
            if self._waiting:
                due = min(due, self._write_at)
            if self._again:
                due = min(due, self._again_at)
            self._wake.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    await self._wake.wait()

    async def flush(self, deadline: float) -> None:
        """Write all that is waiting, as far as Redis answers before a deadline on the loop's clock."""
        if self.up is False:
            return
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout_at(deadline):
                while self._waiting and loop.time() < deadline and await self._flush_some():
                    pass
        except TimeoutError:
            logger.warning("mirror: %d snapshots not written before the deadline", self.pending)

    async def _flush_some(self) -> bool:
        """Write some of what is waiting, and tell whether Redis took any of it."""
        async with self._writing:
            batch = list(self._oldest())
            refused, failed = await self._save(batch)
        if refused:
            self._on_refused(refused)
        done = {state.sensor_id for state in batch}
        for state in failed:
            done.discard(state.sensor_id)
            # To the end, so that the nodes of a cluster that answer go on getting their sensors.
            if self._waiting.get(state.sensor_id) is state:
                self._waiting[state.sensor_id] = self._waiting.pop(state.sensor_id)
        for state in batch:
            if state.sensor_id in done and self._waiting.get(state.sensor_id) is state:
                del self._waiting[state.sensor_id]
        metrics.MIRROR_PENDING.labels(self._tier).set(self.pending)
        return bool(done)

    def _oldest(self) -> Iterator[Saved]:
        size = 0
        for state in islice(self._waiting.values(), SENSORS_AT_ONCE):
            yield state
            size += len(state.snapshot)
            if size > BYTES_AT_ONCE:
                return

    async def _write_again(self, states: Iterator[Saved]) -> None:
        async with self._writing:
            some = list(islice(states, RESYNC_SENSORS))
            batch = [state for state in some if state.sensor_id not in self._waiting]
            if not some:
                logger.info("mirror: %s states are all in Redis again", self._tier)
                self._again = None
            if not batch:
                return
            # Refused may also be what the table had when Redis has newer; a sensor's next save tells who owns it.
            _, failed = await self._save(batch)
        self.resynced += len(batch) - len(failed)
        metrics.MIRROR_RESYNCED.labels(self._tier).inc(len(batch) - len(failed))

    async def _save(self, batch: list[Saved]) -> tuple[list[Saved], list[Saved]]:
        """Write states; gives those that were refused, and those that Redis did not take."""
        refused, failed, error = await self._ownership.try_save(batch)
        metrics.MIRROR_SAVED.labels(self._tier).inc(len(batch) - len(refused) - len(failed))
        metrics.MIRROR_REFUSED.labels(self._tier).inc(len(refused))
        self._note(error)
        return refused, failed

    async def _check(self) -> None:
        """Ask all masters; only their answers end an outage, as some of a cluster's take writes all the while."""
        try:
            lost = await self._markers.lost()
        except REDIS_ERRORS as error:
            self._note(error)
            return
        if self._outage:
            logger.info("mirror: Redis answers again; %d snapshots catch up", self.pending)
            self._outage = False
            self._pause, self._write_at = FIRST_PAUSE, 0.0
            self._note(None)
        elif lost:
            logger.warning("mirror: Redis has lost what it had; all %s states are written again", self._tier)
        else:
            return
        self._again = iter(self._resync())

    def _note(self, error: Exception | None) -> None:
        if error is None:
            self.last_success = time.time()
            self.up = not self._outage
        else:
            self.last_error = explain(error)
            if self.up is not False:
                logger.warning("mirror: %s; snapshots wait", self.last_error)
            self.up = False
            if may_have_lost_writes(error):
                self._outage = True
                self._again = None
        metrics.MIRROR_UP.labels(self._tier).set(self.up)
