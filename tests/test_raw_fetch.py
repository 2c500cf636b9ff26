"""What a real broker sends comes as raw records: the same as aiokafka's own, wherever polls and batches end."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from app import compiled
from app.kafka_client import client_options, started
from app.settings import Settings
from app.topics import Topic, create_topics
from app.transport import reading
from app.transport.raw_records import RawRecords
from tests.conftest import NO_KERNEL

if not compiled.AVAILABLE:
    pytest.skip(NO_KERNEL, allow_module_level=True)

from app.transport import raw_fetch

CODECS = [None, *(name for _, (name, usable, _) in sorted(raw_fetch.DECODERS.items()) if usable())]


async def read(settings: Settings, topic: str, *, raw: bool, most: int | None, **options: Any) -> list[Any]:
    """Read a topic from its beginning to its end, and give its records with the kinds of what was polled."""
    consumer = AIOKafkaConsumer(**client_options(settings), enable_auto_commit=False, **options)
    polls = random.Random(1)
    records: list[Any] = []
    async with started(consumer, settings):
        if raw:
            raw_fetch.follow(consumer._fetcher, lambda name: name == topic)
        tp = TopicPartition(topic, 0)
        consumer.assign([tp])
        consumer.seek(tp, 0)
        end = (await consumer.end_offsets([tp]))[tp]
        async with asyncio.timeout(60):
            while await consumer.position(tp) < end:
                limit = most and polls.randint(1, most)
                for polled in (await consumer.getmany(timeout_ms=200, max_records=limit)).values():
                    assert isinstance(polled, RawRecords) == raw
                    records += polled
    return records


async def send(settings: Settings, topic: str, **options: Any) -> None:
    """Send messages of all shapes, the largest in a batch of its own."""
    numbers = random.Random(2)
    async with started(AIOKafkaProducer(**client_options(settings), linger_ms=5, **options), settings) as producer:
        sent = []
        for number in range(400):
            value = None if number % 11 == 0 else numbers.randbytes(numbers.choice([0, 1, 200, 5000]))
            key = None if number % 7 == 0 and value is not None else b"sensor-%d" % number
            headers = [("h", None), ("é", b"x" * number)] if number % 13 == 0 else []
            sent.append(await producer.send(topic, value, key=key, partition=0, headers=headers))
        sent.append(await producer.send(topic, b"large" * 180_000, partition=0))
        await asyncio.gather(*sent)


@pytest.fixture
async def topic(settings: Callable[..., Settings]) -> str:
    own = settings()
    name = f"{own.topic_prefix}raw"
    await create_topics(own, [Topic(name, 1)])
    return name


@pytest.mark.parametrize("compression", CODECS)
@pytest.mark.parametrize("received", ["as aiokafka does", "in place"])
async def test_all_shapes_of_messages(
    settings: Callable[..., Settings], topic: str, compression: Any, received: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AIOKafkaProtocol", "io"):
        monkeypatch.setattr(reading.conn, name, getattr(reading.conn, name))
    own = settings()
    await send(own, topic, compression_type=compression)
    expected = await read(own, topic, raw=False, most=None)
    assert len(expected) == 401
    if received == "in place":
        reading.install()
    for most in (None, 37):
        assert await read(own, topic, raw=True, most=most) == expected
    assert await read(own, topic, raw=True, most=None, max_partition_fetch_bytes=3000, fetch_max_bytes=3000) == expected


async def test_transactions(settings: Callable[..., Settings], topic: str) -> None:
    """Their markers are passed over; who reads what is not committed yet is given the aborted too, as ever."""
    own = settings()
    producer = AIOKafkaProducer(**client_options(own), transactional_id=topic)
    async with started(producer, own):
        for number in range(6):
            await producer.begin_transaction()
            await producer.send_and_wait(topic, b"%d" % number, partition=0)
            await (producer.abort_transaction() if number % 2 else producer.commit_transaction())
    expected = await read(own, topic, raw=False, most=None)
    assert [record.offset for record in expected] == [0, 2, 4, 6, 8, 10]
    assert await read(own, topic, raw=True, most=1) == expected
    committed = await read(own, topic, raw=False, most=None, isolation_level="read_committed")
    assert [record.value for record in committed] == [b"0", b"2", b"4"]


async def test_a_broken_batch_is_fetched_again(
    settings: Callable[..., Settings], topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was whole where it came from, for all that is known here."""
    own = settings()
    await send(own, topic)
    expected = await read(own, topic, raw=False, most=None)
    consumer = AIOKafkaConsumer(**client_options(own), enable_auto_commit=False)
    keep = raw_fetch._Request._keep
    broken = False

    def spoilt(self: Any, tp: Any, batches: memoryview) -> Any:
        nonlocal broken
        if not broken and len(batches):
            broken = True
            batches[len(batches) // 4] ^= 1
        return keep(self, tp, batches)

    monkeypatch.setattr(raw_fetch._Request, "_keep", spoilt)
    records: list[Any] = []
    faults = 0
    async with started(consumer, own):
        raw_fetch.follow(consumer._fetcher, lambda _: True)
        tp = TopicPartition(topic, 0)
        consumer.assign([tp])
        consumer.seek(tp, 0)
        async with asyncio.timeout(60):
            while len(records) < len(expected):
                try:
                    for polled in (await consumer.getmany(timeout_ms=200)).values():
                        records += polled
                except raw_fetch.CorruptRecordException:
                    faults += 1
    assert records == expected
    assert faults == 1
