"""All that Redis says of sensors, for people: where each is, what it runs, what was set."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import NamedTuple

from app.mirror.keys import sensor_id_of, sensor_key
from app.redis_client import RedisClient
from app.sensors.described import SENSORS_A_CALL, SET_FIELDS, Fields, number, read_hashes, set_of, text
from app.sensors.metadata import SensorMeta

_STATE = ("owner", "epoch", "restarts", "next", "updated", "position", "source")
_META = ("tier", "pipeline", "rate", *SET_FIELDS)


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
    answers = await read_hashes(redis, prefix, sensor_ids, _STATE, _META)
    return [_row(sensor_id, state, meta) for sensor_id, (state, meta) in zip(sensor_ids, answers, strict=True)]


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


def _row(sensor_id: str, state: Fields, meta: Fields) -> SensorRow:
    return SensorRow(
        sensor_id,
        set_of(meta),
        text(state["owner"]),
        text(meta["tier"]),
        text(meta["pipeline"]),
        _rate(meta["rate"]),
        number(state["epoch"]),
        number(state["restarts"]) or 0,
        number(state["next"]),
        number(state["updated"]),
        _position(text(state["position"])),
        _partition(text(state["source"])),
    )


def _rate(value: bytes | None) -> float | None:
    try:
        return float(value) if value else None
    except ValueError:
        return None


def _position(value: str) -> Place | None:
    """Parse ``topic-partition-offset``."""
    partition, _, offset = value.rpartition("-")
    place = _partition(partition)
    return place._replace(offset=int(offset)) if place and offset.isdigit() else None


def _partition(value: str) -> Place | None:
    """Parse ``topic-partition``."""
    topic, _, partition = value.rpartition("-")
    return Place(topic, int(partition), -1) if topic and partition.isdigit() else None
