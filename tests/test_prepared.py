"""Batches that come ready, sent by the idempotent producer: every record once and in order, whatever happens."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import numpy as np
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.produce import ProduceRequest

from app.kafka_client import client_options
from app.pipelines import shipped_pipelines
from app.runtime.lingering import WORTH_A_REQUEST, LingeringOutbox
from app.runtime.outbox import Outbox, Outgoing
from app.settings import Settings
from app.topics import create_topics, features_topic, needed_topics
from tests.conftest import NO_KERNEL

pytest.importorskip("numba", reason=NO_KERNEL, exc_type=ImportError)
from app.compiled.features import Encoded, FeatureBatches, Rows
from app.compiled.partitions import partitions_of

ECG = shipped_pipelines()["ecg"]


def topic_of(settings: Settings) -> str:
    return features_topic(settings, "ecg")


@pytest.fixture
async def producer(settings: Callable[..., Settings]) -> AsyncIterator[AIOKafkaProducer]:
    needed = needed_topics(settings(), shipped_pipelines())
    await create_topics(settings(), [topic for topic in needed if topic.name == topic_of(settings())])
    async with AIOKafkaProducer(**client_options(settings()), acks="all", enable_idempotence=True) as made:
        yield made


async def encoded(settings: Settings, outbox: Outbox, count: int, first: int = 0, limit: int = 4000) -> Encoded:
    """Records of three sensors by turns, each with its number as its index."""
    partitions = await outbox.partition_count(topic_of(settings))
    texts = np.array(bytearray(b"abc"), np.uint8)
    begins = np.arange(first, first + count) % 3
    values = np.random.default_rng(first).normal(size=(count, 4))
    seqs = np.arange(first, first + count)
    rows = Rows(texts, begins, begins + 1, seqs * 1000, seqs, values, np.ones((count, 4), bool))
    where = partitions_of(texts, begins, begins + 1, partitions).astype(np.int64)
    return FeatureBatches(ECG, "rt").encode(rows, where, partitions, limit)


def keyed(*parts: Encoded) -> list[tuple[bytes, bytes]]:
    """Records by sensor, in order."""
    records = [part.record(row) for part in parts for row in range(len(part))]
    found = [(record[13:14], record) for record in records]
    return sorted(found, key=lambda record: record[0])


async def read(settings: Settings) -> list[tuple[bytes, bytes]]:
    topic = topic_of(settings)
    async with AIOKafkaConsumer(**client_options(settings)) as consumer:
        await consumer._client._wait_on_metadata(topic)
        own = [TopicPartition(topic, partition) for partition in consumer.partitions_for_topic(topic)]
        consumer.assign(own)
        await consumer.seek_to_beginning(*own)
        ends = await consumer.end_offsets(own)
        records: list[Any] = []
        while len(records) < sum(ends.values()):
            for batch in (await consumer.getmany(timeout_ms=1000)).values():
                records += batch
    # Sorting is stable, so that what is out of order within a partition stays so.
    return sorted(((record.key, record.value) for record in records), key=lambda record: record[0])


async def test_records_come_out_in_order(settings: Callable[..., Settings], producer: AIOKafkaProducer) -> None:
    outbox, topic = Outbox(lambda: producer), topic_of(settings())
    parts = [
        await encoded(settings(), outbox, 200, 0),
        await encoded(settings(), outbox, 1, 200),
        await encoded(settings(), outbox, 99, 201),
    ]
    assert len(parts[0].batches) > 10
    for part in parts:
        for future in await outbox.send_prepared(topic, part.batches):
            await future
    assert await read(settings()) == keyed(*parts)


async def test_prepared_batches_and_single_records_take_turns(
    settings: Callable[..., Settings], producer: AIOKafkaProducer
) -> None:
    """As a worker sends both, by the same producer, whose sequence numbers run on."""
    outbox, topic = Outbox(lambda: producer), topic_of(settings())
    futures, parts = [], []
    for number in range(6):
        parts.append(await encoded(settings(), outbox, 20, 20 * number, limit=1 << 20))
        if number % 2:
            futures += await outbox.send_prepared(topic, parts[-1].batches)
        else:
            futures += await outbox.send(topic, [Outgoing(key, value) for key, value in keyed(parts[-1])])
    for future in futures:
        await future
    assert await read(settings()) == keyed(*parts)


async def test_a_batch_whose_answer_is_lost_is_sent_again_and_counts_once(
    settings: Callable[..., Settings], producer: AIOKafkaProducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox, topic = Outbox(lambda: producer), topic_of(settings())
    send, lost = producer.client.send, []

    async def lossy(node: int, request: Any, **options: Any) -> Any:
        answer = await send(node, request, **options)
        if isinstance(request, ProduceRequest) and len(lost) < 3:
            lost.append(request)
            raise KafkaConnectionError("lost")
        return answer

    monkeypatch.setattr(producer.client, "send", lossy)
    part = await encoded(settings(), outbox, 60, limit=2000)
    for future in await outbox.send_prepared(topic, part.batches):
        await future
    assert len(lost) == 3
    assert await read(settings()) == keyed(part)


async def test_batches_of_a_tier_that_gathers_keep_their_place(
    settings: Callable[..., Settings], producer: AIOKafkaProducer
) -> None:
    """A large one goes at once, but after the small ones before it, and after single records."""
    outbox, topic = LingeringOutbox(lambda: producer, seconds=600.0), topic_of(settings())
    few, more = await encoded(settings(), outbox, 3), await encoded(settings(), outbox, 3, 3)
    many, last = (
        await encoded(settings(), outbox, WORTH_A_REQUEST, 6),
        await encoded(settings(), outbox, WORTH_A_REQUEST, 500),
    )
    gathered = await outbox.send_prepared(topic, few.batches)
    gathered += await outbox.send(topic, [Outgoing(key, value) for key, value in keyed(more)])
    assert not any(future.done() for future in gathered)
    for future in [*await outbox.send_prepared(topic, many.batches), *gathered]:
        await future
    for future in await outbox.send_prepared(topic, last.batches):
        await future
    assert await read(settings()) == keyed(few, more, many, last)
