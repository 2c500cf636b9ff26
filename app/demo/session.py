"""One demo: its streams are sent, and a consumer checks every feature record that comes out."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict, deque
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from app.demo.latency import Latencies
from app.demo.streams import Stream
from app.kafka_client import client_options, started
from app.replay import Sent, new_producer, play
from app.replay.messages import Message
from app.settings import Settings
from app.topics import features_topic, sensor_topic
from app.verify import FeatureVerifier

QUIET_SECONDS = 20.0
"""Without a record for this long, those that are missing will not come."""

EXTRA_SECONDS = 1.0
"""How long to read on after the last record, for those that should not come."""

LATEST = 8
"""Records shown."""


@dataclass
class Course:
    """How far a stream is.

    Parameters
    ----------
    stream
        What is sent.
    verifier
        Checks what comes out.
    """

    stream: Stream
    verifier: FeatureVerifier
    sent: Sent = field(default_factory=Sent)
    features: int = 0
    """Feature records received of its sensors."""
    by_tier: Counter[str] = field(default_factory=Counter)
    """The same, by the tier that gave them."""
    latencies: Latencies = field(init=False)

    def __post_init__(self) -> None:
        self.latencies = self.stream.latencies()

    def take(self, record: bytes) -> dict[str, Any] | None:
        """Check a record, and give its fields; None for one of another's sensor."""
        fields = self.verifier.add(record)
        if fields is not None:
            self.features += 1
            self.by_tier[fields["tier"]] += 1
            self.latencies.received(fields["sensorId"], fields["seq"])
        return fields


@dataclass
class Progress:
    """How far a demo is."""

    courses: Sequence[Course]
    latest: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=LATEST))
    started: float | None = None
    """When the first block was sent, on the monotonic clock."""
    finished: float | None = None
    """When the last feature came."""

    @property
    def total(self) -> int:
        """Blocks to send."""
        return sum(course.stream.plan.total_blocks for course in self.courses)

    @property
    def sent(self) -> int:
        """Blocks acknowledged."""
        return sum(course.sent.blocks for course in self.courses)

    @property
    def features(self) -> int:
        """Feature records received."""
        return sum(course.features for course in self.courses)

    @property
    def missing(self) -> int:
        """Blocks without a record."""
        return sum(course.verifier.verdict.missing for course in self.courses)

    @property
    def lag(self) -> int:
        """Blocks acknowledged whose features have not come yet."""
        return max(0, self.sent - self.features)

    @property
    def rate(self) -> float:
        """Features a second so far."""
        if self.started is None:
            return 0.0
        return self.features / max(1e-9, (self.finished or time.monotonic()) - self.started)


async def replay_and_verify(settings: Settings, begin: float, progress: Progress) -> None:
    """Send all streams at once, and check the features until none come any more.

    Parameters
    ----------
    settings
        Name the brokers and topics.
    begin
        Of all streams, ms since the epoch.
    progress
        What is sent, and how far it is.
    """
    by_topic: defaultdict[str, list[Course]] = defaultdict(list)
    for course in progress.courses:
        by_topic[features_topic(settings, course.stream.pipeline)].append(course)
    consumer = AIOKafkaConsumer(*by_topic, **client_options(settings))
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(started(consumer, settings))
        producers = [
            await stack.enter_async_context(started(new_producer(settings), settings)) for _ in progress.courses
        ]
        await consumer.seek_to_end()
        # Sought before the first block, so that no feature can come before.
        await asyncio.gather(*(consumer.position(partition) for partition in consumer.assignment()))
        progress.started = time.monotonic()
        sending = asyncio.gather(
            *(
                _send(settings, course, producer, begin)
                for course, producer in zip(progress.courses, producers, strict=True)
            )
        )
        try:
            await _receive(consumer, by_topic, sending, progress)
            await sending
        finally:
            sending.cancel()
    progress.finished = progress.finished or time.monotonic()


async def _send(settings: Settings, course: Course, producer: AIOKafkaProducer, begin: float) -> None:
    stream = course.stream

    def topic_of(message: Message) -> str:
        return sensor_topic(settings, stream.tier_of(message))

    await play(
        stream.plan,
        producer,
        topic_of,
        speed=stream.speed,
        begin=begin,
        on_progress=partial(setattr, course, "sent"),
        on_message=course.latencies.sent,
    )


async def _receive(
    consumer: AIOKafkaConsumer,
    by_topic: dict[str, list[Course]],
    sending: asyncio.Future[Any],
    progress: Progress,
) -> None:
    last = time.monotonic()
    while time.monotonic() - last < (QUIET_SECONDS if progress.missing else EXTRA_SECONDS):
        if sending.done() and sending.exception():
            return
        for tp, batch in (await consumer.getmany(timeout_ms=100)).items():
            for record in batch:
                found = next(filter(None, (course.take(record.value) for course in by_topic[tp.topic])), None)
                if found is not None:
                    progress.latest.append(found)
                    last = time.monotonic()
        if not sending.done():
            last = time.monotonic()
        if not progress.missing and progress.finished is None:
            progress.finished = time.monotonic()
