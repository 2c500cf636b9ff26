"""Putting a state into Redis from elsewhere, such that whoever claims the sensor next goes on from it."""

from __future__ import annotations

import time
from typing import NamedTuple

from app.dsp.pipeline import Pipeline
from app.dsp.snapshot import Header
from app.mirror.keys import sensor_keys, wanted_key
from app.mirror.ownership import wish
from app.mirror.script import Call, Script
from app.mirror.wire import encoded
from app.redis_client import RedisClient

TOLD_MS = 10_000
"""How long an owner is told that its sensor is gone; it looks many times a second."""


ANY_INDEX = -1
"""The owner need not process anything before it drops the sensor."""


class Imported(NamedTuple):
    """What became of a state that was to be put into Redis."""

    taken: bool
    """False: Redis has a newer one."""
    epoch: int
    """Of the sensor, now."""
    restarts: int
    """Of the state that Redis had, as is the next one; 0 and -1 where it had none."""
    next: int
    owner: str
    """The tier that owned the sensor before; empty if none did."""


async def import_state(
    redis: RedisClient, prefix: str, sensor_id: str, snapshot: bytes, header: Header, pipeline: Pipeline, epoch: int
) -> Imported:
    """Put a state into Redis, owned by nobody and under a raised epoch, unless Redis has a newer one.

    Parameters
    ----------
    redis, prefix
        Client that gives bytes, and what goes before every key.
    sensor_id
        Whose state it becomes.
    snapshot, header, pipeline
        The state, its header, and the pipeline that made it.
    epoch
        The greatest that other copies of the sensor's state have.

    Raises
    ------
    REDIS_ERRORS
        Redis did not take it.
    """
    position = header.position
    state, _, meta = sensor_keys(prefix, sensor_id)
    call = Call(
        (state, meta),
        encoded(
            *(snapshot, max(epoch, header.epoch), header.restarts, header.next),
            f"{position.topic}-{position.partition}-{position.offset}",
            *(int(time.time() * 1000), pipeline.name, pipeline.signal.sample_rate),
        ),
    )
    (result,) = await Script(redis, "import")([call])
    if isinstance(result, Exception):
        raise result
    taken, raised, restarts, next_index, owner = result
    imported = Imported(bool(taken), raised, restarts, next_index, owner.decode())
    if imported.taken and imported.owner:
        # So that it drops the sensor now, and not when its next save is refused.
        told = Call([wanted_key(prefix, imported.owner)], encoded(wish(ANY_INDEX, raised - 1, sensor_id), TOLD_MS))
        await Script(redis, "want")([told])
    return imported
