"""MQTT messages as blocks: what a payload leaves out, its topic may say; and the frames they travel in."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, NamedTuple

import msgspec

from app.ingest.check import Accepted
from app.ingest.content import as_packed, identify
from app.settings import TierName

FRAME_BYTES = 512 << 10
"""Bytes of blocks in a frame, but for one that is larger by itself: together less than a Kafka message may be."""


class Frame(NamedTuple):
    """A tier's blocks in one Kafka message."""

    tier: TierName
    value: bytes


def frames_of(blocks: Iterable[Accepted]) -> list[Frame]:
    """Pack sound blocks into frames, each tier's in order."""
    by_tier: defaultdict[TierName, list[list[msgspec.Raw]]] = defaultdict(list)
    room: dict[TierName, int] = {}
    for block in blocks:
        value = as_packed(block.value)
        left = room.get(block.tier, 0) - len(value)
        if left < 0:
            by_tier[block.tier].append([])
            left = FRAME_BYTES - len(value)
        room[block.tier] = left
        by_tier[block.tier][-1].append(msgspec.Raw(value))
    return [
        Frame(tier, msgspec.msgpack.encode({"blocks": some})) for tier, frames in by_tier.items() for some in frames
    ]


def sensor_of(pattern: str, topic: str) -> str | None:
    """Give the level of a topic that stands where its pattern has the first ``+``; None where there is none."""
    levels = pattern.split("/")
    return topic.split("/")[levels.index("+")] if "+" in levels else None


def named(value: bytes, sensor_id: str | None) -> bytes:
    """Give a block its sensor's id, if it says none; what is not a block comes back as it is."""
    if sensor_id is None or identify(value) is not None:
        return value
    # A number beyond 64 bits is read, and cannot be written; it is refused as it is.
    with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError, OverflowError):
        is_json = value.lstrip()[:1] == b"{"
        fields: Any = msgspec.json.decode(value) if is_json else msgspec.msgpack.decode(value)
        if isinstance(fields, dict) and not {"sensorId", "blocks"} & fields.keys():
            return msgspec.msgpack.encode({"sensorId": sensor_id, **fields})
    return value
