"""A state in words and numbers, for people and machines."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np

from app.dsp.pipeline import Pipeline
from app.dsp.snapshot import Header, decode
from app.dsp.stage import Array
from app.state_copies.copies import StateCopy

FIRST_VALUES = 4


class ArrayShown(msgspec.Struct, rename="camel"):
    """An array of a state; the smallest and the largest value are of the finite ones."""

    node: str
    name: str
    dtype: str
    shape: tuple[int, ...]
    finite: bool
    min: float | None
    max: float | None
    values: list[Any]


class StateShown(msgspec.Struct, rename="camel"):
    """A state."""

    sensor_id: str
    place: str
    tier: str
    where: str
    fault: str | None
    pipeline: str | None
    """None where no pipeline of this release has the fingerprint."""
    fingerprint: str
    epoch: int
    """Of the claim under which it was made."""
    restarts: int
    stream: str
    next: int
    time: str | None
    """Expected of the next sample."""
    position: str
    size: int
    crc_ok: bool
    owner: str | None
    """As are the next ones, only in Redis."""
    owner_epoch: int | None
    updated: str | None
    wanted: str | None
    arrays: list[ArrayShown]


def pipeline_name(header: Header, pipelines: Mapping[str, Pipeline]) -> str | None:
    """Name of the pipeline that made a state; None where none known has its fingerprint."""
    return next((pipeline.name for pipeline in pipelines.values() if pipeline.fingerprint == header.fingerprint), None)


def describe(sensor_id: str, copy: StateCopy, pipelines: Mapping[str, Pipeline], *, all_values: bool) -> StateShown:
    """Describe a state.

    Parameters
    ----------
    sensor_id
        Whose it is.
    copy
        A sound one.
    pipelines
        Known ones by name.
    all_values
        Give all values of the arrays, not only the first.
    """
    header, arrays = decode(copy.snapshot)
    position, mirrored = header.position, copy.mirrored
    return StateShown(
        sensor_id,
        copy.place,
        copy.tier,
        copy.where,
        copy.fault,
        pipeline_name(header, pipelines),
        header.fingerprint.hex(),
        header.epoch,
        header.restarts,
        header.stream,
        header.next,
        as_time(header.time),
        f"{position.topic}-{position.partition}-{position.offset}",
        len(copy.snapshot),
        crc_ok=True,  # else it could not have been decoded
        owner=mirrored.owner,
        owner_epoch=mirrored.epoch,
        updated=None if mirrored.updated is None else as_time(mirrored.updated),
        wanted=mirrored.wanted,
        arrays=[
            _array(node, name, values, all_values=all_values)
            for node, own in arrays.items()
            for name, values in own.items()
        ],
    )


def _array(node: str, name: str, values: Array, *, all_values: bool) -> ArrayShown:
    finite = values[np.isfinite(values)]
    return ArrayShown(
        node,
        name,
        values.dtype.str,
        values.shape,
        finite.size == values.size,
        float(finite.min()) if finite.size else None,
        float(finite.max()) if finite.size else None,
        values.tolist() if all_values else values.ravel()[:FIRST_VALUES].tolist(),
    )


def as_time(milliseconds: float) -> str | None:
    """Write a time (ms since the epoch) as ISO 8601; None where it is none."""
    if not math.isfinite(milliseconds):
        return None
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds")
    except (OverflowError, ValueError, OSError):
        return None
