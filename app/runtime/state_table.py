"""The Faust table of a tier's snapshots: written by partition, the changelog first."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import rocksdict
from faust import Table
from faust.stores.rocksdb import Store
from faust.types import TopicT

from app.runtime.outbox import Outgoing
from app.settings import TierName
from app.topics import SENSOR_PARTITIONS, changelog_topic

if TYPE_CHECKING:
    from app.faust_app import ContinuumApp

#: Faust's defaults are for one big database; a table here has one for each of its partitions.
ROCKSDB_OPTIONS = {
    "block_cache_size": 4 << 20,
    "write_buffer_size": 4 << 20,
    "max_write_buffer_number": 2,
    "max_open_files": 64,
}


class StateTable(Table[bytes, bytes]):
    """Table from sensor id to snapshot bytes, in the partition that the sensor's messages come from.

    `table[key] = value` would cost 200 µs, put the value on disk before the changelog has it, and only log if the
    changelog never gets it. `write` sends a partition's snapshots to the changelog in batches, waits for the
    broker, and then writes them to disk together with the changelog offset they were given: what is on disk is
    exactly what the changelog holds up to that offset.
    """

    app: ContinuumApp

    @classmethod
    def for_tier(cls, app: ContinuumApp, tier: TierName) -> StateTable:
        """Declare the table of a tier."""
        table = app.Table(
            f"{tier}-state",
            key_type=bytes,
            value_type=bytes,
            partitions=SENSOR_PARTITIONS[tier],
            options=dict(ROCKSDB_OPTIONS),
            help=f"Snapshots of the sensors of tier {tier}.",
        )
        return cast("StateTable", table)

    def read(self, partition: int, keys: Sequence[bytes]) -> list[bytes | None]:
        """Snapshots of sensors in a partition that this worker owns; None for those that have none."""
        return cast("list[bytes | None]", self._database(partition).get(list(keys)))

    async def write(self, partition: int, snapshots: Mapping[bytes, bytes]) -> None:
        """Write snapshots; returns when the changelog and the disk have them.

        Raises
        ------
        aiokafka.errors.KafkaError
            The broker does not take them; nothing has been written to disk then.
        """
        topic = self.changelog_topic_name
        batches = await self.app.outbox.send_to(
            topic, partition, [Outgoing(key, value) for key, value in snapshots.items()]
        )
        sent = await asyncio.gather(*batches)
        # A batch is acknowledged with the offset of its first record; nobody else writes to this partition.
        persisted = sent[0].offset + len(snapshots) - 1
        batch = rocksdict.WriteBatch(raw_mode=True)
        for key, value in snapshots.items():
            batch.put(key, value)
        batch.put(Store.offset_key, str(persisted).encode())
        self._database(partition).write(batch)

    def _database(self, partition: int) -> Any:
        return cast("Store", self.data)._db_for_partition(partition)  # noqa: SLF001 - Faust reads it key by key

    async def on_start(self) -> None:
        """Start the store; the changelog topic exists already (`continuum topics create`)."""
        await self.add_runtime_dependency(self.data)

    def _changelog_topic_name(self) -> str:
        tier = cast("TierName", self.name.removesuffix("-state"))
        return changelog_topic(self.app.settings, tier)

    def _new_changelog_topic(self, **kwargs: Any) -> TopicT:
        topic = super()._new_changelog_topic(**kwargs)
        topic.internal = False  # Faust would create it, with settings of its own
        return topic

    def _verify_source_topic_partitions(self, source_topic: str) -> None:
        """Nothing to do: the partition counts have been checked before the worker started."""
