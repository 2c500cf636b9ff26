"""Reading states from Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence

from app.mirror.keys import sensor_id_of, sensor_key
from app.redis_client import RedisClient
from app.state_copies.copies import Mirrored, StateCopy

SENSORS_A_CALL = 100
"""States are some kilobytes each."""


async def read_mirrored(redis: RedisClient, prefix: str, sensor_ids: Sequence[str]) -> list[StateCopy | None]:
    """Read the states of sensors; None for one that Redis has no snapshot of.

    Raises
    ------
    REDIS_ERRORS
        Redis does not answer.
    """
    pipeline = redis.pipeline()
    for sensor_id in sensor_ids:
        pipeline.hgetall(sensor_key(prefix, sensor_id, "state"))
        pipeline.hget(sensor_key(prefix, sensor_id, "meta"), "tier")
    answers = iter(await pipeline.execute())
    return [
        _copy(sensor_key(prefix, sensor_id, "state"), state, tier or b"")
        for sensor_id, state, tier in zip(sensor_ids, answers, answers, strict=False)
    ]


def _copy(key: str, state: Mapping[bytes, bytes], tier: bytes) -> StateCopy | None:
    if b"snapshot" not in state:
        return None  # claimed, and not saved yet
    mirrored = Mirrored(
        _number(state.get(b"epoch")),
        _text(state.get(b"owner")),
        _number(state.get(b"restarts")),
        _number(state.get(b"next")),
        _number(state.get(b"updated")),
        _text(state.get(b"wanted")),
    )
    return StateCopy.of("redis", tier.decode(errors="backslashreplace"), key, state[b"snapshot"], mirrored)


def _number(value: bytes | None) -> int | None:
    return int(value) if value is not None and value.lstrip(b"-").isdigit() else None


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode(errors="backslashreplace")


async def mirrored_sensors(redis: RedisClient, prefix: str) -> AsyncIterator[list[str]]:
    """Give the ids of all sensors that Redis has something of, some at a time; one may come twice.

    Raises
    ------
    REDIS_ERRORS
        Redis does not answer.
    """
    ids: list[str] = []
    async for key in redis.scan_iter(match=sensor_key(prefix, "*", "state"), count=1000):
        ids.append(sensor_id_of(prefix, key))
        if len(ids) == SENSORS_A_CALL:
            yield ids
            ids = []
    if ids:
        yield ids
