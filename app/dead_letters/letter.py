"""A dead letter as it lies on its topic, and its two names."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import NamedTuple, Self

from aiokafka import ConsumerRecord

from app.dead_letters.errors import DeadLetterError
from app.wire.reasons import REPLAYED_FROM


class LetterId(NamedTuple):
    """Where a dead letter lies on its topic; written `partition-offset`."""

    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.partition}-{self.offset}"


class Source(NamedTuple):
    """The message that became a dead letter; written `topic-partition-offset`."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}-{self.partition}-{self.offset}"


def parse_name(text: str) -> LetterId | Source:
    """Read a dead letter's name: its own id, or that of its source.

    Raises
    ------
    DeadLetterError
        It is neither.
    """
    if found := re.fullmatch(r"([0-9]{1,9})-([0-9]{1,18})", text):
        return LetterId(*map(int, found.groups()))
    source = _source(text)
    if source is None:
        raise DeadLetterError(
            f"{text!r} names no dead letter: expected partition-offset, as `continuum dead-letters list` shows it, or"
            " the source's topic-partition-offset"
        )
    return source


def _source(text: str) -> Source | None:
    found = re.fullmatch(r"([A-Za-z0-9._-]+)-([0-9]{1,9})-([0-9]{1,18})", text)
    return Source(found[1], int(found[2]), int(found[3])) if found else None


class DeadLetter(NamedTuple):
    """All of a dead letter but its message's bytes, which may be millions."""

    id: LetterId
    timestamp: int
    """When it was sent, ms since the epoch."""
    reason: str
    detail: str
    source: Source | None
    """None where it did not come from Kafka, or the header is missing."""
    origin: str
    """The header `source` as it is."""
    key: bytes | None
    size: int | None
    """Bytes of the message; None of one that had none."""
    truncated: bool
    """Whether the message was larger than a dead letter can be, so that only its beginning is here."""
    replayed_from: str | None
    """Id of the dead letter that was sent again and failed again as this one."""

    @classmethod
    def of(cls, record: ConsumerRecord) -> Self:
        """Describe a record of the dead letters' topic."""
        headers = {name: (value or b"").decode(errors="backslashreplace") for name, value in record.headers}
        return cls(
            LetterId(record.partition, record.offset),
            record.timestamp,
            headers.get("reason", ""),
            headers.get("detail", ""),
            _source(headers.get("source", "")),
            headers.get("source", ""),
            record.key,
            None if record.value is None else len(record.value),
            "truncated" in headers,
            headers.get(REPLAYED_FROM),
        )

    @property
    def time(self) -> datetime:
        """When it was sent."""
        return datetime.fromtimestamp(self.timestamp / 1000, UTC)
