"""Blocks of a plan's sensors, sent a few at a time to whichever tier is named."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

import numpy as np
from aiokafka import AIOKafkaProducer
from numpy.typing import NDArray

from app.replay import Plan
from app.settings import Settings, TierName
from app.topics import sensor_topic
from app.wire.blocks import encode_msgpack, packed

BLOCK = 256
SAMPLE_MS = 4


def timestamp_of(block: int) -> int:
    """Time of the first sample of a sensor's block of a number, ms."""
    return 1_700_000_000_000 + block * BLOCK * SAMPLE_MS


Signals = Mapping[str, NDArray[np.float64]]
"""All that each sensor sends."""


def signals_of(plan: Plan) -> Signals:
    """Give the signals of a plan's sensors."""
    return {sensor_id: plan.signal(number) for number, sensor_id in enumerate(plan.sensors)}


async def send_blocks(
    settings: Settings, signals: Signals, producer: AIOKafkaProducer, tier: TierName, blocks: range, *, speed: float
) -> None:
    """Send blocks of `ecg`, by their numbers, of each sensor to a tier, at a multiple of their true speed."""
    topic = sensor_topic(settings, tier)
    for block in blocks:
        begin = time.monotonic()
        at = slice(block * BLOCK, (block + 1) * BLOCK)
        sent = []
        for sensor_id, signal in signals.items():
            message = packed(sensor_id, signal[at], timestamp_of(block), seq=at.start, pipeline="ecg")
            sent.append(await producer.send(topic, encode_msgpack(message), key=sensor_id.encode()))
        await asyncio.gather(*sent)
        await asyncio.sleep(max(0.0, BLOCK * SAMPLE_MS / 1000 / speed - (time.monotonic() - begin)))
