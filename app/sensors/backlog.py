"""Which blocks of sensors lie on a topic and are not in their states yet."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from aiokafka import ConsumerRecord, TopicPartition

from app.kafka_reader import Stretch, read
from app.wire.blocks import Frame
from app.wire.parse import RawFrame, parse, parse_packed
from app.wire.reasons import Rejected

if TYPE_CHECKING:
    from aiokafka import AIOKafkaConsumer


async def blocks_of(
    consumer: AIOKafkaConsumer, stretches: Mapping[TopicPartition, Stretch], sensors: Mapping[str, Stretch]
) -> dict[str, list[int]]:
    """Give the offsets of messages with blocks of sensors, in order.

    Parameters
    ----------
    consumer
        Without a group.
    stretches
        What to read of each partition.
    sensors
        Between which offsets each sensor's blocks count.

    Raises
    ------
    BrokerError
        The brokers have given nothing for a while.
    """
    found: defaultdict[str, list[int]] = defaultdict(list)
    keys = {sensor_id.encode() for sensor_id in sensors}
    async for records in read(consumer, stretches):
        for record in records:
            for sensor_id in _sensors_in(record, keys):
                stretch = sensors.get(sensor_id)
                if stretch is not None and stretch.start <= record.offset < stretch.end:
                    found[sensor_id].append(record.offset)
    return found


def _sensors_in(record: ConsumerRecord, keys: set[bytes]) -> Iterable[str]:
    """Give the sensors whose blocks a message may hold; of a frame each once."""
    if record.key in keys:
        return [record.key.decode()]
    if not record.value or record.value.startswith(b"{"):
        return []
    try:
        message = parse(record.value)
    except Rejected:
        return []
    if isinstance(message, RawFrame):
        ids = set()
        for raw in message.blocks:
            with suppress(Rejected):
                ids.add(parse_packed(raw).sensor_id)
        return ids
    return {block.sensor_id for block in message.blocks} if isinstance(message, Frame) else []
