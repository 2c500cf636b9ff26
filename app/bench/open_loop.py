"""Blocks sent at times that were fixed beforehand, and the records that come of them, in one process with one clock.

The batches are built before the first is sent, and what comes is looked at after the last: so that sender and reader
take little of the machine, and a stall of whatever is measured delays no sending and counts in full.
"""

from __future__ import annotations

import asyncio
import gc
import math
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby, islice
from typing import Any

import numpy as np
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.partitioner import DefaultPartitioner
from numpy.typing import NDArray

from app.bench.errors import BenchError
from app.bench.load import PARTITIONS
from app.replay import Plan
from app.replay.messages import Message, message_source

BATCHES_A_SECOND = 500
"""Sent at the most: all blocks of a batch are of one partition and due at one time, as a gateway's."""
QUIET_SECONDS = 30.0
_LEAD = 0.2
"""s from the call to the first block."""


@dataclass(frozen=True)
class Sending:
    """Messages of one partition that are due together.

    Attributes
    ----------
    due
        s after the first.
    partition
        Of the sensors' topic.
    messages
        The messages.
    names
        Key of each record that is to come of them, in order.
    """

    due: float
    partition: int
    messages: list[Message]
    names: list[bytes]


@dataclass(frozen=True)
class Latencies:
    """Of each block of a stretch, in the order of the due times.

    Attributes
    ----------
    readable
        (blocks,) s from when it was due until a reader had its record.
    appended
        (blocks,) s from its append, by the broker's clock, whose ticks are milliseconds.
    late
        (blocks,) s from when it was due until it was handed over to be sent.
    cpu
        Share of a core that sender and reader took.
    """

    readable: NDArray[np.float64]
    appended: NDArray[np.float64]
    late: NDArray[np.float64]
    cpu: float


def sendings(plan: Plan, first: int, count: int, rate: float, *, by_sensor: bool) -> list[Sending]:
    """Give when each message of some of the sensors' blocks is due.

    Parameters
    ----------
    plan
        What is sent.
    first, count
        Number of each sensor's first block, and how many it sends.
    rate
        Blocks/s, all sensors together.
    by_sensor
        Whether records are keyed by their sensor; else by the message that they came of.
    """
    together = plan.gateway_sensors
    gateways = -(-len(plan.sensors) // together)
    messages = islice(message_source(plan)(0.0), first * gateways, (first + count) * gateways)
    partitioner, every = DefaultPartitioner(), list(range(PARTITIONS))
    most = max(1, math.ceil(rate / BATCHES_A_SECOND / together))
    found, blocks = [], 0
    for round_ in _chunks(messages, gateways):
        placed = sorted(
            ((partitioner(own.key, every, []), gateway, own) for gateway, own in enumerate(round_)),
            key=lambda own: own[:2],
        )
        for partition, group in groupby(placed, key=lambda own: own[0]):
            for part in _chunks(group, most):
                names = [
                    plan.sensors[gateway * together + at].encode() if by_sensor else own.key
                    for _, gateway, own in part
                    for at in range(own.blocks)
                ]
                found.append(Sending(blocks / rate, partition, [own for *_, own in part], names))
                blocks += len(names)
    return found


def _chunks(items: Iterator[Any], size: int) -> Iterator[list[Any]]:
    while chunk := list(islice(items, size)):
        yield chunk


async def send_and_read(
    producer: AIOKafkaProducer, topic: str, consumer: AIOKafkaConsumer, stretch: Sequence[Sending]
) -> tuple[Latencies, list[bytes]]:
    """Send messages when they are due, and wait for a record of each block; gives the records too.

    Parameters
    ----------
    producer
        A started one.
    topic
        Of the sensors; its times are those of the appends.
    consumer
        That reads the records, and stands at the end of their topic.
    stretch
        What is sent.

    Raises
    ------
    BenchError
        No record has come for a while, and some are missing.
    """
    built = [(own.due, own.partition, _batch(producer, own.messages)) for own in stretch]
    wanted = sum(len(own.names) for own in stretch)
    reading = asyncio.create_task(_read(consumer, wanted))
    gc.collect()
    gc.disable()
    used = time.process_time()
    start = time.perf_counter() + _LEAD
    late, acknowledged = [], []
    try:
        for due, partition, batch in built:
            while (ahead := start + due - time.perf_counter()) > 0:  # noqa: ASYNC110 - it waits for a time
                await asyncio.sleep(ahead)
            late.append(-ahead)
            acknowledged.append(await producer.send_batch(batch, topic, partition=partition))
            await asyncio.sleep(0)
        appends = [own.timestamp / 1000 for own in await asyncio.gather(*acknowledged)]
        arrived = await reading
    finally:
        gc.enable()
        reading.cancel()
        with suppress(asyncio.CancelledError, BenchError):
            await reading
    seconds = time.perf_counter() - start
    cpu = (time.process_time() - used) / seconds
    return _matched(stretch, start, late, appends, arrived, cpu)


def _batch(producer: AIOKafkaProducer, messages: Sequence[Message]) -> Any:
    batch = producer.create_batch()
    for message in messages:
        if batch.append(key=message.key, value=message.value, timestamp=None) is None:
            raise BenchError(f"{len(messages)} messages of {len(message.value):,} bytes: too much for one request")
    batch.close()
    return batch


_Arrived = list[tuple[float, float, list[Any]]]


async def _read(consumer: AIOKafkaConsumer, wanted: int) -> _Arrived:
    """Read so many records; gives when they came, by the one clock and by the other, some at a time."""
    arrived: _Arrived = []
    count, moved = 0, time.perf_counter()
    while count < wanted:
        batches = await consumer.getmany(timeout_ms=200)
        now = time.perf_counter()
        if batches:
            moved = now
            for records in batches.values():
                arrived.append((now, time.time(), records))
                count += len(records)
        elif now - moved > QUIET_SECONDS:
            raise BenchError(f"only {count:,} of {wanted:,} records, and none for {QUIET_SECONDS:g} s")
    return arrived


def _matched(
    stretch: Sequence[Sending],
    start: float,
    late: list[float],
    appends: list[float],
    arrived: _Arrived,
    cpu: float,
) -> tuple[Latencies, list[bytes]]:
    """Find the block of each record: those of a key come in the order in which they were sent."""
    places: defaultdict[bytes, list[int]] = defaultdict(list)
    sent: list[tuple[float, float, float]] = []
    for own, behind, append in zip(stretch, late, appends, strict=True):
        for name in own.names:
            places[name].append(len(sent))
            sent.append((start + own.due, append, behind))
    coming = {name: iter(own) for name, own in places.items()}
    readable, since_append = np.full(len(sent), np.nan), np.full(len(sent), np.nan)
    for now, clock, records in arrived:
        for record in records:
            place = next(coming.get(record.key, iter(())), None)
            if place is None:
                raise BenchError(f"a record of {record.key!r} that nothing was sent for, or that came twice")
            due, append, _ = sent[place]
            readable[place], since_append[place] = now - due, clock - append
    values = [record.value for _, _, records in arrived for record in records]
    return Latencies(readable, since_append, np.array([behind for *_, behind in sent]), cpu), values
