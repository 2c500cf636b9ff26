"""Where a consumer group stands: what it has not committed, and how often it has been put together anew."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import for_code

from app.kafka_client import admin_client, client_options, started
from app.settings import Settings

_OFFSETS_TOPIC = "__consumer_offsets"
_GROUP_KEY_VERSION = 2
_FETCH_BYTES = 4 << 20


async def uncommitted(settings: Settings, topic: str) -> int:
    """Count the messages of a topic that the settings' group has not committed."""
    partitions = await _partitions(settings, topic)
    async with admin_client(settings) as admin:
        committed = await admin.list_consumer_group_offsets(settings.group_id)
    consumer = AIOKafkaConsumer(**client_options(settings))
    async with started(consumer, settings):
        ends = await consumer.end_offsets(partitions)
    return sum(end - (committed[tp].offset if tp in committed else 0) for tp, end in ends.items())


async def generation(settings: Settings) -> int:
    """Give the settings' group's generation, which every rebalance raises; 0 for a group that never was."""
    newest = 0
    async for record in whole_topic(settings, _OFFSETS_TOPIC):
        if record.value is not None and _is_group(record.key, settings.group_id):
            newest = max(newest, _generation(record.value))
    return newest


async def whole_topic(settings: Settings, topic: str) -> AsyncIterator[Any]:
    """Give all records of a topic as it stands, each partition's in order."""
    partitions = await _partitions(settings, topic)
    consumer = AIOKafkaConsumer(**client_options(settings), max_partition_fetch_bytes=_FETCH_BYTES)
    async with started(consumer, settings):
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        for tp, offset in (await consumer.beginning_offsets(partitions)).items():
            consumer.seek(tp, offset)
        unread = set(partitions)
        while unread := {tp for tp in unread if await consumer.position(tp) < ends[tp]}:
            for records in (await consumer.getmany(*unread, timeout_ms=500)).values():
                for record in records:
                    yield record


async def _partitions(settings: Settings, topic: str) -> list[TopicPartition]:
    async with admin_client(settings) as admin:
        (found,) = await admin.describe_topics([topic])
    if found["error_code"]:
        raise for_code(found["error_code"])(topic)
    return [TopicPartition(topic, one["partition"]) for one in found["partitions"]]


def _is_group(key: bytes, group: str) -> bool:
    """Whether a key of the offsets topic is that of a group's own record: version, length, name."""
    version, length = struct.unpack_from(">hh", key)
    return version == _GROUP_KEY_VERSION and key[4 : 4 + length] == group.encode()


def _generation(value: bytes) -> int:
    """Read the generation from a group's record: version, length, protocol type, generation."""
    _, length = struct.unpack_from(">hh", value)
    (number,) = struct.unpack_from(">i", value, 4 + length)
    return int(number)
