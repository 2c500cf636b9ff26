"""All that Redis says of sensors, for people: where each is, what it runs, what was set."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import NamedTuple

from app.mirror.keys import sensor_id_of, sensor_key
from app.redis_client import RedisClient
from app.sensors.described import answers_to, number
from app.sensors.metadata import SensorMeta, decode_labels

SENSORS_A_CALL = 1000

_STATE = ("owner", "epoch", "restarts", "next", "updated", "position", "source")
_META = ("tier", "pipeline", "rate", "set_tier", "set_pipeline", "labels")


class Place(NamedTuple):
    """A place in a sensor topic."""

    topic: str
    partition: int
    offset: int
    """Of the next message; -1 where only the partition is known."""


class SensorRow(NamedTuple):
    """A sensor; what Redis does not know is empty, or None."""

    sensor_id: str
    meta: SensorMeta
    """What was set."""
    owner: str
    """Tier that has it now."""
    tier: str
    """That had it last."""
    pipeline: str
    """That ran last."""
    rate: float | None
    """Hz."""
    epoch: int | None
    restarts: int
    next: int | None
    """Index of the next sample of the state that Redis has."""
    updated: int | None
    """When that was saved, ms since the epoch."""
    position: Place | None
    """Up to where its blocks are in that state."""
    source: Place | None
    """Partition that its blocks came from last."""

    @property
    def runs(self) -> str:
        """Pipeline of its blocks that name none; empty where that is its tier's."""
        return self.meta.pipeline or self.pipeline

    @property
    def goes_to(self) -> str:
        """Tier to which ingest sends its blocks; empty where nobody has said."""
        return self.meta.tier or self.tier


async def read_rows(redis: RedisClient, prefix: str, sensor_ids: Sequence[str]) -> list[SensorRow]:
    """Read what Redis says of sensors.

    Raises
    ------
    REDIS_ERRORS
        Redis does not answer.
    """
    rows = []
    for begin in range(0, len(sensor_ids), SENSORS_A_CALL):
        some = sensor_ids[begin : begin + SENSORS_A_CALL]
        commands = redis.pipeline(transaction=False)
        for sensor_id in some:
            commands.hmget(sensor_key(prefix, sensor_id, "state"), *_STATE)
            commands.hmget(sensor_key(prefix, sensor_id, "meta"), *_META)
        answers = iter(await answers_to(commands))
        rows += [
            _row(sensor_id, dict(zip(_STATE, state or (), strict=False)), dict(zip(_META, meta or (), strict=False)))
            for sensor_id, state, meta in zip(some, answers, answers, strict=False)
        ]
    return rows


async def all_rows(redis: RedisClient, prefix: str) -> AsyncIterator[list[SensorRow]]:
    """Read what Redis says of all sensors, some at a time.

    Raises
    ------
    REDIS_ERRORS
        Redis does not answer.
    """
    seen: set[str] = set()
    new: list[str] = []
    async for key in redis.scan_iter(match=sensor_key(prefix, "*", "meta"), count=SENSORS_A_CALL):
        sensor_id = sensor_id_of(prefix, key)
        if sensor_id not in seen:
            seen.add(sensor_id)
            new.append(sensor_id)
        if len(new) == SENSORS_A_CALL:
            yield await read_rows(redis, prefix, new)
            new = []
    if new:
        yield await read_rows(redis, prefix, new)


def matching(
    rows: Sequence[SensorRow], tier: str | None, pipeline: str | None, labels: Mapping[str, str]
) -> Iterator[SensorRow]:
    """Give the sensors that are on a tier, run a pipeline and have labels, each where asked for."""
    for row in rows:
        if (
            tier in {None, row.owner or row.goes_to}
            and pipeline in {None, row.runs}
            and labels.items() <= row.meta.labels.items()
        ):
            yield row


def _row(sensor_id: str, state: Mapping[str, bytes | None], meta: Mapping[str, bytes | None]) -> SensorRow:
    labels = decode_labels(meta.get("labels") or b"{}")
    return SensorRow(
        sensor_id,
        SensorMeta(_text(meta.get("set_pipeline")), _text(meta.get("set_tier")), labels),
        _text(state.get("owner")),
        _text(meta.get("tier")),
        _text(meta.get("pipeline")),
        _rate(meta.get("rate")),
        number(state.get("epoch")),
        number(state.get("restarts")) or 0,
        number(state.get("next")),
        number(state.get("updated")),
        _position(_text(state.get("position"))),
        _partition(_text(state.get("source"))),
    )


def _rate(value: bytes | None) -> float | None:
    try:
        return float(value) if value else None
    except ValueError:
        return None


def _position(text: str) -> Place | None:
    """Parse ``topic-partition-offset``."""
    partition, _, offset = text.rpartition("-")
    place = _partition(partition)
    return place._replace(offset=int(offset)) if place and offset.isdigit() else None


def _partition(text: str) -> Place | None:
    """Parse ``topic-partition``."""
    topic, _, partition = text.rpartition("-")
    return Place(topic, int(partition), -1) if topic and partition.isdigit() else None


def _text(value: bytes | None) -> str:
    return (value or b"").decode(errors="replace")
