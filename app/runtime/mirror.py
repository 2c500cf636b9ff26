"""The Redis mirror of every sensor's state: behind the table by a moment, never in its way."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable
from importlib.resources import files
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from redis.exceptions import RedisError

from app import metrics
from app.dsp.snapshot import Position

if TYPE_CHECKING:
    from redis.asyncio import Redis

logger = logging.getLogger(__name__)

SENSORS_A_CALL = 200
"""Redis serves nobody else during a script, so one call takes no more than about a millisecond."""

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0
"""Seconds between attempts while Redis does not answer."""


class Saved(NamedTuple):
    """A sensor's state as the checkpoint wrote it."""

    sensor_id: str
    snapshot: bytes
    epoch: int
    next: int
    position: Position
    pipeline: str
    rate: float
    features: bytes
    """Its latest feature record."""


def sensor_key(prefix: str, sensor_id: str, part: str) -> str:
    """Redis key of a sensor; the braces keep all of one sensor's keys on one node of a cluster."""
    return f"{prefix}sensor:{{{sensor_id}}}:{part}"


class Mirror:
    """Writes snapshots to Redis in the background, the newest of each sensor.

    While Redis is down they wait here, one a sensor, and processing goes on.

    Parameters
    ----------
    redis
        Client that gives bytes.
    prefix
        Goes before every key.
    tier
        The owner that the mirror names.
    """

    def __init__(self, redis: Redis, prefix: str, tier: str) -> None:
        self._prefix = prefix
        self._tier = tier
        self._save = redis.register_script(files(__package__).joinpath("save.lua").read_text())
        self._waiting: dict[str, Saved] = {}
        self._wake = asyncio.Event()
        self.up: bool | None = None
        """Whether Redis took the last write; None before the first."""

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
        metrics.MIRROR_PENDING.set(self.pending)
        self._wake.set()

    async def run(self) -> None:
        """Write what is waiting, for ever."""
        pause = FIRST_PAUSE
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                if await self.flush_some():
                    pause = FIRST_PAUSE
                else:
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, LONGEST_PAUSE)

    async def flush(self, deadline: float) -> None:
        """Write all that is waiting, as far as Redis answers before a deadline on the loop's clock."""
        if self.up is False:
            return
        try:
            async with asyncio.timeout_at(deadline):
                while self._waiting and await self.flush_some():
                    pass
        except TimeoutError:
            logger.warning("mirror: %d snapshots not written before the deadline", self.pending)

    async def flush_some(self) -> bool:
        """Write some of what is waiting, and tell whether Redis took it."""
        batch = list(islice(self._waiting.values(), SENSORS_A_CALL))
        keys: list[str] = []
        arguments: list[Any] = []
        for state in batch:
            keys += [sensor_key(self._prefix, state.sensor_id, part) for part in ("state", "features", "meta")]
            position = f"{state.position.topic}-{state.position.partition}-{state.position.offset}"
            arguments += [state.snapshot, state.epoch, self._tier, state.next, position, int(time.time() * 1000)]
            arguments += [state.features, state.pipeline, self._tier, state.rate]
        try:
            refused = await self._save(keys=keys, args=arguments)
        except (RedisError, OSError) as error:
            if self.up is not False:
                logger.warning("mirror: Redis does not answer (%s); snapshots wait", error)
            self.up = False
            metrics.MIRROR_UP.set(0)
            return False
        if self.up is False:
            logger.info("mirror: Redis answers again; %d snapshots catch up", self.pending)
        self.up = True
        metrics.MIRROR_UP.set(1)
        metrics.MIRROR_SAVED.inc(len(batch) - len(refused))
        metrics.MIRROR_REFUSED.inc(len(refused))
        for state in batch:
            if self._waiting.get(state.sensor_id) is state:
                del self._waiting[state.sensor_id]
        metrics.MIRROR_PENDING.set(self.pending)
        return True
