"""Sensors of every kind on one topic: with an index, with nothing but a time, and behind gateways."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from app.chaos.offsets import whole_topic
from app.kafka_client import started
from app.replay import new_producer
from app.runtime.outbox import partition_of
from app.settings import TierName
from app.topics import Topic, features_topic, partition_counts, sensor_topic
from app.verify import FeatureVerifier, Sent
from app.wire.blocks import PackedBlock, encode_frame, encode_msgpack, packed
from tests.system import System, noise

BLOCK = 256
GATEWAYS = 3


@dataclass
class Ward:
    """Sensors that stream in turns: a third each with `seq`, with timestamps only, and in frames of gateways.

    Parameters
    ----------
    system, tier
        Where they send.
    sensors, blocks
        How many, and how many blocks each sends in all.
    """

    system: System
    sensors: int
    blocks: int
    tier: TierName = "rt"
    sent: int = 0
    sent_at: dict[int, float] = field(default_factory=dict)
    """When each round of blocks was sent, on the monotonic clock."""
    signals: list[NDArray[np.float64]] = field(init=False)

    def __post_init__(self) -> None:
        self.signals = [noise(self.blocks * BLOCK, number) for number in range(self.sensors)]

    async def send(self, blocks: int, *, partitions: int | None = None, name: str = "s", pause: float = 0.0) -> None:
        """Send the next blocks of all sensors.

        Parameters
        ----------
        blocks
            Of each.
        partitions
            As many as the producer believes that there are; None for all.
        name
            Begins the ids.
        pause
            After each round, s.
        """
        topic = sensor_topic(self.system.settings, self.tier)
        count = partitions or (await partition_counts(self.system.settings, [Topic(topic, 0)]))[topic]
        assert count is not None
        async with started(new_producer(self.system.settings), self.system.settings) as producer:
            for number in range(self.sent, self.sent + blocks):
                messages = self._messages(name, number)
                self.sent_at[number] = time.monotonic()
                sent = [await producer.send(topic, value, key, partition_of(key, count)) for key, value in messages]
                await asyncio.gather(*sent)
                await asyncio.sleep(pause)
        self.sent += blocks

    def _messages(self, name: str, number: int) -> Iterator[tuple[bytes, bytes]]:
        frames: dict[bytes, list[PackedBlock]] = {}
        for sensor in range(self.sensors):
            block = self._block(f"{name}{sensor}", sensor, number)
            if sensor % 3 == 2:
                frames.setdefault(f"gateway-{name}{sensor % GATEWAYS}".encode(), []).append(block)
            else:
                yield block.sensor_id.encode(), encode_msgpack(block)
        for gateway, blocks in frames.items():
            yield gateway, encode_frame(blocks)

    def _block(self, sensor_id: str, sensor: int, number: int) -> PackedBlock:
        begin = number * BLOCK
        samples = self.signals[sensor][begin : begin + BLOCK]
        seq = None if sensor % 3 == 1 else begin
        return packed(sensor_id, samples, 1_700_000_000_000 + begin * 4, seq=seq, pipeline="ecg")

    async def drained(self) -> None:
        """Wait until all is consumed and committed."""
        async with asyncio.timeout(60):
            while await self.system.lag(self.tier):  # noqa: ASYNC110 - it is other processes that commit
                await asyncio.sleep(0.2)

    def verifier(self, name: str = "s") -> FeatureVerifier:
        """Expect what sensors that never moved would give."""
        verifier = FeatureVerifier(pipeline="ecg", tier=self.tier)
        blocks = [Sent(number * BLOCK, BLOCK) for number in range(self.blocks)]
        for sensor, signal in enumerate(self.signals):
            verifier.expect(f"{name}{sensor}", signal, blocks)
        return verifier

    async def features(self, name: str) -> dict[tuple[str, int], dict[str, Any]]:
        """First record of each block, by the sensor's number and the block's index."""
        found: dict[tuple[str, int], dict[str, Any]] = {}
        async for record in whole_topic(self.system.settings, features_topic(self.system.settings, "ecg")):
            fields = msgspec.json.decode(record.value)
            sensor_id = fields.pop("sensorId")
            if sensor_id.startswith(name):
                found.setdefault((sensor_id.removeprefix(name), fields["seq"]), fields)
        return found

    async def check(self) -> None:
        """Every feature there once, right, and to the last bit that of a twin that never moved."""
        verifier = self.verifier()
        topic = features_topic(self.system.settings, "ecg")
        assert self.sent == self.blocks
        records = [record.value async for record in whole_topic(self.system.settings, topic)]
        for value in records:
            verifier.add(value)
        verdict = verifier.verdict
        assert verdict.passed, (verdict, verdict.examples)
        assert verdict.repeated == 0
        self.sent = 0
        await self.send(self.blocks, name="twin-")
        await self.drained()
        assert await self.features("s") == await self.features("twin-")
