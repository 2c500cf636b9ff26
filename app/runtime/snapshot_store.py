"""The disk of a state table: of two snapshots of a sensor the newer stays, whichever comes later."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import rocksdict
from faust.stores.rocksdb import Store
from faust.types import EventT

from app.dsp.errors import SnapshotError
from app.dsp.snapshot import read_header


def age(snapshot: bytes) -> tuple[int, int] | None:
    """How far the stream was when a snapshot was taken, to compare with others of its sensor; None if damaged."""
    try:
        return read_header(snapshot).age
    except SnapshotError:
        return None


def is_newer(snapshot: bytes, than: bytes | None) -> bool:
    """Whether a snapshot replaces the one that came before it.

    Where one of them cannot be read, which is for the engine to refuse, the later stands, as everywhere in Kafka.
    """
    if than is None:
        return True
    own, other = age(snapshot), age(than)
    return own is None or other is None or own >= other


class SnapshotStore(Store):
    """RocksDB store that never goes back in a sensor's stream.

    A worker that was paused past its session has a batch in flight, perhaps, when it wakes, which the broker then
    appends behind the snapshots of the new owner. Faust takes the last record of a key; then the state would be
    behind the committed input, and that input lost.
    """

    def apply_changelog_batch(self, batch: Iterable[EventT[Any]], to_key: Any, to_value: Any) -> None:  # noqa: ARG002 - Faust's signature
        """Write records of the changelog to disk: of each key the newest, together with the offset reached."""
        messages: defaultdict[int, list[Any]] = defaultdict(list)
        for event in batch:
            # Faust lets records of partitions that are no longer its own pass, as those of the table before.
            if event.message.topic in self.table.changelog_topic.topics:
                messages[event.message.partition].append(event.message)
        for partition, own in messages.items():
            self._apply(partition, own)

    def _apply(self, partition: int, messages: list[Any]) -> None:
        keys = list({message.key: None for message in messages})
        stored = dict(zip(keys, self._db_for_partition(partition).get(keys), strict=True))
        changed: dict[bytes, bytes | None] = {}
        for message in messages:
            if message.value is None or is_newer(message.value, changed.get(message.key, stored[message.key])):
                changed[message.key] = message.value
        self.write(partition, changed, messages[-1].offset)

    def write(self, partition: int, snapshots: Mapping[bytes, bytes | None], offset: int) -> None:
        """Write snapshots, or delete where there is None, in one step with the changelog offset that they reach.

        Parameters
        ----------
        partition
            Where they belong.
        snapshots
            By encoded sensor id.
        offset
            Everything in the changelog up to it is on disk then.
        """
        batch = rocksdict.WriteBatch(raw_mode=True)
        for key, value in snapshots.items():
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        batch.put(self.offset_key, str(offset).encode())
        self._db_for_partition(partition).write(batch)

    def read(self, partition: int, keys: list[bytes]) -> list[bytes | None]:
        """Snapshots of a partition; None for those that it does not have."""
        found: list[bytes | None] = self._db_for_partition(partition).get(keys)
        return found

    def items_of(self, partition: int) -> list[tuple[bytes, bytes]]:
        """All keys of a partition, with their snapshots."""
        database = self._db_for_partition(partition)
        return [(key, value) for key, value in database.items() if key != self.offset_key]

    def reached(self, partition: int) -> int:
        """Offset up to which the changelog is on disk; -1 where nothing is."""
        (offset,) = self.read(partition, [self.offset_key])
        return -1 if offset is None else int(offset)
