"""Sensors whose blocks are held, and what is held of them."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from app.runtime.claims import FIRST_UNKNOWN
from app.runtime.copies import Copy
from app.runtime.portion import Portion, joined


class Upgrade(NamedTuple):
    """What a sensor's state is to become: that of the pipeline that its own has been changed to."""

    copy: Copy
    """Its state in the pipeline before."""
    pipeline: str
    """Name of the changed one."""
    partition: int
    """Of its blocks."""


@dataclass(slots=True)
class Waiting:
    """A sensor whose blocks are held."""

    sensor_id: str
    since: float
    """s, monotonic."""
    patient: bool = False
    """It is ours, and waits only for somebody who may want it before the gap is believed."""
    leaving: bool = False
    """Its state is being handed over; it can be claimed again afterwards."""
    upgrade: Upgrade | None = None
    """It is ours, and waits for its state in a changed pipeline."""
    found: bool = False
    """Blocks have come, from another partition of ours, that go before those that were held already."""
    asked: bool = False
    """Whoever may have had samples that are missing before its blocks has been asked."""
    portions: list[Portion] = field(default_factory=list)
    samples: int = 0
    """Values held."""

    def hold(self, portion: Portion) -> None:
        """Take blocks of the sensor: behind what its partition has given, and in their time among those of others."""
        timestamp = portion.columns.timestamps[0]
        place = len(self.portions)
        while place:
            before = self.portions[place - 1]
            if before.partition == portion.partition or before.columns.timestamps[0] <= timestamp:
                break
            place -= 1
        self.found |= self.patient and place == 0 and bool(self.portions)
        self.portions.insert(place, portion)
        self.samples += len(portion.columns.values)

    def give_up(self, partitions: Container[int]) -> bool:
        """Forget what is held, or to be upgraded, of some partitions; tells whether anything was."""
        kept = [portion for portion in self.portions if portion.partition not in partitions]
        changed = len(kept) < len(self.portions)
        self.portions, self.samples = kept, sum(len(portion.columns.values) for portion in kept)
        if self.upgrade is not None and self.upgrade.partition in partitions:
            self.upgrade, changed = None, True
        return changed

    @property
    def first(self) -> int:
        """Index of the first sample held, as far as the block says."""
        seq = self.portions[0].columns.seqs[0]
        return FIRST_UNKNOWN if seq is None else seq


class HeldTogether(NamedTuple):
    """What sensors have of one pipeline in one batch."""

    portion: Portion
    """The blocks of all of them, each sensor's in order."""
    pieces: int
    """Held ones that it is made of."""
    begin: frozenset[str]
    """Sensors that have nothing held before it."""


def held_together(some: Sequence[Waiting]) -> list[HeldTogether]:
    """Join what sensors have held, batch by batch, so that each batch is worked on once and not once a sensor."""
    pieces: dict[tuple[int, int, str, int], list[Portion]] = {}
    begin: dict[tuple[int, int, str, int], set[str]] = {}
    alone: list[HeldTogether] = []
    for waiting in some:
        if len({portion.partition for portion in waiting.portions}) > 1:
            # It has come from one partition to another: they are in order, but are not to be joined.
            first = frozenset({waiting.sensor_id})
            alone += [
                HeldTogether(own, 1, frozenset() if number else first) for number, own in enumerate(waiting.portions)
            ]
            continue
        for number, portion in enumerate(waiting.portions):
            position, pipeline = portion.position, portion.columns.pipeline.name
            batch = position.partition, position.offset, pipeline, id(portion.pending)
            pieces.setdefault(batch, []).append(portion)
            if number == 0:
                begin.setdefault(batch, set()).add(waiting.sensor_id)
    together = [
        HeldTogether(joined(pieces[batch]), len(pieces[batch]), frozenset(begin.get(batch, ())))
        for batch in sorted(pieces)
    ]
    return together + alone
