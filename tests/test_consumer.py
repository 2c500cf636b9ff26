"""The consumer's gate: what is accepted for processing, and that no fetch spans a seek."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP

from app.transport.consumer import Consumer, OutOfOrderError
from app.transport.deliveries import Deliveries
from app.transport.queued import Queued

PARTITION = TP("rt-sensors", 0)


class Log:
    """A partition of numbered records, and the position of whoever reads it: what aiokafka keeps."""

    def __init__(self) -> None:
        self.position = 0
        self.appended = asyncio.Event()
        self.length = 0

    def append(self, count: int) -> None:
        self.length += count
        self.appended.set()

    async def fetch(self) -> dict[TP, list[Any]]:
        await self.appended.wait()
        records = [record(offset) for offset in range(self.position, self.length)]
        self.position = self.length
        return {PARTITION: records} if records else {}


def record(offset: int) -> Any:
    names = ("headers", "key", "value", "checksum", "serialized_key_size", "serialized_value_size")
    return SimpleNamespace(
        topic=PARTITION.topic,
        partition=0,
        offset=offset,
        timestamp=0,
        timestamp_type=0,
        **dict.fromkeys(names),
    )


class LogConsumer(Consumer):
    """The consumer on a log, without a broker and without Faust's services around it."""

    def __init__(self, log: Log) -> None:
        self.log_of = log
        self.app = SimpleNamespace(  # type: ignore[assignment]
            consumer_generation_id=1,
            topics=SimpleNamespace(acks_enabled_for=lambda _: True),
            monitor=SimpleNamespace(track_tp_end_offset=lambda *_: None),
            tables=SimpleNamespace(changelog_topics=set(), recovery=None),
        )
        self.deliveries = Deliveries()
        self.queued = Queued()
        self._seeks = 0
        self._delivered = defaultdict(int)
        self._accepted = defaultdict(int)
        self._position = {}
        self._fetching = asyncio.Lock()
        self._read_offset = {}
        self._committed_offset = {}
        self._active_partitions = {PARTITION}
        self.flow_active = True

    def highwater(self, tp: TP) -> int:
        return self.log_of.length

    async def _getmany(self, active_partitions: Any, timeout: float) -> Any:
        return await self.log_of.fetch()

    async def seek_to_committed(self) -> dict[TP, int]:
        self.log_of.position = 0
        return {PARTITION: 0}


async def fetched(consumer: Consumer) -> list[Any]:
    return [message async for _, message in consumer.getmany(1.0)]


async def test_no_fetch_spans_a_seek() -> None:
    """Else the fetch takes records from behind the new position, and they are dropped as those of before."""
    log = Log()
    consumer = LogConsumer(log)
    before = asyncio.create_task(fetched(consumer))
    await asyncio.sleep(0)  # the fetch waits for records
    seeking = asyncio.create_task(consumer.perform_seek())
    await asyncio.sleep(0.01)
    log.append(3)
    await seeking
    assert not any(consumer.accepts(message) for message in await before)
    (message,) = await fetched(consumer)
    assert [own.offset for own in message.value.records] == [0, 1, 2]
    assert consumer.accepts(message)


async def test_what_was_delivered_before_a_seek_is_refused() -> None:
    log = Log()
    consumer = LogConsumer(log)
    log.append(2)
    (message,) = await fetched(consumer)
    await consumer.perform_seek()
    assert not consumer.accepts(message)
    (again,) = await fetched(consumer)
    assert consumer.accepts(again)


async def test_settling_refuses_what_is_on_its_way() -> None:
    log = Log()
    consumer = LogConsumer(log)
    log.append(2)
    (message,) = await fetched(consumer)
    consumer.refuse()
    assert not consumer.accepts(message)


async def test_a_batch_that_was_passed_over_is_noticed() -> None:
    log = Log()
    consumer = LogConsumer(log)
    log.append(2)
    (first,) = await fetched(consumer)
    log.append(2)
    (second,) = await fetched(consumer)
    with pytest.raises(OutOfOrderError, match=r"batch 2 of .* up to offset 3: expected batch 1"):
        consumer.accepts(second)
    assert consumer.accepts(first)


async def test_lag_counts_what_is_not_accepted() -> None:
    log = Log()
    consumer = LogConsumer(log)
    await consumer.perform_seek()
    log.append(5)
    (message,) = await fetched(consumer)
    assert consumer.lag(PARTITION) == 5
    consumer.accepts(message)
    assert consumer.lag(PARTITION) == 0
