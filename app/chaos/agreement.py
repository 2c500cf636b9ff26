"""Whether the copies of every sensor's state agree at the end: the owner's table, the changelog and Redis."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import rocksdict
from faust.stores.rocksdb import Store

from app.chaos.offsets import whole_topic
from app.dsp.errors import SnapshotError
from app.dsp.snapshot import decode
from app.mirror.keys import sensor_key
from app.redis_client import redis_client
from app.settings import Settings, TierName
from app.tiers import TIER_DEFAULTS
from app.topics import changelog_topic

PLACES = ("table", "changelog", "redis")

SHOWN = 10
"""Disagreements kept in words."""

_SENSORS_A_CALL = 500


@dataclass
class Agreement:
    """What the comparison found.

    Attributes
    ----------
    sensors
        How many were compared.
    disagreeing
        How many of them have a copy that is missing, damaged, not at the stream's end, or unlike another's.
    examples
        Some of them, in words.
    """

    sensors: int = 0
    disagreeing: int = 0
    examples: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether all copies agree."""
        return not self.disagreeing


async def compare_copies(
    settings: Settings, tier: TierName, folders: Iterable[Path], ends: Mapping[str, int]
) -> Agreement:
    """Compare the copies of sensors' states, while no worker runs.

    Parameters
    ----------
    settings
        Where Kafka and Redis are.
    tier
        Of the sensors.
    folders
        Data folders of all workers.
    ends
        Index after the last sample of each sensor's stream, by id.
    """
    copies: dict[str, dict[str, bytes]] = {
        "table": read_tables(folders, tier),
        "changelog": await read_changelog(settings, tier),
        "redis": await read_redis(settings, ends),
    }
    agreement = Agreement(len(ends))
    for sensor_id, end in ends.items():
        fault = disagreement({place: copies[place].get(sensor_id) for place in PLACES}, end)
        if fault is not None:
            agreement.disagreeing += 1
            if len(agreement.examples) < SHOWN:
                agreement.examples.append(f"{sensor_id}: {fault}")
    return agreement


def disagreement(copies: dict[str, bytes | None], end: int) -> str | None:
    """Say how the copies of one sensor's state differ, by place, or from the end of its stream; None if they agree."""
    epochs: defaultdict[int, dict[str, bytes]] = defaultdict(dict)
    for place, snapshot in copies.items():
        if snapshot is None:
            return f"not in {place}"
        try:
            header = decode(snapshot).header
        except SnapshotError as error:
            return f"{place}: {error}"
        if header.next != end:
            return f"{place} stands at sample {header.next} of {end}"
        epochs[header.epoch][place] = snapshot
    # A claim raises the epoch in Redis before the others have it; the rest of the state is the same.
    for epoch, same in epochs.items():
        if len(set(same.values())) > 1:
            return f"{' and '.join(same)} differ at epoch {epoch}"
    if copies["table"] != copies["changelog"]:
        return "table and changelog differ"
    return None


def read_tables(folders: Iterable[Path], tier: TierName) -> dict[str, bytes]:
    """Read the snapshots in each partition's table, of the worker that had the partition last, by sensor id."""
    newest: dict[int, tuple[int, dict[str, bytes]]] = {}
    for folder in folders:
        for partition in range(TIER_DEFAULTS[tier].partitions):
            for path in folder.glob(f"workers/*/v*/tables/{tier}-state-{partition}.db"):
                persisted, values = _read_database(path)
                if partition not in newest or persisted > newest[partition][0]:
                    newest[partition] = persisted, values
    return {sensor_id: snapshot for _, values in newest.values() for sensor_id, snapshot in values.items()}


def _read_database(path: Path) -> tuple[int, dict[str, bytes]]:
    """Give the changelog offset that a table has been written up to (-1 if none), and its values."""
    options = rocksdict.Options(raw_mode=True)
    database = rocksdict.Rdict(str(path), options, access_type=rocksdict.AccessType.read_only())
    try:
        items = cast("dict[bytes, bytes]", dict(database.items()))
    finally:
        database.close()
    persisted = int(items.pop(Store.offset_key, b"-1"))
    return persisted, {key.decode(): value for key, value in items.items()}


async def read_changelog(settings: Settings, tier: TierName) -> dict[str, bytes]:
    """Read the newest snapshot of each sensor in the changelog, by sensor id."""
    return {
        record.key.decode(): record.value async for record in whole_topic(settings, changelog_topic(settings, tier))
    }


async def read_redis(settings: Settings, sensor_ids: Iterable[str]) -> dict[str, bytes]:
    """Read the snapshots of sensors in Redis, by sensor id."""
    client = redis_client(settings)
    wanted = list(sensor_ids)
    found: dict[str, bytes] = {}
    try:
        for start in range(0, len(wanted), _SENSORS_A_CALL):
            some = wanted[start : start + _SENSORS_A_CALL]
            commands: Any = client.pipeline(transaction=False)
            for sensor_id in some:
                commands.hget(sensor_key(settings.topic_prefix, sensor_id, "state"), "snapshot")
            found |= {
                sensor_id: value for sensor_id, value in zip(some, await commands.execute(), strict=True) if value
            }
    finally:
        await client.aclose()
    return found
