"""The heartbeat: every worker's figures in Redis, so that any worker's pages show all.

A worker's figures lie under a key of their own that expires, so a worker that dies disappears by itself. An index
names the workers: Redis also holds several keys a sensor, and looking through all of them for the workers' would
take it a quarter of a second for each 100,000 sensors, each time a page asks.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import cast

import msgspec
from mode import Service

from app.redis_client import REDIS_ERRORS, RedisClient, explain, learn_nodes, may_have_lost_writes
from app.web.status import WorkerStatus

logger = logging.getLogger(__name__)

BEAT_SECONDS = 2.0
LIFETIME_SECONDS = 10
"""Figures that old are those of a worker that is gone."""

FORGET_SECONDS = 3600
"""The index keeps names for so long after their last beat; far more than the workers' clocks differ by."""

ANSWER_SECONDS = 1.0
"""Longest wait for Redis: a page and a stopping worker wait with us."""


def worker_key(prefix: str, instance: str) -> str:
    """Redis key of a worker's figures: JSON of a `WorkerStatus`."""
    return f"{prefix}worker:{instance}"


def index_key(prefix: str) -> str:
    """Redis key of the workers' names: a sorted set, by the time of their last beat."""
    return f"{prefix}workers"


class Heartbeat(Service):
    """Publishes a worker's figures every two seconds, and withdraws them on a clean stop.

    A crashed worker's figures are left to expire, so that pages show it as silent before it disappears.

    Parameters
    ----------
    redis
        Client.
    prefix
        Goes before every key.
    figures
        Gives the figures.
    """

    def __init__(self, redis: RedisClient, prefix: str, figures: Callable[[], WorkerStatus]) -> None:
        super().__init__()
        self._redis = redis
        self._prefix = prefix
        self._figures = figures
        self._published: str | None = None
        self._writing = asyncio.Lock()
        self._failing = False

    @Service.task
    async def _run(self) -> None:
        while not self.should_stop:
            await self._beat()
            await self.sleep(BEAT_SECONDS)

    async def _beat(self) -> None:
        try:
            async with _answering(self._redis), self._writing:
                if not self.should_stop:  # else what is withdrawn would come back
                    await self._publish(self._figures())
        except REDIS_ERRORS as error:
            if not self._failing:
                logger.warning("heartbeat: %s; other workers' pages miss this one", explain(error))
            self._failing = True
            return
        if self._failing:
            logger.info("heartbeat: Redis answers again")
        self._failing = False

    async def _publish(self, status: WorkerStatus) -> None:
        self._published = status.instance
        index = index_key(self._prefix)
        commands = self._redis.pipeline(transaction=False)
        commands.set(worker_key(self._prefix, status.instance), msgspec.json.encode(status), ex=LIFETIME_SECONDS)
        commands.zadd(index, {status.instance: status.now})
        commands.zremrangebyscore(index, "-inf", status.now - FORGET_SECONDS)
        commands.expire(index, FORGET_SECONDS)
        await commands.execute()

    async def on_stop(self) -> None:
        """Withdraw the figures, where Redis answered so far: a stop has better to do than to wait for it."""
        if self.crashed or self._failing or self._published is None:
            return
        try:
            async with _answering(self._redis), self._writing:
                commands = self._redis.pipeline(transaction=False)
                commands.delete(worker_key(self._prefix, self._published))
                commands.zrem(index_key(self._prefix), self._published)
                await commands.execute()
        except REDIS_ERRORS as error:
            logger.warning("heartbeat: not withdrawn, it expires by itself: %s", explain(error))


@asynccontextmanager
async def _answering(redis: RedisClient) -> AsyncIterator[None]:
    """Wait for Redis no longer than a page may; where it does not answer, learn which nodes a cluster has now."""
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            yield
    except REDIS_ERRORS:
        with suppress(TimeoutError):
            async with asyncio.timeout(ANSWER_SECONDS):
                await learn_nodes(redis)
        raise


async def all_workers(redis: RedisClient, prefix: str) -> list[WorkerStatus]:
    """Read the figures of all workers, by instance; entries that cannot be read are left out.

    Raises
    ------
    REDIS_ERRORS
        Redis does not answer, or not within a second.
    """
    async with _answering(redis):
        instances = sorted(cast("list[bytes]", await redis.zrange(index_key(prefix), 0, -1)))
        commands = redis.pipeline(transaction=False)
        for instance in instances:
            commands.get(worker_key(prefix, instance.decode(errors="replace")))
        values = await commands.execute(raise_on_error=False)
        for value in values:
            if isinstance(value, Exception) and may_have_lost_writes(value):
                raise value
    workers = []
    for instance, value in zip(instances, values, strict=True):
        if value is None:  # expired
            continue
        try:
            workers.append(msgspec.json.decode(value, type=WorkerStatus))
        except (msgspec.DecodeError, TypeError) as error:  # another version's, or not ours at all
            logger.debug("heartbeat of %r cannot be read: %s", instance, error)
    return workers
