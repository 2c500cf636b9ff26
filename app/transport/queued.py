"""What has been fetched of each topic and waits for its tier: it is bounded in bytes, topic by topic.

Faust bounds its queues in events, and a full one stops the loop that fetches for all topics: a tier with a backlog
would keep the others from their records. Here a topic of which enough waits is left out of the next fetch, and its
queue is never full.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from app.transport.raw_records import RawRecords

QUEUED_BYTES = 8 << 20
"""Of a topic's records that wait, beyond which no more are fetched; the fetch before may bring them beyond it."""

RECORD_BYTES = 512
"""Of a record's Python objects, beside its key and value."""


class Queued:
    """Partition batches that have been delivered and not accepted for processing, by topic."""

    def __init__(self) -> None:
        self._batches: defaultdict[str, int] = defaultdict(int)
        self._bytes: defaultdict[str, int] = defaultdict(int)

    def add(self, topic: str, size: int) -> None:
        """Note a batch of so many bytes as delivered."""
        self._batches[topic] += 1
        self._bytes[topic] += size

    def take(self, topic: str, size: int) -> None:
        """Note that a batch of so many bytes is being processed."""
        self._batches[topic] -= 1
        self._bytes[topic] -= size

    def forget(self) -> None:
        """Forget all: what was delivered will be read again."""
        self._batches.clear()
        self._bytes.clear()

    def waits(self, topic: str) -> bool:
        """Whether a topic has batches that wait."""
        return self._batches.get(topic, 0) > 0

    def has_room(self, topic: str) -> bool:
        """Whether more of a topic may be fetched."""
        return self._bytes.get(topic, 0) < QUEUED_BYTES


def size_of(records: Sequence[Any]) -> int:
    """Give the memory that records take, about, bytes."""
    if isinstance(records, RawRecords):
        # Not from the first key to the last value: both may be null.
        keys = records.key_ends - records.key_begins
        return int((records.value_ends - records.value_begins + keys).sum()) + records.table.nbytes
    return sum(RECORD_BYTES + len(record.key or b"") + len(record.value or b"") for record in records)
