"""The function: from a fresh process to its first feature, and its events once it is warm."""

from __future__ import annotations

import asyncio
import math
import os
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import msgspec
import numpy as np
from aiokafka import TopicPartition

from app.bench.throughput import BenchError
from app.pipelines import shipped_pipelines
from app.serverless.event_source import encode_event
from app.serverless.samples import record_at
from app.settings import Settings, as_environment
from app.topics import FEATURE_PARTITIONS, Topic, create_topics, dead_letter_topic, features_topic, sensor_topic
from app.wire.blocks import encode_msgpack, packed

COLD_PIPELINES = ("ecg", "wearable", "report")
WARM_PIPELINE = "ecg"
BLOCK = 256
"""Samples of a record."""
RECORDS = (1, 100, 1000)
MODES = ("on demand", "warm")
RATES = (250.0, 100.0, 10.0, 1.0)
"""Hz, at which a cold start is given in samples."""
LINE_LIMIT = 64 << 20


@dataclass
class ColdStart:
    """Cold starts of a pipeline's first event, s."""

    imported: list[float] = field(default_factory=list)
    """Importing the handler."""
    event: list[float] = field(default_factory=list)
    """The first event, with its connections."""
    total: list[float] = field(default_factory=list)
    """From the start of Python until the feature is acknowledged and the state saved."""

    def samples(self, rate: float) -> int:
        """Give the samples that a sensor sends in the median cold start, rounded up."""
        return math.ceil(float(np.median(self.total)) * rate)


@dataclass
class FunctionResult:
    """What was measured."""

    cold: dict[str, ColdStart]
    """By pipeline."""
    warm: dict[str, dict[int, list[float]]]
    """Seconds of each invocation, by mode and by records of an event."""
    memory: dict[str, int]
    """Most memory that a process had, bytes; of a cold start by pipeline, else by mode."""


async def measure_function(
    settings: Settings, repeats: int, invocations: int, progress: Callable[[str], None]
) -> FunctionResult:
    """Measure cold starts and warm invocations; the contenders take turns.

    Parameters
    ----------
    settings
        With a topic prefix of its own.
    repeats
        Cold starts of each pipeline.
    invocations
        Warm invocations of each mode and size.
    progress
        Told what is measured.
    """
    names = [*(features_topic(settings, pipeline) for pipeline in COLD_PIPELINES), dead_letter_topic(settings)]
    await create_topics(settings, [Topic(name, FEATURE_PARTITIONS) for name in names])
    result = FunctionResult({name: ColdStart() for name in COLD_PIPELINES}, {mode: {} for mode in MODES}, {})
    for number in range(repeats):
        progress(f"cold start {number + 1} of {repeats}")
        for pipeline in COLD_PIPELINES:
            await _cold(settings, pipeline, number, result)
    await _warm(settings, invocations, result, progress)
    return result


async def _cold(settings: Settings, pipeline: str, number: int, result: FunctionResult) -> None:
    event = _event(settings, pipeline, [f"cold-{pipeline}-{number}"], 0)
    started = time.perf_counter()
    async with _process(settings) as process:
        answer = await _invoke(process, event)
        total = time.perf_counter() - started
    cold = result.cold[pipeline]
    cold.imported.append(answer["imported"])
    cold.event.append(answer["seconds"])
    cold.total.append(total)
    result.memory[pipeline] = max(result.memory.get(pipeline, 0), answer["memory"])


async def _warm(settings: Settings, invocations: int, result: FunctionResult, progress: Callable[[str], None]) -> None:
    modes = {mode: settings.model_copy(update={"function_warm": mode == "warm"}) for mode in MODES}
    async with _process(modes[MODES[0]]) as first, _process(modes[MODES[1]]) as second:
        processes = dict(zip(MODES, (first, second), strict=True))
        for records in RECORDS:
            progress(f"{invocations} events of {records:,} records")
            for number in range(invocations + 1):
                for mode, process in processes.items():
                    sensors = [f"{mode}-{records}-{sensor}" for sensor in range(records)]
                    answer = await _invoke(process, _event(settings, WARM_PIPELINE, sensors, number))
                    if number:  # before it the sensors have no state
                        result.warm[mode].setdefault(records, []).append(answer["seconds"])
                    result.memory[mode] = answer["memory"]


def _event(settings: Settings, pipeline: str, sensors: Sequence[str], number: int) -> bytes:
    """Encode an event with the next block of each sensor."""
    topic, signal = sensor_topic(settings, "batch"), shipped_pipelines()[pipeline].signal
    samples = np.random.default_rng(number).normal(size=BLOCK * signal.channels).astype(np.float32)
    first = number * BLOCK
    timestamp = 1_700_000_000_000 + round(first * 1000 / signal.sample_rate)
    partition = TopicPartition(topic, 0)
    records = [
        record_at(
            partition,
            number * len(sensors) + place,
            timestamp,
            sensor.encode(),
            encode_msgpack(packed(sensor, samples, timestamp, seq=first, pipeline=pipeline)),
        )
        for place, sensor in enumerate(sensors)
    ]
    return encode_event({partition: records}, settings.kafka_bootstrap or "")


@asynccontextmanager
async def _process(settings: Settings) -> AsyncIterator[Process]:
    command = (sys.executable, "-m", "app.bench.function_process")
    environment = os.environ | as_environment(settings)
    process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, env=environment, limit=LINE_LIMIT)
    try:
        yield process
    finally:
        if process.stdin is not None:
            process.stdin.close()
        await process.wait()


async def _invoke(process: Process, event: bytes) -> dict[str, Any]:
    stdin, stdout = cast("asyncio.StreamWriter", process.stdin), cast("asyncio.StreamReader", process.stdout)
    stdin.write(event + b"\n")
    await stdin.drain()
    line = await stdout.readline()
    if not line:
        raise BenchError("the function has ended: see above what it raised")
    answer: dict[str, Any] = msgspec.json.decode(line)
    if answer["failed"]:
        raise BenchError(f"{len(answer['failed'])} records failed: expected none; is another bench running?")
    return answer
