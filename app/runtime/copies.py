"""A sensor's copies outside memory, and which of them is the newest."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from app.dsp.errors import SnapshotError
from app.dsp.pipeline import Pipeline
from app.dsp.snapshot import Position, read_header
from app.mirror.states import Claimed, Saved

logger = logging.getLogger(__name__)

#: Reads the snapshots of sensors (by encoded id) from a partition of the tier's table.
ReadSnapshots = Callable[[int, Sequence[bytes]], Sequence[bytes | None]]


class Copy(NamedTuple):
    """A snapshot, and the epoch under which its state goes on."""

    snapshot: bytes | None
    """None: the sensor has seen nothing."""
    epoch: int
    age: tuple[int, int]
    """(restarts, next index)."""
    position: Position | None = None
    """Of the source that the state was computed from."""
    fingerprint: bytes | None = None
    """Of the pipeline that made it; None where that cannot be told."""


_NOTHING = Copy(None, 0, (0, -1))


def read_copies(read: ReadSnapshots, partition: int, sensor_ids: Sequence[str]) -> dict[str, Copy | None]:
    """Read the table's copies of sensors; None where it has none, or a damaged one."""
    copies: dict[str, Copy | None] = {}
    snapshots = read(partition, [sensor_id.encode() for sensor_id in sensor_ids]) if sensor_ids else []
    for sensor_id, snapshot in zip(sensor_ids, snapshots, strict=True):
        copies[sensor_id] = None if snapshot is None else _copy(sensor_id, snapshot)
    return copies


def _copy(sensor_id: str, snapshot: bytes) -> Copy:
    try:
        header = read_header(snapshot)
    except SnapshotError as error:
        logger.warning("sensor %r: %s", sensor_id, error)
        # Older than any sound one; where there is no other, it is refused when it is restored.
        return Copy(snapshot, 0, (-1, -1))
    return Copy(snapshot, header.epoch, header.age, header.position, header.fingerprint)


def newer(local: Copy | None, claimed: Claimed | None) -> Copy | None:
    """Give the newer of the table's copy and what a claim gave, under the claim's epoch.

    State at an index is a function of the stream up to there, so whoever computed it, the newest is the one to go
    on from.
    """
    if claimed is None:
        return local
    if claimed.snapshot is not None:
        theirs = _copy(claimed.sensor_id, claimed.snapshot)
        if local is None or theirs.age > local.age:
            return theirs._replace(epoch=claimed.epoch)
    return (local or _NOTHING)._replace(epoch=claimed.epoch)


def saved_from(sensor_id: str, snapshot: bytes, pipelines: Mapping[bytes, Pipeline]) -> Saved | None:
    """Make what the mirror takes from the table's copy of a sensor; None from a damaged one.

    Parameters
    ----------
    sensor_id, snapshot
        As the table has them.
    pipelines
        Known pipelines by fingerprint.
    """
    try:
        header = read_header(snapshot)
    except SnapshotError as error:
        logger.warning("sensor %r: %s", sensor_id, error)
        return None
    pipeline = pipelines.get(header.fingerprint)
    name, rate = (pipeline.name, pipeline.signal.sample_rate) if pipeline else ("", 0.0)
    return Saved(sensor_id, snapshot, header.epoch, header.restarts, header.next, header.position, name, rate, b"")
