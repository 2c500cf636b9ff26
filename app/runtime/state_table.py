"""The Faust table of a tier's snapshots: written by partition, the changelog first."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from aiokafka import ConsumerRecord
from faust import Table
from faust.types import StoreT, TopicT
from yarl import URL

from app.runtime.outbox import Outgoing
from app.runtime.snapshot_store import SnapshotStore
from app.settings import TierName
from app.topics import changelog_topic

if TYPE_CHECKING:
    from app.faust_app import ContinuumApp

logger = logging.getLogger(__name__)


class StateTable(Table[bytes, bytes]):
    """Table from sensor id to snapshot bytes, in the partition that the sensor's messages come from.

    It has as many partitions as its changelog has on the brokers, which are as many as the sensors' topic has.

    `table[key] = value` would cost 200 µs, put the value on disk before the changelog has it, and only log if the
    changelog never gets it. `write` sends a partition's snapshots to the changelog in batches, waits for the
    broker, and then writes them to disk together with the changelog offset they were given: what is on disk is
    exactly what the changelog holds up to that offset.
    """

    app: ContinuumApp

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        #: Offsets behind which others' records stand, by partition.
        self._others: dict[int, int] = {}
        super().__init__(*args, **kwargs)

    @classmethod
    def for_tier(cls, app: ContinuumApp, tier: TierName) -> StateTable:
        """Declare the table of a tier."""
        table = app.Table(
            f"{tier}-state",
            key_type=bytes,
            value_type=bytes,
            help=f"Snapshots of the sensors of tier {tier}.",
        )
        return cast("StateTable", table)

    def read(self, partition: int, keys: Sequence[bytes]) -> list[bytes | None]:
        """Snapshots of sensors in a partition that this worker owns; None for those that have none."""
        return self._store_on_disk.read(partition, list(keys))

    def apply(self, partition: int, records: Sequence[ConsumerRecord]) -> None:
        """Write records of the changelog's partition to disk, as a recovery or a standby reads them."""
        self._store_on_disk.apply(partition, records)

    def snapshots(self, partition: int) -> list[tuple[bytes, bytes]]:
        """All sensors of a partition that this worker owns, with their snapshots."""
        return self._store_on_disk.items_of(partition)

    async def write(self, partition: int, snapshots: Mapping[bytes, bytes]) -> None:
        """Write snapshots; returns when the changelog and the disk have them.

        Where another worker's records stand between ours, which only one that was paused past its session can
        have sent, the disk says that it is current up to these only: the next recovery looks at them.

        Raises
        ------
        aiokafka.errors.KafkaError
            The broker does not take them; nothing has been written to disk then.
        """
        topic = self.changelog_topic_name
        batches = await self.app.outbox.send_to(
            topic, partition, [Outgoing(key, value) for key, value in snapshots.items()]
        )
        acknowledged = await asyncio.gather(*(batch.acknowledged for batch in batches))
        before = self._store_on_disk.reached(partition)
        reached = before
        for batch, metadata in zip(batches, acknowledged, strict=True):
            if metadata.offset != reached + 1:
                self._note_others(partition, before, metadata.offset)
                reached = before
                break
            reached += batch.records
        self._store_on_disk.write(partition, snapshots, reached)

    def _note_others(self, partition: int, before: int, offset: int) -> None:
        if self._others.get(partition) != before:  # else it has been said
            self._others[partition] = before
            logger.warning(
                "%s-%d: another worker has written between offsets %d and %d; the next recovery reads from there",
                self.changelog_topic_name,
                partition,
                before,
                offset,
            )

    @property
    def _store_on_disk(self) -> SnapshotStore:
        return cast("SnapshotStore", self.data)

    def _new_store_by_url(self, url: str | URL) -> StoreT[Any, Any]:
        return SnapshotStore(url, self.app, self, table_name=self.name, loop=self.loop)

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
