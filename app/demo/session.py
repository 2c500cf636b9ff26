"""One demo: a worker, a replay, and a consumer that checks every feature record that comes out."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaConsumer

from app.kafka_client import client_options, started
from app.replay import Plan, Sent, new_producer, plan_replay, play, timestamp_of
from app.settings import Settings
from app.sources import builtin_ecg
from app.topics import features_topic, sensor_topic
from app.verify import FeatureVerifier
from app.verify import Sent as SentBlock

QUIET_SECONDS = 20.0
"""Without a record for this long, those that are missing will not come."""

EXTRA_SECONDS = 1.0
"""How long to read on after the last record, for those that should not come."""

LATEST = 8
"""Records shown."""


@dataclass
class Progress:
    """How far a demo is."""

    total: int
    sent: Sent = field(default_factory=Sent)
    features: int = 0
    """Feature records received of this demo's sensors."""
    latest: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=LATEST))
    started: float | None = None
    """When the first block was sent, on the monotonic clock."""
    finished: float | None = None
    """When the last feature came."""

    @property
    def lag(self) -> int:
        """Blocks acknowledged whose features have not come yet."""
        return max(0, self.sent.blocks - self.features)

    @property
    def rate(self) -> float:
        """Features a second so far."""
        if self.started is None:
            return 0.0
        return self.features / max(1e-9, (self.finished or time.monotonic()) - self.started)


def plan_demo(sensors: int, seconds: float) -> Plan:
    """Plan a replay of the built-in ECG, by sensors that no demo before has had."""
    return plan_replay(builtin_ecg(), sensors=sensors, seconds=seconds, name=f"demo-{secrets.token_hex(3)}")


def expectations(plan: Plan, begin: float | None = None) -> FeatureVerifier:
    """Run the offline pass over all signals of a plan, of a replay that begins at a time, ms since the epoch."""
    blocks: list[list[SentBlock]] = [[] for _ in plan.sensors]
    timestamps: list[list[int]] = [[] for _ in plan.sensors]
    for due in plan.blocks():
        blocks[due.sensor].append(SentBlock(due.block * plan.block, plan.block))
        if begin is not None:
            timestamps[due.sensor].append(timestamp_of(begin, due))
    verifier = FeatureVerifier(tier="rt", pipeline="ecg")
    for sensor, sensor_id in enumerate(plan.sensors):
        times = None if begin is None else timestamps[sensor]
        verifier.expect(sensor_id, plan.signal(sensor), blocks[sensor], times)
    return verifier


async def replay_and_verify(
    settings: Settings, plan: Plan, begin: float, verifier: FeatureVerifier, speed: float, progress: Progress
) -> None:
    """Send the plan's blocks, and check the features until none come any more."""
    consumer = AIOKafkaConsumer(features_topic(settings, "ecg"), **client_options(settings))
    async with started(consumer, settings), started(new_producer(settings), settings) as producer:
        await consumer.seek_to_end()
        # Sought before the first block, so that no feature can come before.
        await asyncio.gather(*(consumer.position(partition) for partition in consumer.assignment()))

        def on_sent(sent: Sent) -> None:
            progress.sent = sent

        progress.started = time.monotonic()
        sending = asyncio.create_task(
            play(plan, producer, sensor_topic(settings, "rt"), speed=speed, begin=begin, on_progress=on_sent)
        )
        try:
            await _receive(consumer, verifier, sending, progress)
            await sending
        finally:
            sending.cancel()
    progress.finished = progress.finished or time.monotonic()


async def _receive(
    consumer: AIOKafkaConsumer, verifier: FeatureVerifier, sending: asyncio.Task[Sent], progress: Progress
) -> None:
    verdict = verifier.verdict
    last = time.monotonic()
    while time.monotonic() - last < (QUIET_SECONDS if verdict.missing else EXTRA_SECONDS):
        if sending.done() and sending.exception():
            return
        for batch in (await consumer.getmany(timeout_ms=100)).values():
            for record in batch:
                fields = verifier.add(record.value)
                if fields is not None:
                    progress.features += 1
                    progress.latest.append(fields)
                    last = time.monotonic()
        if not sending.done():
            last = time.monotonic()
        if not verdict.missing and progress.finished is None:
            progress.finished = time.monotonic()
