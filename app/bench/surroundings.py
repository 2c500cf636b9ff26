"""What a suite works on: Kafka and Redis, its own topics and folder on them, and what is deleted after it."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from app.bench.conditions import Conditions, Service, conditions
from app.kafka_client import admin_client
from app.redis_client import RedisClient, redis_client
from app.services import given_addresses, temporary_services
from app.services.jars import LOCK_FILE, read_lock
from app.services.kafka import KafkaServer
from app.services.redis import RedisServer
from app.settings import Settings, load_settings

_KEYS = 1000
"""Deleted at a time."""


@dataclass(frozen=True)
class Surroundings:
    """Kafka and Redis of a suite.

    Attributes
    ----------
    settings
        With the addresses, a topic prefix, a consumer group and a data folder of its own.
    given
        The settings whose servers were given, and so are none of ours.
    kafka_pid, redis_pid
        Processes of the embedded servers; None where one was given.
    """

    settings: Settings
    given: frozenset[str]
    kafka_pid: int | None
    redis_pid: int | None

    def part(self, name: str) -> Settings:
        """Give settings with topics, keys, a group and a folder of their own, for a part of the suite."""
        own = self.settings
        prefix = f"{own.app_id}-{name}"
        datadir = own.datadir / name
        datadir.mkdir(parents=True, exist_ok=True)
        return own.model_copy(update={"topic_prefix": f"{prefix}-", "app_id": prefix, "datadir": datadir})

    async def conditions(self) -> Conditions:
        """Give the conditions of the machine and of the services."""
        found = conditions()
        jars = {jar.artifact: jar.version for jar in read_lock(LOCK_FILE.read_text())}
        kafka = self.settings.kafka_bootstrap or ""
        if "kafka_bootstrap" in self.given:
            found.services["Kafka"] = Service("version not told", f"given at {kafka}")
        else:
            found.services["Kafka"] = Service(jars["kafka_2.13"], f"embedded at {kafka}")
        redis = redis_client(self.settings)
        try:
            version = await _redis_version(redis)
        finally:
            await redis.aclose()
        kind = "given" if "redis_url" in self.given else "embedded"
        found.services["Redis"] = Service(version, f"{kind} at {_without_login(self.settings)}")
        return found


@contextmanager
def surroundings(progress: Callable[[str], None]) -> Iterator[Surroundings]:
    """Give the servers that the settings name, and embedded ones in place of the others, for the time of a `with`."""
    base = load_settings().datadir
    with temporary_services(base, progress=progress):
        settings = load_settings()
        name = f"bench-{secrets.token_hex(3)}"
        own = settings.model_copy(update={"topic_prefix": f"{name}-", "app_id": name, "datadir": base / "bench" / name})
        own.datadir.mkdir(parents=True)
        given = frozenset(given_addresses())
        yield Surroundings(
            own,
            given,
            None if "kafka_bootstrap" in given else KafkaServer(base).daemon.pid(),
            None if "redis_url" in given else RedisServer(base).daemon.pid(),
        )


@asynccontextmanager
async def discarded(settings: Settings) -> AsyncIterator[None]:
    """Delete all topics and keys with the prefix of the settings at the end of an `async with`.

    Their folder goes with them, but stays with the logs of its processes where something went wrong.
    """
    try:
        yield
    finally:
        await discard(settings)
    shutil.rmtree(settings.datadir, ignore_errors=True)


async def discard(settings: Settings) -> None:
    """Delete all topics and keys with the prefix of the settings."""
    async with admin_client(settings) as admin:
        names = [name for name in await admin.list_topics() if name.startswith(settings.topic_prefix)]
        if names:
            await admin.delete_topics(names)
    await forget_keys(settings)


async def forget_keys(settings: Settings) -> None:
    """Delete all keys with the prefix of the settings: states that the mirror has, claims, heartbeats."""
    redis = redis_client(settings)
    try:
        keys: list[bytes] = []
        async for key in redis.scan_iter(match=f"{settings.topic_prefix}*", count=_KEYS):
            keys.append(key)
            if len(keys) == _KEYS:
                await _unlink(redis, keys)
                keys = []
        await _unlink(redis, keys)
    finally:
        await redis.aclose()


async def _unlink(redis: RedisClient, keys: list[bytes]) -> None:
    pipeline = redis.pipeline(transaction=False)
    for key in keys:
        pipeline.unlink(key)
    await pipeline.execute()


async def _redis_version(redis: RedisClient) -> str:
    found = await redis.info("server")
    # A cluster answers by node.
    own = found if "redis_version" in found else next(iter(found.values()))
    return str(own["redis_version"])


def _without_login(settings: Settings) -> str:
    assert settings.redis_url is not None  # noqa: S101 - `redis_client` has refused that
    scheme, _, rest = settings.redis_url.get_secret_value().partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"
