"""Offering states to whichever partition their sensors' blocks come from next, through Redis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from redis.exceptions import ConnectionError as RedisConnectionError

from app.dsp.pipeline import Pipeline
from app.mirror.imports import ANY_INDEX
from app.mirror.keys import sensor_key
from app.mirror.ownership import Ownership
from app.mirror.states import Claim
from app.redis_client import RedisClient
from app.runtime.copies import saved_from
from app.state_copies.copies import StateCopy

SENSORS_A_CALL = 100
"""States are some kilobytes each."""


class _Known(NamedTuple):
    """What Redis says of a sensor."""

    owner: str
    age: tuple[int, int]


async def offer(
    redis: RedisClient, prefix: str, tier: str, states: Mapping[str, StateCopy], pipelines: Mapping[bytes, Pipeline]
) -> int:
    """Make sure that Redis has states at least as new as these.

    Their sensors stay owned, as coming from the partition that they came from before. Blocks that are still there go on
    at once, and those from the new partition that come after them wait for these: else, where a block says no index,
    nobody could tell which are to be first. Sensors that another tier owns are left alone.

    Parameters
    ----------
    redis, prefix
        Client that gives bytes, and what goes before every key.
    tier
        Whose states they are; no worker of it runs.
    states
        Sound ones, by sensor.
    pipelines
        Known pipelines by fingerprint.

    Returns
    -------
    int
        How many Redis did not have.

    Raises
    ------
    REDIS_ERRORS
        Redis does not answer. To do it again does no harm.
    """
    ownership = Ownership(redis, prefix, tier)
    sensor_ids = list(states)
    written = 0
    for start in range(0, len(sensor_ids), SENSORS_A_CALL):
        some = sensor_ids[start : start + SENSORS_A_CALL]
        known = await _known(redis, prefix, some)
        own = {id_: states[id_] for id_ in some if known[id_].owner in {"", tier}}
        claims = []
        for sensor_id, copy in own.items():
            if copy.header is not None and known[sensor_id].age < copy.header.age:
                claims.append(Claim(sensor_id, ANY_INDEX, copy.header.epoch, *copy.header.age))
        claimed = {answer.sensor_id: answer for answer in await ownership.claim(claims)}
        if len(claimed) < len(claims):
            raise RedisConnectionError(f"{len(claims) - len(claimed)} of {len(claims)} claims were not answered")
        saved = []
        for sensor_id, answer in claimed.items():
            state = saved_from(sensor_id, own[sensor_id].snapshot, pipelines)
            if state is not None:
                saved.append(state._replace(epoch=answer.epoch))
        await ownership.save(saved)
        written += len(saved)
    return written


async def _known(redis: RedisClient, prefix: str, sensor_ids: Sequence[str]) -> dict[str, _Known]:
    pipeline = redis.pipeline()
    for sensor_id in sensor_ids:
        pipeline.hmget(sensor_key(prefix, sensor_id, "state"), "owner", "restarts", "next")
    return {
        sensor_id: _Known((owner or b"").decode(), (int(restarts or 0), int(next_index or -1)))
        for sensor_id, (owner, restarts, next_index) in zip(sensor_ids, await pipeline.execute(), strict=True)
    }
