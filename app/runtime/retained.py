"""Reading back what a partition still has of sensors' blocks, until it is enough to warm a changed pipeline up."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from app.dsp.pipeline import Pipeline
from app.dsp.snapshot import Header
from app.dsp.warmup import USELESS, Choice, RetainedBlock, choose
from app.kafka_reader import Stretch, read
from app.wire.decode import decode

if TYPE_CHECKING:
    from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

FIRST_CHUNK, LARGEST_CHUNK = 1_000, 16_000
"""Messages read before it is asked whether they are enough; each chunk is twice the one after it in the log."""

MOST_MESSAGES = 500_000
"""Read of a partition for one round of sensors, at most: a stream that began lately may have no more to be found."""

DECODED_AT_ONCE = 500
"""Messages, between two looks at everything else that the worker does."""


async def read_back(
    consumer: AIOKafkaConsumer,
    partition: TopicPartition,
    log: Stretch,
    headers: Mapping[str, Header],
    pipeline: Pipeline,
) -> dict[str, Choice]:
    """Read a partition backwards until each sensor has what its pipeline needs, or nothing is left.

    Parameters
    ----------
    consumer
        Without a group.
    partition
        That the sensors' snapshots name.
    log
        What the brokers hold of it.
    headers
        Of the snapshots, by sensor.
    pipeline
        The changed one; blocks that name none are taken for its own.

    Raises
    ------
    BrokerError
        The brokers have given nothing for a while.
    """
    #: Down to which offset the partition has been read for each sensor.
    low = {sensor_id: min(header.position.offset, log.end) for sensor_id, header in headers.items()}
    found: dict[str, list[RetainedBlock]] = {sensor_id: [] for sensor_id in headers}
    choices = dict.fromkeys(headers, USELESS)
    missing = set(headers)
    size, count = FIRST_CHUNK, 0
    while missing and count < MOST_MESSAGES:
        end = max(low[sensor_id] for sensor_id in missing)
        start = max(log.start, end - size)
        if start >= end:
            break
        reached = {sensor_id for sensor_id in missing if low[sensor_id] > start}
        chunk = await _blocks(consumer, partition, Stretch(start, end), {id_: low[id_] for id_ in reached}, pipeline)
        for sensor_id in reached:
            low[sensor_id] = start
            if not chunk[sensor_id] and start:
                continue
            found[sensor_id] = chunk[sensor_id] + found[sensor_id]
            choices[sensor_id] = choose(pipeline, headers[sensor_id], found[sensor_id], whole=start == 0)
            if choices[sensor_id].settled:
                missing.discard(sensor_id)
                del found[sensor_id]
        await asyncio.sleep(0)
        count += end - start
        size = min(2 * size, LARGEST_CHUNK)
    return choices


async def _blocks(
    consumer: AIOKafkaConsumer,
    partition: TopicPartition,
    stretch: Stretch,
    ends: Mapping[str, int],
    pipeline: Pipeline,
) -> defaultdict[str, list[RetainedBlock]]:
    """Read the blocks of some sensors in a stretch, each up to an offset; what cannot be decoded is passed over."""
    found: defaultdict[str, list[RetainedBlock]] = defaultdict(list)
    keys = {sensor_id.encode() for sensor_id in ends}
    async for records in read(consumer, {partition: stretch}):
        own = [record for record in records if _may_be_of(record, keys)]
        for begin in range(0, len(own), DECODED_AT_ONCE):
            _collect(own[begin : begin + DECODED_AT_ONCE], ends, pipeline, found)
            await asyncio.sleep(0)
    return found


def _may_be_of(record: ConsumerRecord, keys: set[bytes]) -> bool:
    """Whether a message may have a block of one of the sensors: under its key, or in a frame, which is no JSON."""
    return record.key in keys or not (record.value or b"{").startswith(b"{")


def _collect(
    records: Sequence[ConsumerRecord],
    ends: Mapping[str, int],
    pipeline: Pipeline,
    found: defaultdict[str, list[RetainedBlock]],
) -> None:
    for columns in decode(records, {pipeline.name: pipeline}, pipeline.name).columns:
        for number, sensor_id in enumerate(columns.sensor_ids):
            offset = records[columns.records[number]].offset
            if offset < ends.get(sensor_id, 0):
                # A copy: a view would keep all the samples that were decoded with it.
                values = columns.values[columns.bounds[number] : columns.bounds[number + 1]].copy()
                seq, stream = columns.seqs[number], columns.streams[number]
                found[sensor_id].append(RetainedBlock(offset, columns.timestamps[number], seq, stream, values))
