"""Keeping in Redis what has been set of sensors, for those who ask there: the function, and ingest."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from contextlib import suppress
from itertools import islice

from mode import Service
from redis.exceptions import ResponseError

from app.mirror.markers import Markers
from app.redis_client import REDIS_ERRORS, RedisClient, explain
from app.sensors.described import write_set
from app.sensors.metadata import NOTHING_SET, SensorMeta

logger = logging.getLogger(__name__)

CHECK_SECONDS = 5.0
"""Between looks whether Redis has lost what it had."""

RETRY_SECONDS = 1.0

SENSORS_AT_ONCE, PAUSE_SECONDS = 200, 0.05
"""How many are written, and how often, so that Redis's other clients hardly notice."""


class Upkeep(Service):
    """Writes to Redis what changes, and everything when this worker starts and when Redis has lost something.

    Whoever sets something writes it there himself; this is for what he could not, and what Redis did not keep.

    Parameters
    ----------
    redis, prefix
        Client, and what goes before every key.
    metas
        What has been set, by sensor; others change it.
    """

    def __init__(self, redis: RedisClient, prefix: str, metas: Mapping[str, SensorMeta]) -> None:
        super().__init__()
        self._redis = redis
        self._prefix = prefix
        self._metas = metas
        self._markers = Markers(redis, prefix)
        #: In the order in which they changed.
        self._changed: dict[str, None] = {}
        self._wake = asyncio.Event()

    def changed(self, sensor_ids: Iterable[str]) -> None:
        """Note sensors of which Redis is to be told."""
        self._changed |= dict.fromkeys(sensor_ids)
        self._wake.set()

    @Service.task
    async def _write(self) -> None:
        while not self.should_stop:
            await self._wake.wait()
            some = list(islice(self._changed, SENSORS_AT_ONCE))
            for sensor_id in some:
                del self._changed[sensor_id]
            if not self._changed:
                self._wake.clear()
            try:
                # As it is now: it may have changed again since.
                await write_set(self._redis, self._prefix, {id_: self._metas.get(id_, NOTHING_SET) for id_ in some})
            except REDIS_ERRORS as error:
                # A refusal concerns a key that is not ours, and the others have been written.
                if type(error) is ResponseError:
                    logger.warning("sensors: %s", explain(error))
                else:
                    self.changed(some)
                    await self.sleep(RETRY_SECONDS)
            await self.sleep(PAUSE_SECONDS)

    @Service.task
    async def _look_for_losses(self) -> None:
        while not self.should_stop:
            await self.sleep(CHECK_SECONDS)
            with suppress(*REDIS_ERRORS):
                if await self._markers.lost():
                    logger.info("Redis has lost data: what was set of %d sensors is written again", len(self._metas))
                    self.changed(list(self._metas))
