"""Where a tier's changelog has its states, and where they belong with another partition count.

A state lies in the partition of its sensor's messages. Where these come under the sensor's own id, murmur2 of it tells
the partition. Blocks in a gateway's frames come under the gateway's id, which a state does not tell: such a state stays
where it is, and where the gateway's partition changes, its sensors' next blocks find it through Redis, as after any
move between partitions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from app.runtime.outbox import partition_of
from app.state_copies.changelog import changelog_copies
from app.state_copies.copies import StateCopy, supersedes

if TYPE_CHECKING:
    from aiokafka import AIOKafkaConsumer

    from app.kafka_reader import Stretches
    from app.settings import TierName
    from app.state_copies.verify_all import OnStage


class Counts(NamedTuple):
    """Partition counts of a tier's topics."""

    before: int
    """With which the states were put where they are, as far as they have not been moved yet."""
    after: int


class Found(NamedTuple):
    """A sensor's state in a partition."""

    age: tuple[int, int] | None
    """None where it is damaged."""
    digest: bytes
    """Of its bytes."""


@dataclass
class Survey:
    """The newest state of each sensor in each partition that has one.

    Attributes
    ----------
    counts
        What the states are to be moved between.
    states
        By encoded sensor id, then by partition.
    """

    counts: Counts
    states: dict[bytes, dict[int, Found]] = field(default_factory=dict)

    def home(self, key: bytes) -> int:
        """Partition of a sensor's newest state; of several of one age, the one where it belongs."""
        found = self.states[key]
        own = partition_of(key, self.counts.after), partition_of(key, self.counts.before)
        order = {partition: -number for number, partition in enumerate(own)}
        return max(found, key=lambda at: (found[at].age or (-1, -1), order.get(at, -len(own)), -at))

    def target(self, key: bytes) -> int:
        """Partition where a sensor's state belongs."""
        home = self.home(key)
        return partition_of(key, self.counts.after) if home == partition_of(key, self.counts.before) else home

    def moving(self) -> Iterator[bytes]:
        """Sensors whose state is to be moved."""
        return (key for key in self.states if self.target(key) != self.home(key))

    def in_frames(self) -> Iterator[bytes]:
        """Sensors whose partition their own id does not tell."""
        return (key for key in self.states if self.target(key) != partition_of(key, self.counts.after))

    def stale(self) -> Iterator[tuple[bytes, int]]:
        """States that are left over in a partition that their sensor has been moved from, by sensor and partition."""
        for key, found in self.states.items():
            home, target = self.home(key), self.target(key)
            yield from ((key, partition) for partition in found if partition not in {home, target})

    def faults(self, before: Survey) -> list[str]:
        """Say which sensors are not where they belong, just once, with the bytes that they had before."""
        faults = [f"{_text(key)} is missing" for key in before.states.keys() - self.states.keys()]
        for key, found in self.states.items():
            if key not in before.states:
                faults.append(f"{_text(key)} was not there before")
                continue
            target, own = before.target(key), before.states[key][before.home(key)]
            if found.keys() != {target}:
                faults.append(f"{_text(key)} is in {', '.join(map(str, sorted(found)))}, expected {target}")
            elif found[target].digest != own.digest:
                faults.append(f"{_text(key)} has other bytes in {target} than it had in {before.home(key)}")
        return faults


async def survey(
    consumer: AIOKafkaConsumer, stretches: Stretches, tier: TierName, counts: Counts, on_stage: OnStage, stage: str
) -> Survey:
    """Read a tier's changelog, one partition after another.

    Parameters
    ----------
    consumer, stretches, tier
        What to read, and whose it is.
    counts
        What the states are to be moved between.
    on_stage, stage
        Told of the progress, and what it is called.
    """
    found = Survey(counts)
    for number, tp in enumerate(sorted(stretches)):
        on_stage(stage, number, len(stretches))
        for key, copy in (await newest_of(consumer, {tp: stretches[tp]}, tier)).items():
            age = None if copy.header is None else copy.header.age
            found.states.setdefault(key, {})[tp.partition] = Found(age, _digest(copy.snapshot))
    return found


async def newest_of(consumer: AIOKafkaConsumer, stretches: Stretches, tier: TierName) -> Mapping[bytes, StateCopy]:
    """Read a partition of the changelog as the worker that owns it would: of each sensor the newest state."""
    newest: dict[bytes, StateCopy] = {}
    async for _, key, copy in changelog_copies(consumer, stretches, tier):
        if copy is None:
            newest.pop(key, None)
        elif supersedes(copy, newest.get(key)):
            newest[key] = copy
    return newest


def _digest(snapshot: bytes) -> bytes:
    return hashlib.blake2b(snapshot, digest_size=16).digest()


def _text(key: bytes) -> str:
    return repr(key.decode(errors="backslashreplace"))
