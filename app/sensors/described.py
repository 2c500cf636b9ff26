"""What Redis says of sensors: the pipelines and tiers that were set, and those that ran last.

A Redis client is all that is needed: workers, the on-demand function and ingest ask here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from redis.exceptions import ResponseError

from app.mirror.keys import sensor_key
from app.redis_client import RedisClient
from app.sensors.metadata import NOTHING_SET, SensorMeta, decode_labels, encode_labels

SENSORS_A_CALL = 1000
"""Of whom a pipeline of commands asks or tells."""


class Described(NamedTuple):
    """A sensor, as Redis has it; what it does not know is empty."""

    meta: SensorMeta
    """What was set."""
    pipeline: str
    """That ran last."""
    tier: str
    """That had the sensor last."""
    restarts: int
    """Of the state that Redis has, as is the next one; 0 and -1 where it has none."""
    next: int


UNKNOWN = Described(NOTHING_SET, "", "", 0, -1)


async def described(redis: RedisClient, prefix: str, sensor_ids: Sequence[str]) -> dict[str, Described]:
    """Read what Redis knows of sensors, of up to 1,000 in one round trip.

    Raises
    ------
    REDIS_ERRORS
        Redis does not answer.
    """
    found: dict[str, Described] = {}
    for begin in range(0, len(sensor_ids), SENSORS_A_CALL):
        some = sensor_ids[begin : begin + SENSORS_A_CALL]
        commands = redis.pipeline(transaction=False)
        for sensor_id in some:
            commands.hmget(
                sensor_key(prefix, sensor_id, "meta"), "set_pipeline", "set_tier", "labels", "pipeline", "tier"
            )
            commands.hmget(sensor_key(prefix, sensor_id, "state"), "restarts", "next")
        answers = iter(await answers_to(commands))
        for sensor_id, meta, state in zip(some, answers, answers, strict=False):
            found[sensor_id] = _described(meta or [None] * 5, state or [None] * 2)
    return found


async def answers_to(commands: Any) -> list[Any]:
    """Run a pipeline of commands; gives None where Redis refuses one, as for a key that is not ours.

    Raises
    ------
    REDIS_ERRORS
        Redis does not answer.
    """
    answers = await commands.execute(raise_on_error=False)
    for answer in answers:
        if isinstance(answer, Exception) and type(answer) is not ResponseError:
            raise answer
    return [None if isinstance(answer, Exception) else answer for answer in answers]


def _described(meta: Sequence[bytes | None], state: Sequence[bytes | None]) -> Described:
    set_pipeline, set_tier, labels, pipeline, tier = meta
    restarts, next_index = state
    return Described(
        SensorMeta(_text(set_pipeline), _text(set_tier), decode_labels(labels) if labels else {}),
        _text(pipeline),
        _text(tier),
        number(restarts) or 0,
        -1 if (index := number(next_index)) is None else index,
    )


def number(value: bytes | None) -> int | None:
    """Read a whole number; None where there is none."""
    return int(value) if value is not None and value.lstrip(b"-").isdigit() else None


def _text(value: bytes | None) -> str:
    return (value or b"").decode(errors="replace")


async def pipelines_of(redis: RedisClient, prefix: str, sensor_ids: Sequence[str]) -> dict[str, str]:
    """Tell which pipeline each sensor's blocks run that name none: the one set, else the one that ran last.

    Sensors of which Redis knows neither are left out: theirs is their tier's.

    Raises
    ------
    REDIS_ERRORS
        Redis does not answer.
    """
    answers = await described(redis, prefix, sensor_ids)
    return {id_: name for id_, own in answers.items() if (name := own.meta.pipeline or own.pipeline)}


async def tiers_of(redis: RedisClient, prefix: str, sensor_ids: Sequence[str]) -> dict[str, str]:
    """Tell to which tier each sensor's blocks go that name none: the one set, else the one that had it last.

    Sensors of which Redis knows neither are left out.

    Raises
    ------
    REDIS_ERRORS
        Redis does not answer.
    """
    answers = await described(redis, prefix, sensor_ids)
    return {id_: name for id_, own in answers.items() if (name := own.meta.tier or own.tier)}


async def write_set(redis: RedisClient, prefix: str, metas: Mapping[str, SensorMeta]) -> None:
    """Write what was set of sensors, over whatever Redis has of it.

    Raises
    ------
    REDIS_ERRORS
        Redis did not take all of it. To write it again does no harm.
    """
    items = list(metas.items())
    for begin in range(0, len(items), SENSORS_A_CALL):
        commands = redis.pipeline(transaction=False)
        for sensor_id, meta in items[begin : begin + SENSORS_A_CALL]:
            key = sensor_key(prefix, sensor_id, "meta")
            fields: dict[Any, Any] = {
                "set_pipeline": meta.pipeline,
                "set_tier": meta.tier,
                "labels": encode_labels(meta.labels) if meta.labels else b"",
            }
            given = {name: value for name, value in fields.items() if value}
            if given:
                commands.hset(key, mapping=given)
            if len(given) < len(fields):
                commands.hdel(key, *(fields.keys() - given.keys()))
        await commands.execute()
