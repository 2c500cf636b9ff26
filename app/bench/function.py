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
from typing import Any, cast

import msgspec
import numpy as np
from aiokafka import TopicPartition

from app.bench.errors import BenchError
from app.bench.result import Measurement, SuiteResult
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


async def measure_function(
    settings: Settings, repeats: int, invocations: int, result: SuiteResult, progress: Callable[[str], None]
) -> None:
    """Measure cold starts and warm invocations; the contenders take turns.

    Parameters
    ----------
    settings
        With a topic prefix of its own.
    repeats
        Cold starts of each pipeline.
    invocations
        Warm invocations of each mode and size.
    result
        Of the suite, which is filled: cold starts by pipeline, warm events by their records and the mode.
    progress
        Told what is measured.
    """
    names = [*(features_topic(settings, pipeline) for pipeline in COLD_PIPELINES), dead_letter_topic(settings)]
    await create_topics(settings, [Topic(name, FEATURE_PARTITIONS) for name in names])
    for number in range(repeats):
        progress(f"cold start {number + 1} of {repeats}")
        for pipeline in COLD_PIPELINES:
            await _cold(settings, pipeline, number, result.measurement("cold start", pipeline))
    await _warm(settings, invocations, result, progress)
    for own in result.measurements:
        if own.case == "cold start":
            seconds = own.figures["to the first feature"].spread.median / 1000
            for rate in RATES:
                own.details[f"samples at {rate:g} Hz"] = math.ceil(seconds * rate)
        else:
            own.details["p99, ms"] = float(np.percentile(next(iter(own.figures.values())).runs, 99))


async def _cold(settings: Settings, pipeline: str, number: int, measured: Measurement) -> None:
    event = _event(settings, pipeline, [f"cold-{pipeline}-{number}"], 0)
    started = time.perf_counter()
    async with _process(settings) as process:
        answer = await _invoke(process, event)
        total = time.perf_counter() - started
    # From the start of Python until the feature is acknowledged and the state saved.
    measured.add("to the first feature", 1000 * total, "ms", "lower")
    measured.add("import", 1000 * answer["imported"], "ms", "lower")
    measured.add("first event", 1000 * answer["seconds"], "ms", "lower")
    measured.add("memory", answer["memory"] / 1e6, "MB", "lower")


async def _warm(settings: Settings, invocations: int, result: SuiteResult, progress: Callable[[str], None]) -> None:
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
                        measured = result.measurement(f"event of {records:,} records", mode)
                        measured.add("event", 1000 * answer["seconds"], "ms", "lower")
                        measured.add("memory", answer["memory"] / 1e6, "MB", "lower")
            own = [result.measurement(f"event of {records:,} records", mode) for mode in reversed(MODES)]
            result.compare("event", own[0], own[1])


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
