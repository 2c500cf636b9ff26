"""Blocks that are read again after a crash are not counted again, where nothing but their place in the log tells it."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable

import msgspec
import numpy as np

from app.dsp.engine import Engine
from app.pipelines import shipped_pipelines
from app.topics import features_topic
from app.worker_process import WorkerProcess
from tests.feeding import Block, Partition
from tests.pages import metrics_of, until
from tests.system import System, decoded, noise

LENGTH = 256
#: Two of one partition of the rt topic.
SENSOR, NEIGHBOUR = "s0", "s128"
SAVED = "continuum_snapshot_bytes_total"
STREAMS = ("first", "first", "second", "third")


def blocks(count: int) -> list[Block]:
    """Blocks of a sensor that begins anew now and then, with another stream id and with index 0."""
    x = noise(count * LENGTH, 5)
    found: list[Block] = []
    for number in range(count):
        stream = STREAMS[number * len(STREAMS) // count]
        same = [own for own in found if own.stream == stream]
        samples = np.round(x[number * LENGTH : (number + 1) * LENGTH], 6)
        found.append(Block(SENSOR, samples, len(same) * LENGTH, 1_700_000_000_000 + number * LENGTH * 4, stream=stream))
    return found


def message(block: Block) -> tuple[bytes, bytes]:
    fields = {
        "sensorId": block.sensor,
        "samples": block.samples.tolist(),
        "timestamp": block.timestamp,
        "pipeline": "ecg",
    }
    return block.sensor.encode(), msgspec.json.encode({**fields, "seq": block.seq, "stream": block.stream})


async def test_a_state_ahead_of_the_commit_skips_what_it_has_counted(system: System) -> None:
    """Beside a sensor whose blocks are held, states are saved and nothing is committed; then the worker is killed.

    What is read again begins in the middle of a stream that the sensor has left behind two streams ago. Taken for a
    device that begins anew, it would be counted from nothing, and the records would be others than before.
    """
    sent = blocks(16)
    names = shipped_pipelines()["ecg"].feature_names
    alone = Partition(Engine(shipped_pipelines()["ecg"]))
    expected = {}
    for block in sent:
        features = alone.feed(block)
        values = zip(features.values[0].tolist(), features.full[0].tolist(), strict=True)
        expected[block.timestamp] = [value if full else None for value, full in values]

    worker = await system.worker(tiers=("rt",))
    await system.send(map(message, sent[:4]))
    await until(features_of(worker, 4), "four records")
    assert await worker.stop() == 0  # committed, in the middle of the first stream

    other = await system.worker(tiers=("nrt",))
    await system.send([message(dataclasses.replace(sent[0], sensor=NEIGHBOUR))], tier="nrt")
    await until(features_of(other, 1, "nrt"), "the other tier has the neighbour")
    other.kill()
    worker = await system.worker(tiers=("rt",), handoff_wait=600.0, checkpoint_seconds=0.5)
    await system.send([message(dataclasses.replace(sent[0], sensor=NEIGHBOUR, seq=10 * LENGTH))])
    await system.send(map(message, sent[4:14]))
    await until(features_of(worker, 10), "ten more records")
    before = (await metrics_of(worker)).get(SAVED, 0)
    await until(saved(worker, before + 1), "a checkpoint after them")
    worker.kill()
    assert await system.lag(apart=True) == 11, "nothing is committed beyond the blocks that are held"

    worker = await system.worker(tiers=("rt",))
    await system.send(map(message, sent[14:]))
    await until(features_of(worker, 3), "the rest, and the neighbour's block after its gap")
    status = (await worker.status()).tiers["rt"]
    assert (status.replayed, status.features, status.events["restart"]) == (10, 3, 0)
    assert await worker.stop() == 0
    assert await system.lag(apart=True) == 0
    topic = features_topic(system.settings, "ecg")
    records = [decoded(record) for record in await system.read(topic, len(sent) + 3, seconds=5)]
    own = [record for record in records if record["sensorId"] == SENSOR]
    assert len(own) == len(sent)
    assert all([record[name] for name in names] == expected[record["timestamp"]] for record in own)


def features_of(worker: WorkerProcess, count: int, tier: str = "rt") -> Callable[[], Awaitable[bool]]:
    async def there() -> bool:
        return (await worker.status()).tiers[tier].features >= count

    return there


def saved(worker: WorkerProcess, bytes_: float) -> Callable[[], Awaitable[bool]]:
    async def there() -> bool:
        return (await metrics_of(worker)).get(SAVED, 0) >= bytes_

    return there


class Unacknowledged(WorkerProcess):
    application = "tests.unacknowledged"


async def test_nothing_is_committed_before_its_features_are_with_the_brokers(system: System) -> None:
    """Features stay on their way to the brokers while checkpoints fall due, and the worker is killed."""
    topic = features_topic(system.settings, "ecg")
    sent = blocks(12)
    worker = await system.worker()
    await system.send(map(message, sent[:4]))
    await until(features_of(worker, 4), "four records")
    assert await worker.stop() == 0

    settings = system.settings.model_copy(update={"checkpoint_seconds": 0.5, "checkpoint_messages": 2})
    worker = Unacknowledged(settings, settings.datadir / "unacknowledged.log")
    system.workers.append(worker)
    await worker.ready()
    await system.send(map(message, sent[4:]))
    await until(consumed(worker, 8), "the other blocks are consumed")
    await asyncio.sleep(3)  # several checkpoints fall due
    worker.kill()
    assert await system.lag() == 8

    worker = await system.worker()
    await until(committed(system), "all is committed")
    assert await worker.stop() == 0
    records = [decoded(record) for record in await system.read(topic, 13, seconds=5)]
    assert sorted(record["timestamp"] for record in records) == [block.timestamp for block in sent]


def committed(system: System) -> Callable[[], Awaitable[bool]]:
    async def there() -> bool:
        return await system.lag() == 0

    return there


def consumed(worker: WorkerProcess, count: int) -> Callable[[], Awaitable[bool]]:
    async def there() -> bool:
        return (await worker.status()).tiers["rt"].blocks >= count

    return there
