"""Filling a sensor topic faster than any worker empties it: each round's messages are rows of one array.

`app.replay` encodes every block anew, at 20 µs each, which for millions of blocks is the longest part of a
measurement. Here the messages of a round, one block of every sensor, differ from those of the round before only in
their samples, their timestamp and their index, at places that are the same in all.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import msgspec
import numpy as np
from aiokafka import AIOKafkaProducer
from numpy.typing import NDArray

from app.replay import Plan
from app.runtime.outbox import partition_of
from app.wire.blocks import PackedBlock, encode_frame, encode_msgpack

BEGIN = 1_700_000_000_000
"""Time of the first sample of every stream, ms."""

_MARKED_TIME = 0x0123_4567_89AB
"""Takes as many bytes as any time of ours."""

_ROUNDS_IN_FLIGHT = 4


class _Messages(NamedTuple):
    """Messages of one layout."""

    keys: list[bytes]
    partitions: list[int]
    rows: NDArray[np.uint8]
    """(messages, bytes) each message's, with another round's values."""
    sensors: NDArray[np.intp]
    """(messages, blocks) whose block each one is."""
    places: NDArray[np.intp]
    """(blocks, 3) where its samples, its timestamp and its index begin."""


class Filler:
    """Messages of a plan's blocks.

    Parameters
    ----------
    plan
        What is sent; of encoding `msgpack` or `frame`, of one channel. Times begin at `BEGIN`, the same for all.
    partitions
        Of the topic.
    """

    def __init__(self, plan: Plan, partitions: int) -> None:
        self._plan = plan
        self._partitions = partitions
        self._windows = np.lib.stride_tricks.sliding_window_view(
            np.resize(plan.samples, len(plan.samples) + plan.block).astype("<f4"), plan.block
        )
        self._starts = np.array(plan.starts)
        self._of_width = lru_cache(maxsize=1)(self._encoded)

    async def send(self, producer: AIOKafkaProducer, topic: str, rounds: range) -> None:
        """Send rounds of blocks, one of each sensor a round, and wait until the brokers have them."""
        sent: list[asyncio.Future[object]] = []
        for number in rounds:
            by_partition: defaultdict[int, list[tuple[bytes, bytes]]] = defaultdict(list)
            for partition, key, value in self.messages(number):
                by_partition[partition].append((key, value))
            for partition, messages in by_partition.items():
                batch = producer.create_batch()
                for key, value in messages:
                    if batch.append(key=key, value=value, timestamp=None) is None:
                        sent.append(await producer.send_batch(batch, topic, partition=partition))
                        batch = producer.create_batch()
                        batch.append(key=key, value=value, timestamp=None)
                sent.append(await producer.send_batch(batch, topic, partition=partition))
            if number % _ROUNDS_IN_FLIGHT == 0:
                await asyncio.gather(*sent)
                sent.clear()
        await asyncio.gather(*sent)

    def messages(self, number: int) -> Iterator[tuple[int, bytes, bytes]]:
        """Give partition, key and value of each message of a round."""
        plan = self._plan
        seq = number * plan.block
        time = np.frombuffer((BEGIN + round(seq * 1000 / plan.sample_rate)).to_bytes(8, "big"), np.uint8)
        index = np.frombuffer(msgspec.msgpack.encode(seq), np.uint8)
        samples = np.ascontiguousarray(self._windows[(self._starts + seq) % len(plan.samples)]).view(np.uint8)
        for messages in self._of_width(len(index)):
            for sensors, (of_samples, of_time, of_index) in zip(messages.sensors.T, messages.places, strict=True):
                messages.rows[:, of_samples : of_samples + samples.shape[1]] = samples[sensors]
                messages.rows[:, of_time : of_time + len(time)] = time
                messages.rows[:, of_index : of_index + len(index)] = index
            values = memoryview(messages.rows.tobytes())
            length = messages.rows.shape[1]
            for place, (partition, key) in enumerate(zip(messages.partitions, messages.keys, strict=True)):
                yield partition, key, bytes(values[place * length : (place + 1) * length])

    def _encoded(self, width: int) -> list[_Messages]:
        """Encode a message of each sender, with an index of so many bytes, and put those of one layout together."""
        plan, marked = self._plan, {1: 0, 2: 0x80, 3: 0x100, 5: 0x1_0000}[width]
        together = plan.gateway_sensors
        by_layout: defaultdict[tuple[int, ...], list[tuple[bytes, bytes, range]]] = defaultdict(list)
        for first in range(0, len(plan.sensors), together):
            own = range(first, min(first + together, len(plan.sensors)))
            blocks = [self._block(number, marked) for number in own]
            if plan.encoding == "frame":
                key, value = f"gateway-{plan.sensors[first]}".encode(), encode_frame(blocks)
            else:
                key, value = plan.sensors[first].encode(), encode_msgpack(blocks[0])
            by_layout[len(value), *self._places(value, marked)].append((key, value, own))
        found = []
        for (_, *places), same in by_layout.items():
            keys = [key for key, _, _ in same]
            rows = np.stack([np.frombuffer(value, np.uint8) for _, value, _ in same])
            sensors = np.array([own for _, _, own in same])
            partitions = [partition_of(key, self._partitions) for key in keys]
            found.append(_Messages(keys, partitions, rows, sensors, np.array(places).reshape(-1, 3)))
        return found

    def _block(self, number: int, seq: int) -> PackedBlock:
        plan = self._plan
        samples = memoryview(bytes(4 * plan.block))
        return PackedBlock(
            plan.sensors[number], samples, _MARKED_TIME, seq, sample_rate=plan.sample_rate, pipeline=plan.pipeline
        )

    def _places(self, message: bytes, marked: int) -> list[int]:
        """Find where samples, timestamp and index of each block of a message begin."""
        encode = msgspec.msgpack.encode
        count = 4 * self._plan.block
        changing = [(encode("samples") + encode(bytes(count)), count), (encode("timestamp") + encode(_MARKED_TIME), 8)]
        changing.append((encode("seq") + encode(marked), len(encode(marked))))
        places, at = [], 0
        while at < len(message):
            found = message.find(changing[0][0], at)
            if found < 0:
                break
            for text, length in changing:
                at = message.index(text, max(at, found)) + len(text)
                places.append(at - length)
        return places
