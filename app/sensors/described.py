"""What Redis says of sensors: the pipelines and tiers that were set, and those that ran last.

A Redis client is all that is needed: workers, the on-demand function and ingest ask here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from redis.exceptions import ResponseError

from app.mirror.keys import sensor_key, sensor_keys
from app.mirror.script import Call, Script
from app.mirror.wire import encoded
from app.redis_client import RedisClient
from app.sensors.metadata import NOTHING_SET, SensorMeta, decode_labels, encode_labels

SENSORS_A_CALL = 1000
"""Of whom a pipeline of commands asks or tells."""


SET_FIELDS = ("set_pipeline", "set_tier", "labels")
"""Of a sensor's `meta` hash: what a person has set."""

Fields = Mapping[str, bytes | None]


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

    @property
    def runs(self) -> str:
        """Pipeline of its blocks that name none: the one set, else the one that ran last; empty for its tier's."""
        return self.meta.pipeline or self.pipeline

    @property
    def goes_to(self) -> str:
        """Tier of its blocks that name none: the one set, else the one that had it last; empty where nobody said."""
        return self.meta.tier or self.tier


UNKNOWN = Described(NOTHING_SET, "", "", 0, -1)


_STATE = ("restarts", "next")
_META = ("pipeline", "tier", *SET_FIELDS)


async def described(redis: RedisClient, prefix: str, sensor_ids: Sequence[str]) -> dict[str, Described]:
    """Read what Redis knows of sensors, of all in one round trip.

    Raises
    ------
    REDIS_ERRORS
        Redis does not answer.
    """
    answers = await read_hashes(redis, prefix, sensor_ids, _STATE, _META)
    return {
        sensor_id: Described(
            set_of(meta),
            text(meta["pipeline"]),
            text(meta["tier"]),
            number(state["restarts"]) or 0,
            -1 if (index := number(state["next"])) is None else index,
        )
        for sensor_id, (state, meta) in zip(sensor_ids, answers, strict=True)
    }


async def read_hashes(
    redis: RedisClient, prefix: str, sensor_ids: Sequence[str], state: Sequence[str], meta: Sequence[str]
) -> list[tuple[Fields, Fields]]:
    """Read fields of the hashes of sensors, of all in one round trip.

    Parameters
    ----------
    redis, prefix
        Client, and what goes before every key.
    sensor_ids
        Whose.
    state, meta
        Fields of either hash.

    Returns
    -------
    list of (dict, dict)
        Of each sensor, in order; a field that Redis does not have is None.

    Raises
    ------
    REDIS_ERRORS
        Redis does not answer.
    """
    arguments = encoded(len(state), *state, *meta)
    calls = []
    for sensor_id in sensor_ids:
        state_key, _, meta_key = sensor_keys(prefix, sensor_id)
        calls.append(Call((state_key, meta_key), arguments))
    found: list[tuple[Fields, Fields]] = []
    for answer in await Script(redis, "read")(calls):
        if isinstance(answer, Exception):
            raise answer
        found.append((_fields(state, answer[0]), _fields(meta, answer[1])))
    return found


def _fields(names: Sequence[str], values: Sequence[bytes | None] | None) -> Fields:
    return dict.fromkeys(names) if values is None else dict(zip(names, values, strict=True))


async def _answers_to(commands: Any) -> list[Any]:
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


def set_of(meta: Fields) -> SensorMeta:
    """Give what was set of a sensor, as its `meta` hash has it."""
    labels = meta["labels"]
    return SensorMeta(text(meta["set_pipeline"]), text(meta["set_tier"]), decode_labels(labels) if labels else {})


def number(value: bytes | None) -> int | None:
    """Read a whole number; None where there is none."""
    return int(value) if value is not None and value.lstrip(b"-").isdigit() else None


def text(value: bytes | None) -> str:
    """Read a text; empty where there is none."""
    return (value or b"").decode(errors="replace")


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
