"""Comparing the copies of states: each sound, and of each age only one state."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple, Self

import msgspec

from app.dsp.pipeline import Pipeline
from app.dsp.snapshot import decode
from app.state_copies.copies import Place, StateCopy
from app.state_copies.describe import pipeline_name

Status = Literal["missing", "equal", "behind", "unknown pipeline", "damaged", "contradictory"]


def content(snapshot: bytes) -> bytes:
    """Digest what a state makes of its stream.

    Two states of one age agree in it. They may differ in the claim under which they were saved, in how far the source
    has been read, and in what has been dropped since.

    Raises
    ------
    SnapshotError
        The snapshot is damaged.
    """
    header, arrays = decode(snapshot)
    digest = hashlib.blake2b(digest_size=16)
    fields = (header.fingerprint, header.next, header.time, header.since)
    digest.update(msgspec.msgpack.encode((*fields, header.restarts, header.stream, header.previous)))
    for node, own in arrays.items():
        for name, values in own.items():
            digest.update(msgspec.msgpack.encode((node, name, values.dtype.str, values.shape)))
            digest.update(values.tobytes())
    return digest.digest()


class Digest(NamedTuple):
    """What is kept of a copy in order to compare it: states themselves would fill the memory."""

    place: Place
    tier: str
    where: str
    age: tuple[int, int] | None
    """Restarts and next index; None where it is damaged."""
    epoch: int
    content: bytes
    whole: bytes
    """Digest of all bytes."""
    pipeline: str | None
    fingerprint: str
    fault: str | None

    @classmethod
    def of(cls, copy: StateCopy, pipelines: Mapping[str, Pipeline]) -> Self:
        """Digest a copy."""
        header = copy.header
        whole = hashlib.blake2b(copy.snapshot, digest_size=16).digest()
        if header is None:
            return cls(copy.place, copy.tier, copy.where, None, 0, b"", whole, None, "", copy.fault)
        return cls(
            *(copy.place, copy.tier, copy.where, header.age, header.epoch),
            *(content(copy.snapshot), whole, pipeline_name(header, pipelines), header.fingerprint.hex(), copy.fault),
        )


class CopyVerdict(msgspec.Struct, rename="camel"):
    """What is to be said of a copy."""

    place: str
    tier: str
    where: str
    restarts: int | None
    next: int | None
    epoch: int
    pipeline: str | None
    behind: int | None
    """Samples behind the newest copy; None of an earlier stream, or of a damaged copy."""
    identical: bool
    """Whether it has the newest copy's bytes."""
    fault: str | None


class Verdict(msgspec.Struct, rename="camel"):
    """What is to be said of a sensor's copies."""

    sensor_id: str
    status: Status
    faults: list[str]
    copies: list[CopyVerdict]

    @property
    def sound(self) -> bool:
        """Whether every copy is whole, and the older ones are of a smaller age."""
        return self.status in {"equal", "behind"}


def judge(sensor_id: str, digests: Sequence[Digest]) -> Verdict:
    """Compare the copies of a sensor's state."""
    faults = [f"{own.place} {own.where}: {own.fault}" for own in digests if own.fault]
    sound = [own for own in digests if own.age is not None]
    status: Status = "damaged" if faults else "equal" if sound else "missing"
    newest = max(sound, key=lambda own: own.age or (), default=None)
    if newest is not None:
        if newest.pipeline is None:
            status = status if faults else "unknown pipeline"
            faults.append(
                f"{newest.place} {newest.where}: pipeline {newest.fingerprint} is none of those known here: set"
                " CONTINUUM_PIPELINES as the workers have it; if they do not know it either, the one that meets the"
                " sensor computes its state anew from the retained input"
            )
        contradictions = list(_contradictions(sound))
        if contradictions:
            status = "contradictory"
            faults += contradictions
        if status == "equal" and any(own.age != newest.age for own in sound):
            status = "behind"
    return Verdict(sensor_id, status, faults, [_copy_verdict(own, newest) for own in digests])


def _contradictions(digests: Iterable[Digest]) -> Iterable[str]:
    # Of one age are, for a moment, the states of a changed pipeline and of the one before.
    first: dict[tuple[tuple[int, int], str], Digest] = {}
    for own in digests:
        if own.age is None:
            continue
        other = first.setdefault((own.age, own.fingerprint), own)
        if other.content != own.content:
            yield (
                f"{other.place} {other.where} and {own.place} {own.where} hold different states of restarts"
                f" {own.age[0]}, next {own.age[1]}"
            )


def _copy_verdict(own: Digest, newest: Digest | None) -> CopyVerdict:
    restarts, next_index = own.age or (None, None)
    behind = None
    if own.age is not None and newest is not None and newest.age is not None and own.age[0] == newest.age[0]:
        behind = newest.age[1] - own.age[1]
    return CopyVerdict(
        own.place,
        own.tier,
        own.where,
        restarts,
        next_index,
        own.epoch,
        own.pipeline,
        behind,
        newest is not None and own.whole == newest.whole,
        own.fault,
    )
