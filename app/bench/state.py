"""What keeping a sensor's state costs, step by step: its snapshot, the table, RocksDB, the mirror, claims.

The steps of all numbers of sensors run in turn, each for a moment at a time, on the brokers and the Redis of the suite
and with the very calls that a worker makes.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import count
from typing import NamedTuple, cast

import numpy as np
from aiokafka import AIOKafkaProducer

from app.bench.cores import cpu_seconds
from app.bench.errors import BenchError
from app.bench.result import SuiteResult
from app.bench.surroundings import Surroundings
from app.dsp.engine import Engine
from app.dsp.snapshot import Position
from app.dsp.stream import Blocks, Sensor
from app.faust_app import LARGEST_REQUEST, ContinuumApp
from app.kafka_client import client_options, started
from app.mirror.ownership import Ownership
from app.mirror.states import Claim, Saved
from app.pipelines import shipped_pipelines
from app.redis_client import redis_client
from app.runtime.outbox import PRODUCER_BATCH_BYTES, Outbox
from app.runtime.snapshot_store import SnapshotStore
from app.runtime.state_table import StateTable
from app.settings import Settings
from app.sources import builtin_ecg
from app.topics import create_topics, needed_topics

LOTS = (1, 100, 1000)
"""Sensors at once."""

TURN_SECONDS = 0.5
PIPELINE = "ecg"
BLOCK = 256
PARTITION = 0

_BLOCKS = 3
"""Of each sensor, before its state is taken: all windows are full then."""


class Step(NamedTuple):
    """Something that is done with the states of some sensors.

    Attributes
    ----------
    name
        Of what is done.
    run
        Does it, with so many.
    before
        What has to be done before each time, and is no part of it.
    in_redis
        Whether Redis does a part of it.
    """

    name: str
    run: Callable[[int], Awaitable[None]]
    before: Callable[[int], Awaitable[None]] | None = None
    in_redis: bool = False


async def measure_state(own: Surroundings, repeats: int, result: SuiteResult, progress: Callable[[str], None]) -> None:
    """Measure each step with few sensors and with many, several times over.

    Parameters
    ----------
    own
        What to work on.
    repeats
        Turns of each step.
    result
        Of the suite, which is filled.
    progress
        Told of each turn.
    """
    states = _States(max(LOTS))
    result.conditions.remarks["state"] = f"of {PIPELINE}, a snapshot of {len(states.saved[0].snapshot):,} bytes"
    async with _table(own.settings) as table:
        redis = redis_client(own.settings)
        try:
            ownership = Ownership(redis, own.settings.topic_prefix, "rt")
            steps = [*_alone(states), *_on_disk(states, table), *_in_redis(states, ownership)]
            for number in range(repeats + 1):
                for lot in LOTS:
                    for step in steps:
                        # The first turn loads and warms what the others find.
                        await _turn(step, lot, own, result if number else SuiteResult.begin("", result.conditions))
                progress(f"turn {number} of {repeats}" if number else "ready")
        finally:
            await redis.aclose()


async def _turn(step: Step, lot: int, own: Surroundings, result: SuiteResult) -> None:
    wall = cpu = servers = 0.0
    calls, end = 0, time.perf_counter() + TURN_SECONDS
    while not calls or time.perf_counter() < end:
        if step.before is not None:
            await step.before(lot)
        of_server, of_cpu, begin = cpu_seconds(own.redis_pid), time.process_time(), time.perf_counter()
        await step.run(lot)
        wall += time.perf_counter() - begin
        cpu += time.process_time() - of_cpu
        servers += cpu_seconds(own.redis_pid) - of_server
        calls += 1
    measured = result.measurement(f"{lot:,} at once", step.name)
    measured.add("CPU", 1e6 * cpu / calls / lot, "µs/sensor", "lower")
    measured.add("time", 1e6 * wall / calls / lot, "µs/sensor", "lower")
    if step.in_redis and own.redis_pid is not None:
        measured.add("Redis's CPU", 1e6 * servers / calls / lot, "µs/sensor", "lower")


class _States:
    """Sensors in an engine, and their states as a checkpoint takes them."""

    def __init__(self, sensors: int) -> None:
        self.pipeline = shipped_pipelines()[PIPELINE]
        self.engine = Engine(self.pipeline)
        self.sensors = self.engine.admit([f"sensor-{number:06d}" for number in range(sensors)])
        ecg = builtin_ecg().channel(0)
        starts = np.arange(sensors) * 977 % (len(ecg) - _BLOCKS * BLOCK)
        for block in range(_BLOCKS):
            values = np.concatenate([ecg[start + block * BLOCK :][:BLOCK] for start in starts])
            self.engine.process(_blocks(self.sensors, block, values), _position(block + 1), confirmed=True)
        self.saved = [
            Saved(
                sensor.id,
                snapshot,
                1,
                sensor.restarts,
                sensor.next_index,
                cast("Position", sensor.position),
                PIPELINE,
                self.pipeline.signal.sample_rate,
                b"x" * 250,
            )
            for sensor, snapshot in zip(self.sensors, self.engine.snapshots(self.sensors), strict=True)
        ]


def _blocks(sensors: Sequence[Sensor], block: int, values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> Blocks:
    own = len(sensors)
    bounds = (np.arange(own + 1) * BLOCK).tolist()
    time_ms = 1_700_000_000_000 + block * BLOCK * 4
    return Blocks(sensors, [time_ms] * own, [block * BLOCK] * own, [None] * own, [block] * own, values, bounds)


def _position(offset: int) -> Position:
    return Position("rt-sensors", PARTITION, offset)


def _alone(states: _States) -> list[Step]:
    """Make the steps in memory."""
    other = Engine(states.pipeline)

    async def encode(lot: int) -> None:
        states.engine.snapshots(states.sensors[:lot])

    async def decode(lot: int) -> None:
        other.evict(other.restore({state.sensor_id: state.snapshot for state in states.saved[:lot]}))

    return [Step("encode snapshots", encode), Step("decode snapshots, take in and evict", decode)]


def _on_disk(states: _States, table: StateTable) -> list[Step]:
    """Make the steps with the table, whose disk also works alone."""
    store = cast("SnapshotStore", table.data)
    snapshots = {state.sensor_id.encode(): state.snapshot for state in states.saved}
    keys = list(snapshots)
    lots = {lot: {key: snapshots[key] for key in keys[:lot]} for lot in LOTS}

    async def write(lot: int) -> None:
        await table.write(PARTITION, lots[lot])

    async def write_alone(lot: int) -> None:
        store.write(PARTITION, lots[lot], store.reached(PARTITION))

    async def read(lot: int) -> None:
        if None in store.read(PARTITION, keys[:lot]):
            raise BenchError("a snapshot that was written is not on disk: nothing was measured")

    return [
        Step("write table, changelog acknowledged", write),
        Step("write RocksDB alone", write_alone),
        Step("read RocksDB", read),
    ]


def _in_redis(states: _States, ownership: Ownership) -> list[Step]:
    """Make the steps in Redis."""
    numbers = count()

    def claims(lot: int) -> list[Claim]:
        return [
            Claim(state.sensor_id, state.next, state.epoch, state.restarts, state.next, f"rt-sensors-{PARTITION}")
            for state in states.saved[:lot]
        ]

    async def own(lot: int) -> None:
        claimed = await ownership.claim(claims(lot))
        for at, answer in enumerate(claimed):
            if not answer.taken:
                raise BenchError(f"{answer.sensor_id} is {answer.owner}'s: nothing was measured")
            states.saved[at] = states.saved[at]._replace(epoch=answer.epoch)

    async def claim_new(lot: int) -> None:
        run = next(numbers)
        await ownership.claim([Claim(f"{run}-{number}", 0, 0, 0, -1, "rt-sensors-0") for number in range(lot)])

    async def save(lot: int) -> None:
        if refused := await ownership.save(states.saved[:lot]):
            raise BenchError(f"{len(refused)} states were refused: nothing was measured")

    async def release(lot: int) -> None:
        if refused := await ownership.release([(state.sensor_id, state.epoch) for state in states.saved[:lot]]):
            raise BenchError(f"{len(refused)} sensors were not released: nothing was measured")

    return [
        Step("claim new sensors", claim_new, in_redis=True),
        Step("claim own sensors", own, in_redis=True),
        Step("save to the mirror", save, before=own, in_redis=True),
        Step("release", release, before=own, in_redis=True),
    ]


@asynccontextmanager
async def _table(settings: Settings) -> AsyncIterator[StateTable]:
    """Give the rt tier's table, as a worker has it, for the time of a `with` block."""
    await create_topics(settings, needed_topics(settings, [PIPELINE]))
    app = ContinuumApp(settings)
    app.conf.datadir = settings.datadir
    table = StateTable.for_tier(app, "rt")
    producer = AIOKafkaProducer(
        **client_options(settings),
        acks="all",
        enable_idempotence=True,
        max_batch_size=PRODUCER_BATCH_BYTES,
        max_request_size=LARGEST_REQUEST,
    )
    try:
        async with started(producer, settings):
            app.outbox = Outbox(lambda: producer)
            yield table
    finally:
        await cast("SnapshotStore", table.data).stop()
        await app.redis.aclose()
