"""The player: sends a plan's messages at their times through a Kafka producer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError
from aiokafka.partitioner import DefaultPartitioner

from app.kafka_client import client_options
from app.replay.messages import Message, message_source
from app.replay.plan import Plan, ReplayError
from app.settings import Settings

#: Bytes of a partition's batch. Fifty JSON blocks of 256 samples; brokers take 1 MB.
_BATCH_BYTES = 256 * 1024

#: Shortest sleep, s of stream time: blocks due within it go out in one request, as each costs up to 1 ms of CPU.
_TICK = 0.001

#: The same in s of the clock, for high speeds.
_LONGEST_TICK = 0.02


@dataclass
class Sent:
    """What the brokers have acknowledged so far.

    Attributes
    ----------
    blocks, messages, bytes
        Counts; the bytes are those of the messages' values.
    """

    blocks: int = 0
    messages: int = 0
    bytes: int = 0


def new_producer(settings: Settings, **options: Any) -> AIOKafkaProducer:
    """Make a producer for `play`, with further options of aiokafka's; the caller starts and stops it."""
    return AIOKafkaProducer(**client_options(settings), acks="all", max_batch_size=_BATCH_BYTES, **options)


async def play(
    plan: Plan,
    producer: AIOKafkaProducer,
    topic: str | Callable[[Message], str],
    *,
    speed: float = 1.0,
    tick: float | None = None,
    begin: float | None = None,
    on_progress: Callable[[Sent], object] | None = None,
    on_message: Callable[[Message], object] | None = None,
) -> Sent:
    """Send a plan's blocks, each sensor's in order, and wait until the brokers have all.

    A block goes out when its last sample would have been measured, the first at once. Sent faster, timestamps run
    ahead of the clock, as samples are worth the same time at any speed.

    Parameters
    ----------
    plan
        What to send.
    producer
        A started one, from `new_producer`.
    topic
        Where to; a function of the message, where sensors move from topic to topic.
    speed
        Seconds of stream time a second; infinity for as fast as the brokers take them.
    tick
        Shortest time between requests, s of the clock; None for one in which only what is due at once goes together.
    begin
        The stream's beginning, ms since the epoch; else one block's duration before the call.
    on_progress
        Called at the start and whenever blocks have been acknowledged, always with the same object, which goes on
        counting until the producer has stopped, even if `play` is cancelled.
    on_message
        Called with each message as it is handed over to be sent.

    Raises
    ------
    ReplayError
        There is no such topic, the speed is not positive, or the brokers refuse blocks or stop taking them.
    """
    if not speed > 0:
        raise ReplayError(f"speed {speed:g}: expected a number above 0")
    outbox = _Outbox(producer, on_progress)
    if isinstance(topic, str):
        await outbox.partitions_of(topic)  # refused before anything is encoded
    source = message_source(plan)
    if begin is None:
        begin = (time.time() - plan.duration) * 1000
    name = topic if isinstance(topic, str) else "their topic"
    started = time.monotonic()
    if tick is None:
        tick = min(_TICK * speed, _LONGEST_TICK)
    try:
        for message in source(begin):
            due = started + message.time / speed
            if due > time.monotonic():
                await outbox.flush()
                await asyncio.sleep(max(due - time.monotonic(), tick))
            if on_message is not None:
                on_message(message)
            await outbox.add(topic if isinstance(topic, str) else topic(message), message)
        await outbox.flush()
        await outbox.delivered()
    except MessageSizeTooLargeError as error:
        raise ReplayError(
            f"blocks of {plan.block} samples as {plan.encoding} are larger than {name} takes;"
            " give a smaller --block, or another --encoding"
        ) from error
    except KafkaError as error:
        raise ReplayError(f"Kafka does not take blocks for {name} ({error!r}); see the brokers' logs") from error
    return outbox.sent


async def _partitions(producer: AIOKafkaProducer, topic: str) -> list[int]:
    # Asking for one topic would create it on brokers that do so, with a wrong number of partitions.
    cluster = await producer.client.fetch_all_metadata()
    partitions = cluster.partitions_for_topic(topic)
    if not partitions:
        raise ReplayError(f"there is no topic {topic}; create it with `continuum topics create`")
    return sorted(partitions)


class _Outbox:
    """Messages on their way: one open batch a partition, and what has been acknowledged."""

    def __init__(self, producer: AIOKafkaProducer, on_progress: Callable[[Sent], object] | None) -> None:
        self.sent = Sent()
        self._producer = producer
        self._on_progress = on_progress
        self._partitions: dict[str, list[int]] = {}
        self._partition_of: dict[tuple[str, bytes], int] = {}
        self._batches: dict[tuple[str, int], Any] = {}
        self._contents: dict[tuple[str, int], Sent] = {}
        self._unacknowledged: set[asyncio.Future[Any]] = set()
        self._error: BaseException | None = None
        self._report()

    async def partitions_of(self, topic: str) -> list[int]:
        """Give a topic's partitions, as they were when it was met first."""
        if topic not in self._partitions:
            self._partitions[topic] = await _partitions(self._producer, topic)
        return self._partitions[topic]

    async def add(self, topic: str, message: Message) -> None:
        """Put a message into its partition's batch; wait only if that is full and the one before still goes out."""
        partition = self._partition_of.get((topic, message.key))
        if partition is None:
            partition = DefaultPartitioner()(message.key, await self.partitions_of(topic), [])
            self._partition_of[topic, message.key] = partition
        place = topic, partition
        batch = self._batches.get(place)
        if batch is None or batch.append(key=message.key, value=message.value, timestamp=None) is None:
            if batch is not None:
                await self._send(place)
                # `send_batch` does not wait while there is room, but what was sent before must get out.
                await asyncio.sleep(0)
            batch = self._batches[place] = self._producer.create_batch()
            self._contents[place] = Sent()
            batch.append(key=message.key, value=message.value, timestamp=None)
        content = self._contents[place]
        content.blocks += message.blocks
        content.messages += 1
        content.bytes += len(message.value)

    async def flush(self) -> None:
        """Send all open batches."""
        for place in list(self._batches):
            await self._send(place)

    async def delivered(self) -> None:
        """Wait until all that was sent is acknowledged."""
        while self._unacknowledged:
            await asyncio.wait(self._unacknowledged)
        self._raise_error()

    async def _send(self, place: tuple[str, int]) -> None:
        self._raise_error()
        batch, (topic, partition) = self._batches.pop(place), place
        batch.close()
        future = await self._producer.send_batch(batch, topic, partition=partition)
        self._unacknowledged.add(future)
        future.add_done_callback(partial(self._acknowledged, self._contents.pop(place)))

    def _acknowledged(self, content: Sent, future: asyncio.Future[Any]) -> None:
        self._unacknowledged.discard(future)
        if future.cancelled():
            return
        error = future.exception()
        if error is not None:
            self._error = self._error or error
            return
        self.sent.blocks += content.blocks
        self.sent.messages += content.messages
        self.sent.bytes += content.bytes
        self._report()

    def _report(self) -> None:
        if self._on_progress is not None:
            self._on_progress(self.sent)

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error
