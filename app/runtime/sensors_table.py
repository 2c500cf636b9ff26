"""The Faust table of what has been set of sensors: global, so that every worker has it whole."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError
from faust.tables.globaltable import GlobalTable
from faust.types import TopicT
from mode import Service

from app.kafka_client import BrokerError
from app.kafka_reader import topic_reader
from app.sensors.metadata import SensorMeta, encode_meta
from app.sensors.registry import apply_records
from app.topics import sensors_changelog

if TYPE_CHECKING:
    from app.faust_app import ContinuumApp

logger = logging.getLogger(__name__)

POLL_MS = 1000
"""A poll ends at the first record, or after so long."""

RETRY_SECONDS = 1.0


class SensorsTable(GlobalTable):
    """Table from sensor id to what has been set of it, in memory, following its changelog.

    Faust reads the changelog of a global table with the group's consumer, as a standby of every member's and the
    active of one. That one follows nobody's writes but its own, and here the command line writes; all of it stops
    with every rebalance, and takes part in it. So this table is none of the group's: each worker reads its one
    partition by itself, from the beginning, and goes on following it, whatever the group does.
    """

    app: ContinuumApp

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        #: What has been set, by sensor.
        self.metas: dict[str, SensorMeta] = {}
        self.caught_up = asyncio.Event()
        """Set once everything is known that had been set when the worker started."""
        #: Called with the ids of sensors of which something has been set, or unset.
        self.on_change: Callable[[set[str]], None] = lambda _changed: None
        self._next = 0
        self._end = -1
        super().__init__(*args, **kwargs)

    @classmethod
    def declare(cls, app: ContinuumApp) -> SensorsTable:
        """Declare the table; the application starts it with itself."""
        table = app.GlobalTable(
            "sensors",
            key_type=bytes,
            value_type=bytes,
            store="memory://sensors",  # an address without a host counts as none
            partitions=1,
            help="What has been set of sensors: pipeline, tier, labels.",
        )
        app.sensors_table = cast("SensorsTable", table)
        return app.sensors_table

    async def on_start(self) -> None:
        """Nothing to do: there is no store to open, and the topic exists already (`continuum topics create`)."""

    @Service.task
    async def _follow(self) -> None:
        while not self.should_stop:
            try:
                async with topic_reader(self.app.settings) as consumer:
                    await self._read(consumer)
            except (KafkaError, BrokerError) as error:
                logger.warning("sensors table: its changelog cannot be read (%s); what is known of it stands", error)
                await self.sleep(RETRY_SECONDS)

    async def _read(self, consumer: AIOKafkaConsumer) -> None:
        partition = TopicPartition(sensors_changelog(self.app.settings), 0)
        consumer.assign([partition])
        consumer.seek(partition, self._next)
        self._end = (await consumer.end_offsets([partition]))[partition]
        self._look_whether_caught_up()
        while not self.should_stop:
            for records in (await consumer.getmany(partition, timeout_ms=POLL_MS)).values():
                self._apply(records)
            # Offsets that hold no record any more count as read too.
            self._next = await consumer.position(partition)
            self._look_whether_caught_up()

    def _look_whether_caught_up(self) -> None:
        if self._next >= self._end:
            self.caught_up.set()

    def _apply(self, records: list[ConsumerRecord]) -> None:
        changed = apply_records(records, self.metas)
        for sensor_id in changed:
            if sensor_id in self.metas:
                self.data[sensor_id.encode()] = encode_meta(self.metas[sensor_id])
            else:
                self.data.pop(sensor_id.encode(), None)
        if changed:
            self.on_change(changed)

    def _changelog_topic_name(self) -> str:
        return sensors_changelog(self.app.settings)

    def _new_changelog_topic(self, **kwargs: Any) -> TopicT:
        topic = super()._new_changelog_topic(**kwargs)
        topic.internal = False  # Faust would create it, with settings of its own
        return topic
