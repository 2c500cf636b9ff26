"""Notices that Redis has lost what it had: flushed, restarted without its data, or failed over to a replica behind."""

from __future__ import annotations

import secrets
from typing import cast

from redis.asyncio.cluster import RedisCluster

from app.mirror.keys import marker_key
from app.redis_client import RedisClient

LIFETIME_SECONDS = 3600
"""Markers of workers that are gone disappear after so long."""


class Markers:
    """A counter of this worker's on every master; one that is gone or behind tells that writes were lost.

    Parameters
    ----------
    redis
        Client that gives bytes.
    prefix
        Goes before every key.
    """

    def __init__(self, redis: RedisClient, prefix: str) -> None:
        self._redis = redis
        self._prefix = prefix
        self._token = secrets.token_hex(8)
        self._count = 0
        self._written: dict[str, int] = {}

    async def lost(self) -> bool:
        """Count on, and tell whether a master has lost what it had at the call before.

        Raises
        ------
        REDIS_ERRORS
            A master did not answer.
        """
        self._count += 1
        lost = False
        for tag in await self._tags():
            found = cast(
                "bytes | None",
                await self._redis.set(
                    marker_key(self._prefix, tag, self._token), self._count, ex=LIFETIME_SECONDS, get=True
                ),
            )
            before = self._written.get(tag)
            lost |= before is not None and (found is None or int(found) < before)
            self._written[tag] = self._count
        return lost

    async def _tags(self) -> list[str]:
        """Hash tags of one slot on each master."""
        if not isinstance(self._redis, RedisCluster):
            return ["0"]
        await self._redis.initialize()
        missing = {node.name for node in self._redis.get_primaries()}
        tags: list[str] = []
        number = 0
        while missing:
            node = self._redis.get_node_from_key(f"{{{number}}}")
            if node is not None and node.name in missing:
                missing.remove(node.name)
                tags.append(str(number))
            number += 1
        return tags
