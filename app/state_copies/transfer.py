"""Moving a state as a file: out of any copy, and into Redis, where the next tier finds it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from app.dsp.engine import Engine
from app.dsp.errors import SnapshotError
from app.dsp.pipeline import Pipeline
from app.dsp.snapshot import Header, Position, read_header
from app.mirror.imports import Imported, import_state
from app.pipelines import known_pipelines
from app.redis_client import REDIS_ERRORS, explain, redis_client
from app.settings import Settings
from app.state_copies.copies import StateCopy, newest
from app.state_copies.describe import pipeline_name
from app.state_copies.errors import StateError
from app.state_copies.search import find_copies
from app.state_copies.verify import content
from app.wire.blocks import MAX_SENSOR_ID

NO_POSITION = Position("imported", 0, 0)
"""Of a state whose offsets mean nothing here: no message lies before it, so its index alone tells what it counted."""


def write_file(path: Path, snapshot: bytes) -> None:
    """Write a snapshot's bytes: the whole file at once, or none of it.

    Raises
    ------
    StateError
        The file cannot be written.
    """
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            try:
                file.write(snapshot)
                file.flush()
                os.fsync(file.fileno())
                Path(file.name).replace(path)
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise
    except OSError as error:
        raise StateError(f"{path} cannot be written ({error.strerror}); give another file") from None


@dataclass(frozen=True)
class Import:
    """A state that was put into Redis.

    Attributes
    ----------
    header
        As it was written.
    pipeline
        Which made it.
    changed
        What had to be changed in it, in words.
    before
        The newest copy that was known of the sensor; None if it had none.
    imported
        What Redis made of it.
    """

    header: Header
    pipeline: Pipeline
    changed: list[str]
    before: StateCopy | None
    imported: Imported


async def import_snapshot(settings: Settings, sensor_id: str, snapshot: bytes, *, force: bool) -> Import:
    """Put a state into Redis as a sensor's, owned by nobody, for the next tier that meets the sensor.

    A state's age, its restarts and its next index, decides everywhere which copy is the newest. So an older state
    than the known ones is refused, or with ``force`` gets one restart more than these.

    Parameters
    ----------
    settings
        The system's.
    sensor_id
        Whose state it becomes; need not be the sensor that it was of.
    snapshot
        The bytes.
    force
        Take it even where a newer state is known, or another one of the same age.

    Raises
    ------
    StateError
        The bytes are no snapshot of a pipeline that this release has, or a newer state is known.
    """
    if not 1 <= len(sensor_id.encode()) <= MAX_SENSOR_ID:
        raise StateError(f"sensor {sensor_id!r}: expected an id of 1 to {MAX_SENSOR_ID} bytes")
    pipeline = _pipeline_of(snapshot, known_pipelines(settings.pipelines))
    search = await find_copies(settings, sensor_id)
    if "redis" in search.unreachable:
        raise StateError(f"cannot import, as the state goes into Redis: {search.unreachable['redis']}")
    before = newest(search.copies)
    restarts = read_header(snapshot).restarts
    if before is not None and before.header is not None and (what := _outdated_by(snapshot, before)):
        own, known = read_header(snapshot), before.header
        if not force:
            raise StateError(
                f"sensor {sensor_id!r} has {what} in {before.place} {before.where}: restarts {known.restarts}, next"
                f" {known.next}, and the file has {own.restarts}, {own.next}; --force makes the file's the newest, and"
                " the samples between the two are then missing"
            )
        restarts = known.restarts + 1
    fitted, changed = _fitted(snapshot, pipeline, restarts, search.copies)
    epochs = [copy.header.epoch for copy in search.copies if copy.header]
    header = read_header(fitted)
    try:
        async with redis_client(settings) as redis:
            imported = await import_state(
                redis, settings.topic_prefix, sensor_id, fitted, header, pipeline, max(epochs, default=0)
            )
    except REDIS_ERRORS as error:
        raise StateError(f"not imported: {explain(error)}") from error
    if not imported.taken:
        raise StateError(
            f"sensor {sensor_id!r} was saved meanwhile, at restarts {imported.restarts}, next {imported.next}, newer"
            f" than what was to be imported ({header.restarts}, {header.next}); stop its input, and import again"
        )
    return Import(header, pipeline, changed, before, imported)


def _pipeline_of(snapshot: bytes, pipelines: Mapping[str, Pipeline]) -> Pipeline:
    """Check a snapshot, and give the pipeline that made it."""
    try:
        header = read_header(snapshot)
        name = pipeline_name(header, pipelines)
        if name is None:
            known = ", ".join(pipelines)
            raise StateError(
                f"snapshot of pipeline {header.fingerprint.hex()}, which is none of those known ({known}): import it"
                " where that pipeline is known (CONTINUUM_PIPELINES), or let the sensor begin anew"
            )
        pipeline = pipelines[name]
        Engine(pipeline, fuse=False).restore({"": snapshot})
    except SnapshotError as error:
        raise StateError(str(error)) from None
    return pipeline


def _outdated_by(snapshot: bytes, before: StateCopy) -> str | None:
    """Say why a snapshot is not to take the place of a sound copy; None where it may."""
    age = read_header(snapshot).age
    if before.header is not None and age < before.header.age:
        return "a newer state"
    if before.header is not None and age == before.header.age and content(snapshot) != content(before.snapshot):
        return "another state of the same age"
    return None


def _fitted(snapshot: bytes, pipeline: Pipeline, restarts: int, copies: list[StateCopy]) -> tuple[bytes, list[str]]:
    """Give the snapshot as it is valid here, and what was changed; the same bytes where nothing was.

    A position names offsets of one Kafka, before which all messages of the sensor count as consumed. It stays only
    where a copy that is here already names the same partition; elsewhere new messages could be taken for old ones.
    """
    header = read_header(snapshot)
    changed = []
    position = header.position
    own = {(copy.header.position.topic, copy.header.position.partition) for copy in copies if copy.header}
    if (position.topic, position.partition) not in own and position != NO_POSITION:
        position = NO_POSITION
        changed.append("source position, which no state of the sensor here shares")
    if restarts != header.restarts:
        changed.append(f"restarts, from {header.restarts} to {restarts}")
    if not changed:
        return snapshot, changed
    engine = Engine(pipeline, fuse=False)
    (sensor,) = engine.restore({"": snapshot})
    sensor.position, sensor.restarts = position, restarts
    return engine.snapshots([sensor])[0], changed
