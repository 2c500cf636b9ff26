"""What goes to and comes from the mirror."""

from __future__ import annotations

from typing import NamedTuple

from app.dsp.snapshot import Position


class Saved(NamedTuple):
    """A sensor's state as the checkpoint wrote it.

    Its age is `(restarts, next)`: of two snapshots of a sensor, the one of the greater age is the newer.
    """

    sensor_id: str
    snapshot: bytes
    epoch: int
    """Of the claim under which it was made."""
    restarts: int
    """How often the sensor's stream began anew."""
    next: int
    """Index of the next sample."""
    position: Position
    pipeline: str
    rate: float
    """Hz."""
    features: bytes
    """Its latest feature record; empty where that is not at hand, and Redis keeps the one it has."""


class Claim(NamedTuple):
    """A tier's wish to own a sensor."""

    sensor_id: str
    first: int
    """Index of the first sample in hand; -1 if any state will do."""
    epoch: int
    """Of the newest copy at hand, as are the next two; 0, 0 and -1 where there is none."""
    restarts: int
    next: int
    source: str = ""
    """``topic-partition`` that the sensor's blocks come from; empty if that does not matter."""
    pipeline: str = ""
    """That the blocks in hand run: what is known of the sensor until a state of it is saved."""


class Claimed(NamedTuple):
    """What became of a claim."""

    sensor_id: str
    taken: bool
    """False: another tier owns the sensor, and has been told that it is wanted."""
    epoch: int
    """To save with, where taken; else the owner's."""
    restarts: int
    """Of the snapshot in Redis, as is the next one; 0 and -1 where it has none."""
    next: int
    snapshot: bytes | None
    """The one in Redis, where taken and newer than the copy at hand."""
    owner: str
    """The tier that owned the sensor before; empty if none did."""


class Wanted(NamedTuple):
    """A sensor that another tier waits for."""

    sensor_id: str
    first: int
    """It needs the state at this index."""
    epoch: int
    """Of the claim that it wants to end; whoever has claimed the sensor since is not meant."""
