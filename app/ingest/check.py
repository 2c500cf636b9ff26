"""Blocks against the rules that workers hold them to, with the same reasons."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from app.dsp.pipeline import Pipeline
from app.ingest.content import Identity, identify
from app.ingest.routes import Route, Routes
from app.settings import TierName
from app.tiers import TIER_DEFAULTS
from app.wire.blocks import MAX_SENSOR_ID
from app.wire.decode import decode
from app.wire.reasons import Reason

SLICE_BYTES = 256 << 10
"""Bytes of blocks that are checked in one go, some milliseconds: a worker's event loop has more to do."""


class Accepted(NamedTuple):
    """A block that the workers of its tier will take."""

    place: int
    """Its index in the request."""
    sensor_id: str
    tier: TierName
    value: bytes


class Refused(NamedTuple):
    """A block that no worker would take."""

    place: int
    sensor_id: str | None
    """None where it cannot be read."""
    reason: Reason
    detail: str
    value: bytes


class Checked(NamedTuple):
    """A request's blocks, in its order."""

    accepted: list[Accepted]
    refused: list[Refused]


@dataclass(slots=True)
class _Message:
    """A block as the worker would consume it."""

    offset: int
    key: bytes | None
    value: bytes | None


class Checker:
    """Finds out which blocks the workers will take, by the workers' own code.

    Parameters
    ----------
    pipelines
        By name, as the workers know them.
    routes
        Of sensors.
    """

    def __init__(self, pipelines: Mapping[str, Pipeline], routes: Routes) -> None:
        self._pipelines = pipelines
        self._routes = routes

    async def check(self, values: Sequence[bytes], tier: TierName | None = None) -> Checked:
        """Check blocks.

        Parameters
        ----------
        values
            Their bytes.
        tier
            Where they go; None for where each sensor's go.

        Raises
        ------
        UnavailableError
            The tier or pipeline of a sensor cannot be looked up.
        """
        checked = Checked([], [])
        start = 0
        while start < len(values):
            end, size = start, 0
            while end < len(values) and (end == start or size + len(values[end]) <= SLICE_BYTES):
                size += len(values[end])
                end += 1
            some = await self._check(values[start:end], start, tier)
            checked.accepted.extend(some.accepted)
            checked.refused.extend(some.refused)
            start = end
            await asyncio.sleep(0)
        return checked

    async def _check(self, values: Sequence[bytes], first: int, tier: TierName | None) -> Checked:
        identities = [identify(value) for value in values]
        routes = await self._find(identities, tier)
        by_default: defaultdict[str, list[_Message]] = defaultdict(list)
        tiers: list[TierName] = []
        for number, (value, identity) in enumerate(zip(values, identities, strict=True)):
            sensor_id = "" if identity is None else identity.sensor_id
            route = routes.get(sensor_id, Route())
            tiers.append(tier or route.tier)
            default = route.pipeline or TIER_DEFAULTS[tiers[-1]].pipeline
            by_default[default].append(_Message(number, sensor_id.encode(), value))
        faults = {}
        for default, messages in by_default.items():
            for bad in decode(messages, self._pipelines, default).bad:
                faults[messages[bad.record].offset] = bad
        checked = Checked([], [])
        for number, (value, identity) in enumerate(zip(values, identities, strict=True)):
            if fault := faults.get(number):
                known = None if identity is None else identity.sensor_id
                checked.refused.append(Refused(first + number, known, fault.reason, fault.detail, value))
            elif identity is not None:
                checked.accepted.append(Accepted(first + number, identity.sensor_id, tiers[number], value))
        return checked

    async def _find(self, identities: Sequence[Identity | None], tier: TierName | None) -> Mapping[str, Route]:
        """Find the routes of those sensors whose blocks do not say themselves all that a route says."""
        asked = {
            identity.sensor_id
            for identity in identities
            if identity is not None and _may_be(identity.sensor_id) and not (tier and identity.pipeline)
        }
        return await self._routes.find(asked) if asked else {}


def _may_be(sensor_id: str) -> bool:
    """Whether a sensor may have this id: routes of others are neither asked for nor remembered."""
    return 0 < len(sensor_id.encode()) <= MAX_SENSOR_ID
