"""Handing sensors over between two tiers, to and fro while they stream: what is changed, and how long it takes.

Two workers run, one of each tier. All sensors stream to one tier and then, from one block to the next, to the other,
and back, many times. Every record must have the very values of a sensor that never moved. How long a sensor's blocks
are held while its state comes over is what the workers themselves measure (`continuum_handoff_seconds`).
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import aiohttp
import msgspec
from aiokafka import AIOKafkaConsumer
from prometheus_client.parser import text_string_to_metric_families

from app.bench.errors import BenchError
from app.bench.feeding import BLOCK, Signals, send_blocks, signals_of, timestamp_of
from app.bench.result import Measurement
from app.bench.waiting import until
from app.dsp.engine import Engine
from app.dsp.pipeline import Pipeline
from app.dsp.snapshot import Position
from app.dsp.stream import Blocks
from app.kafka_client import client_options, started
from app.pipelines import known_pipelines
from app.replay import new_producer, plan_replay
from app.settings import Settings, TierName
from app.sources import builtin_ecg
from app.topics import create_topics, features_topic, needed_topics
from app.worker_process import WorkerProcess

BLOCKS_A_STAY = 6
SPEED = 1.0
SETTLE_SECONDS = 120.0
TIERS: tuple[TierName, TierName] = ("rt", "nrt")


@dataclass
class HandoffResult:
    """What the moves amount to."""

    blocks: int
    identical: int
    """Records whose values are, to the last bit, those of a sensor that never moved."""
    other: int
    """Records that differ from them."""
    missing: int
    repeated: int
    held: int
    """Handoffs for which a sensor's blocks were held."""
    p50: float
    """s that a sensor's blocks were held; half of the handoffs took no longer."""
    p99: float

    @property
    def passed(self) -> bool:
        """Whether nothing was changed."""
        return self.identical == self.blocks and not (self.other or self.missing)

    def into(self, measured: Measurement) -> None:
        """Add it as one run of a measurement."""
        measured.add("blocks held, p50", 1000 * self.p50, "ms", "lower")
        measured.add("blocks held, p99", 1000 * self.p99, "ms", "lower")
        for name in ("blocks", "identical", "other", "missing", "repeated", "held"):
            measured.details[name] = getattr(self, name)


async def measure_handoff(
    settings: Settings, sensors: int, moves: int, progress: Callable[[str], None]
) -> HandoffResult:
    """Move sensors to and fro.

    Parameters
    ----------
    settings
        With a topic prefix and a data folder of its own.
    sensors
        Simulated sensors, all of which move at once.
    moves
        How often.
    progress
        Told of each move.
    """
    blocks = BLOCKS_A_STAY * (moves + 1)
    plan = plan_replay(builtin_ecg(), sensors=sensors, seconds=blocks * BLOCK / 250)
    signals = signals_of(plan)
    pipeline = known_pipelines(settings.pipelines)["ecg"]
    expected = await asyncio.to_thread(_unmoved, pipeline, signals, blocks)
    await create_topics(settings, needed_topics(settings, known_pipelines(settings.pipelines)))
    workers = {
        tier: WorkerProcess(settings.model_copy(update={"tiers": (tier,)}), settings.datadir / f"{tier}.log")
        for tier in TIERS
    }
    try:
        await asyncio.gather(*(worker.ready(120) for worker in workers.values()))
        async with started(new_producer(settings), settings) as producer:
            for move, tier in zip(range(moves + 1), itertools.cycle(TIERS)):
                stay = range(move * BLOCKS_A_STAY, (move + 1) * BLOCKS_A_STAY)
                await send_blocks(settings, signals, producer, tier, stay, speed=SPEED)
                await _resident(workers[tier], tier, sensors)
                progress(f"move {move} of {moves}: {sensors:,} sensors on {tier}")
        result = await _compared(settings, pipeline.feature_names, expected)
        buckets = Counter[float]()
        for worker in workers.values():
            buckets += await _held_seconds(worker)
        for worker in workers.values():
            await worker.stop()
    finally:
        for worker in workers.values():
            worker.kill()
    held = int(buckets[float("inf")])
    if not held:
        raise BenchError(f"no blocks were held in {moves} moves of {sensors} sensors: nothing was measured")
    return HandoffResult(len(expected), *result, held, _percentile(buckets, 0.5), _percentile(buckets, 0.99))


def _unmoved(pipeline: Pipeline, signals: Signals, count: int) -> dict[tuple[str, int], list[float | None]]:
    """Values of each record of sensors that never move, by the engine itself."""
    engine = Engine(pipeline)
    expected = {}
    for sensor_id, signal in signals.items():
        (sensor,) = engine.admit([sensor_id])
        features = engine.process(
            Blocks(
                [sensor] * count,
                [timestamp_of(block) for block in range(count)],
                [block * BLOCK for block in range(count)],
                [None] * count,
                range(count),
                signal[: count * BLOCK],
                range(0, (count + 1) * BLOCK, BLOCK),
            ),
            Position("", 0, count),
            confirmed=True,
        )
        engine.evict([sensor])
        for seq, values, full in zip(features.seq, features.values.tolist(), features.full.tolist(), strict=True):
            expected[sensor_id, seq] = [value if own else None for value, own in zip(values, full, strict=True)]
    return expected


async def _resident(worker: WorkerProcess, tier: str, sensors: int) -> None:
    """Wait until a worker has all sensors: one that had moved on before its tier met it would have a gap there."""

    async def all_there() -> bool:
        return (await worker.status()).tiers[tier].sensors == sensors

    await until(all_there, SETTLE_SECONDS, f"{worker.log}: {tier} does not have {sensors} sensors")


async def _compared(
    settings: Settings, names: tuple[str, ...], expected: dict[tuple[str, int], list[float | None]]
) -> tuple[int, int, int, int]:
    """Read all records, and count those that are identical, others, missing and repeated."""
    seen: Counter[tuple[str, int]] = Counter()
    other = 0
    consumer = AIOKafkaConsumer(
        features_topic(settings, "ecg"), **client_options(settings), auto_offset_reset="earliest"
    )
    async with started(consumer, settings):
        last = time.monotonic()
        while time.monotonic() - last < (5.0 if len(seen) == len(expected) else SETTLE_SECONDS):
            for batch in (await consumer.getmany(timeout_ms=200)).values():
                last = time.monotonic()
                for record in batch:
                    fields = msgspec.json.decode(record.value)
                    name = fields["sensorId"], fields["seq"]
                    seen[name] += 1
                    other += expected.get(name) != [fields[own] for own in names]
    repeated = sum(count - 1 for count in seen.values())
    return sum(seen.values()) - repeated - other, other, len(expected) - len(seen), repeated


async def _held_seconds(worker: WorkerProcess) -> Counter[float]:
    """Handoffs by how long they took at most, s."""
    async with aiohttp.ClientSession() as session, session.get(f"{worker.url}/metrics") as response:
        text = await response.text()
    buckets: Counter[float] = Counter()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == "continuum_handoff_seconds_bucket":
                buckets[float(sample.labels["le"])] += int(sample.value)
    return buckets


def _percentile(buckets: Counter[float], share: float) -> float:
    """Give the time that a share of the handoffs did not exceed, on a line within its bucket."""
    edges = sorted(buckets)
    wanted = share * buckets[edges[-1]]
    below, before = 0.0, 0
    for edge in edges:
        if buckets[edge] >= wanted and buckets[edge] > before:
            if edge == float("inf"):
                return below
            return below + (edge - below) * (wanted - before) / (buckets[edge] - before)
        below, before = edge, buckets[edge]
    return float("nan")
