"""Which tier a sensor's blocks go to, and which pipeline runs those that name none."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from typing import NamedTuple

from app.ingest.errors import UnavailableError
from app.redis_client import REDIS_ERRORS, RedisClient, explain
from app.sensors.described import Described, described
from app.settings import TIERS, TierName

FRESH_SECONDS = 2.0
"""How long a sensor that was moved may still be sent to the tier before."""

MOST_SENSORS = 100_000
"""Sensors remembered at a time."""


class Route(NamedTuple):
    """Where a sensor's blocks go."""

    tier: TierName = "rt"
    pipeline: str | None = None
    """What runs them; None for the tier's own."""


def _route(found: Described) -> Route:
    """Give where a sensor's blocks go: as a person has set, else as they ran last, else to rt."""
    name = found.goes_to
    return Route(name if name in TIERS else "rt", found.runs or None)


class Routes:
    """Routes, remembered for a moment, and for longer while Redis does not answer.

    Parameters
    ----------
    redis, prefix
        Client, and what goes before every key.
    """

    def __init__(self, redis: RedisClient, prefix: str) -> None:
        self._redis = redis
        self._prefix = prefix
        self._known: dict[str, tuple[Route, float]] = {}

    async def find(self, sensor_ids: Collection[str]) -> Mapping[str, Route]:
        """Find the routes of sensors.

        Raises
        ------
        UnavailableError
            Redis does not answer, and a sensor among them is new here. To send it just anywhere could begin its
            state anew in a tier that is not its own.
        """
        now = time.monotonic()
        stale = [
            sensor_id
            for sensor_id in sensor_ids
            if sensor_id not in self._known or now - self._known[sensor_id][1] > FRESH_SECONDS
        ]
        if stale:
            await self._read(stale, now)
        return {sensor_id: self._known[sensor_id][0] for sensor_id in sensor_ids}

    async def _read(self, sensor_ids: list[str], now: float) -> None:
        try:
            found = await described(self._redis, self._prefix, sensor_ids)
        except REDIS_ERRORS as error:
            new = [sensor_id for sensor_id in sensor_ids if sensor_id not in self._known]
            if not new:
                return
            raise UnavailableError(
                f"the tier of sensor {new[0]!r} cannot be looked up ({explain(error)}): send again later, or name"
                " the tier, and the pipeline in the block"
            ) from error
        if len(self._known) + len(found) > MOST_SENSORS:
            self._known.clear()
        self._known |= {sensor_id: (_route(own), now) for sensor_id, own in found.items()}
