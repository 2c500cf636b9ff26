"""What waits for a tier is bounded, and what nobody will take is not fetched."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from faust.types import TP
from hypothesis import given
from hypothesis import strategies as st

from app.kafka_client import client_options, started
from app.topics import sensor_topic
from app.transport.interest import Interest
from app.transport.queued import QUEUED_BYTES, Queued, size_of
from tests.system import System
from tests.test_consumer import PARTITION, Log, LogConsumer

OTHER = TP("batch-sensors", 0)


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, QUEUED_BYTES)), max_size=20))
def test_a_topic_has_room_until_enough_of_it_waits(batches: list[tuple[str, int]]) -> None:
    queued = Queued()
    for topic, size in batches:
        queued.add(topic, size)
    for topic in "ab":
        own = [size for of, size in batches if of == topic]
        while own:
            assert queued.waits(topic)
            assert queued.has_room(topic) == (sum(own) < QUEUED_BYTES)
            queued.take(topic, own.pop())
        assert not queued.waits(topic)
        assert queued.has_room(topic)


def test_what_is_void_waits_no_longer() -> None:
    queued = Queued()
    queued.add("a", QUEUED_BYTES)
    queued.forget()
    assert queued.has_room("a")
    assert not queued.waits("a")


def test_records_without_key_and_value_take_memory_too() -> None:
    records = [SimpleNamespace(key=None, value=None), SimpleNamespace(key=b"k", value=b"v" * 99)]
    assert size_of(records) == 2 * size_of(records[:1]) + 100


async def test_a_fetch_leaves_out_a_topic_of_which_enough_waits() -> None:
    asked: list[set[TP]] = []

    class Asked(LogConsumer):
        async def _getmany(self, active_partitions: Any, timeout: float) -> Any:
            asked.append(active_partitions)
            return {}

    consumer = Asked(Log())
    consumer._active_partitions = {PARTITION, OTHER}
    for size in (0, QUEUED_BYTES):
        consumer.queued.add(OTHER.topic, size)
        async for _ in consumer.getmany(1.0):
            pytest.fail("there is nothing")
    consumer._void()
    async for _ in consumer.getmany(1.0):
        pytest.fail("there is nothing")
    assert asked == [{PARTITION, OTHER}, {PARTITION}, {PARTITION, OTHER}]


async def test_only_what_is_wanted_is_fetched(system: System) -> None:
    settings = system.settings
    tps = {tier: TopicPartition(sensor_topic(settings, tier), 0) for tier in ("rt", "batch")}
    consumer = AIOKafkaConsumer(**client_options(settings), auto_offset_reset="earliest")
    async with started(consumer, settings), system.producer() as producer:
        consumer.assign(list(tps.values()))
        fetcher = consumer._fetcher
        interest = Interest(fetcher)
        for wanted, other in (("rt", "batch"), ("batch", "rt")):
            interest.wants({TP(*tps[wanted])})
            for tp in tps.values():
                await producer.send_and_wait(tp.topic, b"x", partition=0)
            async with asyncio.timeout(30):
                while tps[wanted] not in fetcher._records:  # noqa: ASYNC110 - it is aiokafka's
                    await asyncio.sleep(0.01)
            assert tps[other] not in fetcher._records, "it was fetched, and nobody has asked for it"
            assert (await consumer.getmany(tps[wanted], timeout_ms=1000))[tps[wanted]]
