"""Reading and changing what has been set of sensors: the changelog of the `sensors` table, and Redis after it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping

from aiokafka import AIOKafkaProducer, ConsumerRecord

from app.errors import ContinuumError
from app.kafka_client import client_options, started
from app.kafka_reader import read, retained, topic_reader
from app.redis_client import REDIS_ERRORS, explain, redis_client
from app.sensors.described import write_set
from app.sensors.metadata import MetadataError, SensorMeta, decode_meta, encode_meta
from app.settings import Settings
from app.topics import sensors_changelog

logger = logging.getLogger(__name__)


def apply_records(records: Iterable[ConsumerRecord], metas: dict[str, SensorMeta]) -> set[str]:
    """Bring what has been set up to date with records of the changelog; gives the sensors that they are of."""
    changed = set()
    for record in records:
        try:
            sensor_id = (record.key or b"").decode()
            meta = decode_meta(record.value) if record.value else None
        except (MetadataError, UnicodeDecodeError) as error:
            logger.warning("record %d of %s is passed over: %s", record.offset, record.topic, error)
            continue
        if meta:
            metas[sensor_id] = meta
        else:
            metas.pop(sensor_id, None)
        changed.add(sensor_id)
    return changed


async def read_set(settings: Settings) -> dict[str, SensorMeta]:
    """Read what has been set, by sensor.

    Raises
    ------
    BrokerError, TopicError
        Kafka does not answer, or there is no such topic.
    """
    metas: dict[str, SensorMeta] = {}
    async with topic_reader(settings) as consumer:
        async for records in read(consumer, await retained(consumer, settings, sensors_changelog(settings))):
            apply_records(records, metas)
    return metas


async def change_set(settings: Settings, metas: Mapping[str, SensorMeta]) -> str | None:
    """Set metadata of sensors, in place of what was set of them; running workers know within a second.

    Parameters
    ----------
    settings
        The system's.
    metas
        By sensor; checked.

    Returns
    -------
    Why Redis does not have it yet, in words; None if it has. Workers bring it there.

    Raises
    ------
    BrokerError, TopicError
        Kafka does not answer, or there is no such topic; nothing has been set.
    """
    topic = sensors_changelog(settings)
    async with started(AIOKafkaProducer(**client_options(settings), acks="all"), settings) as producer:
        sent = [
            await producer.send(topic, encode_meta(meta) if meta else None, key=sensor_id.encode(), partition=0)
            for sensor_id, meta in metas.items()
        ]
        await asyncio.gather(*sent)
    try:
        async with redis_client(settings) as redis:
            await write_set(redis, settings.topic_prefix, metas)
    except REDIS_ERRORS as error:
        return explain(error)
    except ContinuumError as error:
        return str(error)
    return None
