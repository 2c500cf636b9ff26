"""A copy of a sensor's state, wherever it was found."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Self

from app.dsp.errors import SnapshotError
from app.dsp.snapshot import Header, decode

Place = Literal["redis", "table", "changelog"]
PLACES: tuple[Place, ...] = ("redis", "table", "changelog")


@dataclass(frozen=True)
class Mirrored:
    """What Redis says of a state beside its bytes; fields that it does not have are None."""

    epoch: int | None
    owner: str | None
    """Tier; empty where nobody owns the sensor."""
    restarts: int | None
    next: int | None
    updated: int | None
    """When it was saved, ms since the epoch."""
    wanted: str | None
    """What another tier waits for."""


NOT_MIRRORED = Mirrored(None, None, None, None, None, None)
"""Of a copy that is elsewhere."""


@dataclass(frozen=True)
class StateCopy:
    """A copy of a sensor's state.

    Attributes
    ----------
    place, tier, where
        Where it was found; the tier whose table or changelog it is, or the last that saved it to Redis.
    snapshot
        Its bytes.
    header
        None where it is damaged.
    fault
        What is wrong with it, in words; None if nothing is.
    mirrored
        What else Redis says of it.
    """

    place: Place
    tier: str
    where: str
    snapshot: bytes
    header: Header | None
    fault: str | None
    mirrored: Mirrored = NOT_MIRRORED

    @classmethod
    def of(cls, place: Place, tier: str, where: str, snapshot: bytes, mirrored: Mirrored = NOT_MIRRORED) -> Self:
        """Check a snapshot's bytes."""
        try:
            header = decode(snapshot).header
        except SnapshotError as error:
            return cls(place, tier, where, snapshot, None, str(error), mirrored)
        fault = None
        if place == "redis" and (mirrored.restarts or 0, mirrored.next) != header.age:
            fault = (
                f"Redis says restarts {mirrored.restarts}, next {mirrored.next}, and the snapshot {header.restarts},"
                f" {header.next}"
            )
        return cls(place, tier, where, snapshot, header, fault, mirrored)


def supersedes(copy: StateCopy, before: StateCopy | None) -> bool:
    """Whether a copy takes the place of the one found before it, in the same place and written earlier.

    Damage counts as well: it is what a reader would find.
    """
    return before is None or before.header is None or copy.header is None or copy.header.age >= before.header.age


def newest(copies: Iterable[StateCopy]) -> StateCopy | None:
    """Give the newest of the sound copies; of several of one age the first."""
    best: StateCopy | None = None
    for copy in copies:
        if copy.header is not None and (best is None or best.header is None or copy.header.age > best.header.age):
            best = copy
    return best
