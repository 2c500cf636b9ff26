"""The Redis client that the settings describe."""

from __future__ import annotations

import ssl
from contextlib import suppress
from typing import Any, TypeAlias
from urllib.parse import unquote

from redis.asyncio import Redis
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    ClusterDownError,
    NoPermissionError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError

from app.settings import Settings, SettingsError

RedisClient: TypeAlias = Redis | RedisCluster

REDIS_ERRORS = (RedisError, RedisClusterException, OSError)
"""All that a client raises where Redis does not answer or does not do what it is asked."""

CONNECT_SECONDS, ANSWER_SECONDS = 2.0, 2.0


def redis_client(settings: Settings) -> RedisClient:
    """Make a client that answers with bytes; it connects on first use.

    It tries again at most once, and without a pause: whoever uses it goes on without Redis, and asks again by itself.

    Raises
    ------
    SettingsError
        No Redis is configured.
    """
    if settings.redis_url is None:
        raise SettingsError("no Redis: run `continuum up` for an embedded one, or set CONTINUUM_REDIS_URL")
    scheme, _, rest = settings.redis_url.get_secret_value().partition("://")
    options: dict[str, Any] = {"socket_connect_timeout": CONNECT_SECONDS, "socket_timeout": ANSWER_SECONDS}
    if settings.redis_password:
        options["password"] = settings.redis_password.get_secret_value()
    if settings.redis_ssl_cafile and scheme.startswith("rediss"):
        options["ssl_ca_certs"] = str(settings.redis_ssl_cafile)
    if scheme.endswith("+cluster"):
        return _cluster_client(rest, ssl=scheme.startswith("rediss"), **options)
    # Again once: a connection may have been closed while nobody looked.
    again = Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,))
    client: Redis = Redis.from_url(f"{scheme}://{rest}", retry=again, **options)
    return client


def _cluster_client(address: str, **options: Any) -> RedisCluster:
    login, _, hosts = address.removesuffix("/").rpartition("@")
    user, _, password = login.partition(":")
    nodes = []
    for node in hosts.split(","):
        host, _, port = node.rpartition(":")
        nodes.append(ClusterNode(host.strip("[]"), int(port)))
    # Its own second try would close all connections, those to healthy nodes too.
    once = Retry(NoBackoff(), 0)
    options = {"username": unquote(user) or None, "password": unquote(password) or None, **options}
    return RedisCluster(startup_nodes=nodes, retry=once, **options)


async def learn_nodes(redis: RedisClient) -> None:
    """After an error, ask which nodes a cluster has now: a pipeline's errors make the client forget none."""
    if isinstance(redis, RedisCluster):
        with suppress(*REDIS_ERRORS):
            await redis.nodes_manager.initialize()


def explain(error: Exception) -> str:
    """Say in one line why Redis did not do what it was asked, and what to do about it."""
    causes: list[BaseException] = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None:
        causes.append(cause)
    text = " ".join(str(error).split()) or repr(error)
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"the certificate of Redis is not accepted ({cause.verify_message}): see CONTINUUM_REDIS_SSL_CAFILE"
        if isinstance(cause, AuthenticationError):
            return f"Redis refuses the login ({cause}): see CONTINUUM_REDIS_PASSWORD"
        if isinstance(cause, NoPermissionError):
            return f"Redis refuses us a command ({cause}): its user needs the rights to it"
    if isinstance(error, ResponseError):
        return f"Redis refuses a write ({text})"
    return f"Redis does not answer ({text})"


def may_have_lost_writes(error: Exception) -> bool:
    """Whether, after such an error, a Redis that answers again may lack what it had; not so where it just refused."""
    return not isinstance(error, ResponseError) or isinstance(error, ClusterDownError | ReadOnlyError)
