"""Events of Kafka event sources, and the answer to one.

The shapes are those of the AWS Lambda Developer Guide, "Using Lambda with Amazon MSK" and "... with self-managed Apache
Kafka" (``eventSource`` is ``aws:kafka`` or ``SelfManagedKafka``; the latter has no ``eventSourceArn``). Of the partial
batch response the guide's "Configuring error handling controls for Kafka event sources" says that it tells which
records are to be retried; an item names ``{"partition": "topic-0", "offset": 7}``, as in Powertools for AWS Lambda
(``KafkaItemIdentifier`` of ``utilities/batch``). Whether just these records come again or all from the first
of them on, as in Kinesis, is not promised: each failed record is named, and those that had not failed are known by
their position.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import msgspec

from app.errors import ContinuumError

Headers = list[tuple[str, bytes]]


class EventError(ContinuumError):
    """An event is not one of a Kafka event source, or not of a topic of ours."""


class SourceRecord(msgspec.Struct, gc=False):
    """A message as the event has it."""

    topic: str
    partition: int
    offset: int
    timestamp: int | None = None
    timestampType: str | None = None  # noqa: N815 - AWS's spelling
    key: bytes | None = None
    value: bytes | None = None
    # Bytes as numbers; Java's are signed. Kafka's headers need not have a value.
    headers: list[dict[str, list[int] | None]] | None = None


class KafkaEvent(msgspec.Struct):
    """An event."""

    eventSource: Literal["aws:kafka", "SelfManagedKafka", "aws:SelfManagedKafka"]  # noqa: N815
    records: dict[str, list[SourceRecord]]
    eventSourceArn: str | None = None  # noqa: N815
    bootstrapServers: str | None = None  # noqa: N815


class EventRecord(msgspec.Struct, gc=False):
    """A message, as a consumer would give it."""

    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers


class Source(msgspec.Struct, frozen=True, order=True):
    """A partition of a topic."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}-{self.partition}"


def decode_event(event: Mapping[str, Any]) -> dict[Source, list[EventRecord]]:
    """Decode an event; gives each partition's messages in order, each once.

    Parameters
    ----------
    event
        As Lambda hands it over: the JSON object, parsed.

    Raises
    ------
    EventError
        Naming the place, what is there and what was expected.
    """
    try:
        decoded = msgspec.convert(event, KafkaEvent)
    except msgspec.ValidationError as error:
        raise EventError(
            f"not an event of a Kafka event source: {error}; expected eventSource aws:kafka or SelfManagedKafka, and"
            " records by topic-partition, each with topic, partition, offset, and key and value in base64"
        ) from None
    found: dict[Source, dict[int, EventRecord]] = {}
    for records in decoded.records.values():
        for record in records:
            own = found.setdefault(Source(record.topic, record.partition), {})
            own[record.offset] = EventRecord(record.offset, record.key, record.value, _headers(record))
    return {source: [own[offset] for offset in sorted(own)] for source, own in sorted(found.items())}


def _headers(record: SourceRecord) -> Headers:
    return [
        (name, bytes(value & 0xFF for value in values or ()))
        for header in record.headers or ()
        for name, values in header.items()
    ]


def partial_response(failures: Mapping[Source, Iterable[int]]) -> dict[str, Any]:
    """Answer an event, naming the offsets of the messages that are to come again."""
    return {
        "batchItemFailures": [
            {"itemIdentifier": {"partition": str(source), "offset": offset}}
            for source, offsets in sorted(failures.items())
            for offset in sorted(set(offsets))
        ]
    }
