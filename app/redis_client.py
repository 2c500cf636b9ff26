"""The Redis client that the settings describe."""

from __future__ import annotations

from typing import Any

from redis.asyncio import Redis

from app.settings import Settings, SettingsError

CONNECT_SECONDS, ANSWER_SECONDS = 2.0, 5.0


def redis_client(settings: Settings) -> Redis:
    """Make a client that answers with bytes; it connects on first use.

    Raises
    ------
    SettingsError
        No Redis is configured.
    """
    if settings.redis_url is None:
        raise SettingsError("no Redis: run `continuum up` for an embedded one, or set CONTINUUM_REDIS_URL")
    options: dict[str, Any] = {}
    if settings.redis_password:
        options["password"] = settings.redis_password.get_secret_value()
    if settings.redis_ssl_cafile:
        options["ssl_ca_certs"] = str(settings.redis_ssl_cafile)
    client: Redis = Redis.from_url(
        settings.redis_url.get_secret_value(),
        socket_connect_timeout=CONNECT_SECONDS,
        socket_timeout=ANSWER_SECONDS,
        **options,
    )
    return client
