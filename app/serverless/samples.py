"""Events to try the function with: simulated sensors' blocks, as if they had been read from a tier's topic."""

from __future__ import annotations

import time

import numpy as np
from aiokafka import ConsumerRecord, TopicPartition

from app.errors import ContinuumError
from app.runtime.outbox import partition_of
from app.serverless.event_source import Source, encode_event
from app.settings import Settings, TierName
from app.tiers import TIER_DEFAULTS
from app.topics import sensor_topic
from app.wire.blocks import encode_json

SEED = 7


class SampleError(ContinuumError):
    """No such event can be made."""


def sample_event(
    settings: Settings,
    tier: TierName,
    *,
    sensors: int,
    blocks: int,
    samples: int = 256,
    pipeline: str | None = None,
    source: Source = "self-managed",
) -> bytes:
    """Make an event of simulated sensors.

    Parameters
    ----------
    settings
        Whose topic.
    tier
        Whose topic.
    sensors, blocks, samples
        How many, how many of each, and how many values a block holds.
    pipeline
        That the blocks name; None for none.
    source
        Whose event.

    Returns
    -------
    JSON; two events made with the same arguments hold the same samples, at the time that they are made.
    """
    if min(sensors, blocks, samples) < 1:
        raise SampleError(f"{sensors} sensors, {blocks} blocks, {samples} samples: expected at least 1 of each")
    generator = np.random.default_rng(SEED)
    topic, now = sensor_topic(settings, tier), round(time.time() * 1000)
    records: dict[TopicPartition, list[ConsumerRecord]] = {}
    for number in range(sensors):
        sensor = f"sample-{number + 1}"
        signal = generator.normal(size=blocks * samples).cumsum()
        partition = TopicPartition(topic, partition_of(sensor.encode(), TIER_DEFAULTS[tier].partitions))
        for block in range(blocks):
            part = signal[block * samples : (block + 1) * samples].round(4)
            value = encode_json(sensor, part, now, seq=block * samples, pipeline=pipeline)
            own = records.setdefault(partition, [])
            own.append(record_at(partition, len(own), now, sensor.encode(), value))
    return encode_event(records, settings.kafka_bootstrap or "", source)


def record_at(partition: TopicPartition, offset: int, timestamp: int, key: bytes, value: bytes) -> ConsumerRecord:
    """Make a record as if it had been consumed from a place in a topic."""
    return ConsumerRecord(
        topic=partition.topic,
        partition=partition.partition,
        offset=offset,
        timestamp=timestamp,
        timestamp_type=0,
        key=key,
        value=value,
        checksum=None,
        serialized_key_size=len(key),
        serialized_value_size=len(value),
        headers=(),
    )
