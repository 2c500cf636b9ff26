"""The disk of a state table: of two snapshots of a sensor the newer stays, whichever comes later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import rocksdict
from aiokafka import ConsumerRecord
from faust.stores.rocksdb import Store
from faust.types import TP
from faust.types.tables import CollectionT

from app.dsp.errors import SnapshotError
from app.dsp.snapshot import read_header
from app.runtime.database import exists, marking_damage, open_database


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
    """RocksDB store that never goes back in a sensor's stream, with a database for each partition that has a state.

    A worker that was paused past its session has a batch in flight, perhaps, when it wakes, which the broker then
    appends behind the snapshots of the new owner. Faust takes the last record of a key; then the state would be
    behind the committed input, and that input lost.
    """

    def apply(self, partition: int, records: Sequence[ConsumerRecord]) -> None:
        """Write records of the changelog to disk: of each key the newest, together with the offset reached."""
        keys = list({record.key: None for record in records})
        stored = dict(zip(keys, self.read(partition, keys), strict=True))
        changed: dict[bytes, bytes | None] = {}
        for record in records:
            key, value = record.key, record.value
            if value is None or is_newer(value, changed[key] if key in changed else stored[key]):
                changed[key] = value
        self.write(partition, changed, records[-1].offset)

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
        with marking_damage(self.partition_path(partition)):
            self._db_for_partition(partition).write(batch)

    def read(self, partition: int, keys: list[bytes]) -> list[bytes | None]:
        """Snapshots of a partition; None for those that it does not have."""
        if not self._has(partition):
            return [None] * len(keys)
        with marking_damage(self.partition_path(partition)):
            found: list[bytes | None] = self._db_for_partition(partition).get(keys)
        return found

    def items_of(self, partition: int) -> list[tuple[bytes, bytes]]:
        """All keys of a partition, with their snapshots."""
        if not self._has(partition):
            return []
        with marking_damage(self.partition_path(partition)):
            database = self._db_for_partition(partition)
            return [(key, value) for key, value in database.items() if key != self.offset_key]

    def reached(self, partition: int) -> int:
        """Offset up to which the changelog is on disk; -1 where nothing is."""
        (offset,) = self.read(partition, [self.offset_key])
        return -1 if offset is None else int(offset)

    def persisted_offset(self, tp: TP) -> int | None:
        """Offset up to which the changelog is on disk; None where nothing is."""
        offset = self.reached(tp.partition)
        return None if offset == -1 else offset

    async def assign_partitions(self, table: CollectionT, tps: set[TP], generation_id: int = 0) -> None:
        """Open the databases of partitions that have one; any other is made when something is written to it."""
        there = {tp for tp in tps if self._has(tp.partition)}
        await super().assign_partitions(table, there, generation_id)

    def _has(self, partition: int) -> bool:
        return partition in self._dbs or exists(self.partition_path(partition))

    def _open_for_partition(self, partition: int) -> rocksdict.Rdict:
        return open_database(self.partition_path(partition))
