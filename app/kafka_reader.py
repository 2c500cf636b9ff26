"""Reading stretches of a topic from their beginning to their end, without a consumer group."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import NamedTuple

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from app.kafka_client import BrokerError, client_options, started
from app.settings import Settings
from app.topics import Topic, TopicError, partition_counts

STALL_SECONDS = 30.0
"""Reading without any progress for this long is given up."""

POLL_MS = 250


class Stretch(NamedTuple):
    """Offsets of a partition: the first, and the one after the last."""

    start: int
    end: int


Stretches = dict[TopicPartition, Stretch]


@asynccontextmanager
async def topic_reader(settings: Settings) -> AsyncIterator[AIOKafkaConsumer]:
    """Give a consumer without a group for the time of a `with` block.

    Raises
    ------
    BrokerError
        None of the brokers answers.
    """
    consumer = AIOKafkaConsumer(**client_options(settings), enable_auto_commit=False, auto_offset_reset="earliest")
    async with started(consumer, settings):
        yield consumer


async def retained(consumer: AIOKafkaConsumer, settings: Settings, topic: str) -> Stretches:
    """Tell what the brokers hold of each partition of a topic now.

    Raises
    ------
    TopicError
        There is no such topic.
    """
    count = (await partition_counts(settings, [Topic(topic, 0)]))[topic]
    if count is None:
        raise TopicError(f"there is no topic {topic}: `continuum topics create` makes the topics of the system")
    partitions = [TopicPartition(topic, number) for number in range(count)]
    starts, ends = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
    return {partition: Stretch(starts[partition], ends[partition]) for partition in partitions}


async def read(
    consumer: AIOKafkaConsumer, stretches: Mapping[TopicPartition, Stretch]
) -> AsyncIterator[list[ConsumerRecord]]:
    """Read stretches of partitions, some records at a time, each partition's in order.

    Raises
    ------
    BrokerError
        The brokers have given nothing for a while.
    """
    ends = {partition: stretch.end for partition, stretch in stretches.items() if stretch.start < stretch.end}
    consumer.assign(list(ends))
    for partition in ends:
        consumer.seek(partition, stretches[partition].start)
    positions = {partition: stretches[partition].start for partition in ends}
    moved = time.monotonic()
    while ends:
        for partition, records in (await consumer.getmany(*ends, timeout_ms=POLL_MS)).items():
            yield [record for record in records if record.offset < ends[partition]]
        for partition in list(ends):
            # Offsets that hold no record (compacted away, or markers of transactions) count as read too.
            position = await consumer.position(partition)
            if position != positions[partition]:
                positions[partition], moved = position, time.monotonic()
            if position >= ends[partition]:
                del ends[partition]
                consumer.pause(partition)
        if time.monotonic() - moved > STALL_SECONDS:
            stuck = ", ".join(f"{partition.topic}-{partition.partition}" for partition in ends)
            raise BrokerError(f"nothing came from {stuck} for {STALL_SECONDS:g} s: see the brokers' logs")
