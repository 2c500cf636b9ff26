"""Scaling and deploying under load: partitions raised between two halves of a stream, and workers restarted in turn."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest
from aiokafka import AIOKafkaConsumer

from app.kafka_client import client_options, started
from app.settings import TierName
from app.topics import features_topic
from tests.command import continuum
from tests.repartitioning import counts, killed_at
from tests.system import System
from tests.ward import BLOCK, Ward


class Arrivals:
    """When each feature came for the first time, on the monotonic clock."""

    def __init__(self) -> None:
        self.at: dict[tuple[str, int], float] = {}

    @asynccontextmanager
    async def watch(self, system: System) -> AsyncIterator[None]:
        """Read the features for the time of a `with` block."""
        consumer = AIOKafkaConsumer(features_topic(system.settings, "ecg"), **client_options(system.settings))
        async with started(consumer, system.settings):
            reading = asyncio.create_task(self._read(consumer))
            yield
            reading.cancel()

    async def _read(self, consumer: AIOKafkaConsumer) -> None:
        async for record in consumer:
            fields = msgspec.json.decode(record.value)
            self.at.setdefault((fields["sensorId"], fields["seq"] // BLOCK), time.monotonic())


@pytest.mark.slow
@pytest.mark.parametrize(("tier", "standby"), [("rt", 1), ("nrt", 0)])
async def test_raised_in_mid_stream_while_the_tool_is_killed(system: System, tier: TierName, standby: int) -> None:
    """Two workers with disks that hold states moved since; with standbys, which hold them too."""
    system.settings = system.settings.model_copy(update={"standby_replicas": standby, "handoff_wait": 10.0})
    _, before = await counts(system.settings, tier)
    assert before is not None
    ward = Ward(system, sensors=300, blocks=40, tier=tier)
    workers = [await system.worker(), await system.worker()]
    await ward.send(15, pause=0.2)
    await ward.drained()
    assert [await worker.stop() for worker in workers] == [0, 0]
    arguments = "--tier", tier, "--partitions", "80"
    for point in ("after the mark", "after some states are deleted", "before the topic is raised"):
        await asyncio.to_thread(killed_at, system.settings, point, *arguments)
        await ward.send(1, partitions=before)  # a producer that goes on regardless
    done = await continuum(system.settings, "topics", "repartition", *arguments, "--json")
    assert (done.code, await counts(system.settings, tier)) == (0, (80, 80)), done.notes
    workers = [await system.worker(), await system.worker()]
    await ward.send(ward.blocks - ward.sent, pause=0.2)
    await ward.drained()
    await ward.check()
    sound = await continuum(system.settings, "state", "verify", "--all", "--tier", tier)
    assert sound.code == 0, sound.out


@pytest.mark.slow
@pytest.mark.parametrize("standby", [0, 1])
async def test_a_rolling_restart_loses_nothing(
    system: System, standby: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each worker told to stop, and started again under its name, while all sensors stream."""
    system.settings = system.settings.model_copy(update={"standby_replicas": standby})
    ward, arrivals = Ward(system, sensors=150, blocks=400), Arrivals()
    workers = {name: await system.worker(instance=name) for name in ("first", "second")}
    async with arrivals.watch(system):
        sending = asyncio.create_task(ward.send(ward.blocks, pause=0.2))
        await asyncio.sleep(8)
        for name, worker in workers.items():
            assert await worker.stop() == 0
            await system.worker(instance=name)
            await asyncio.sleep(5)
        assert not sending.done()
        await sending
        await ward.drained()
        await asyncio.sleep(1)
    late = [arrivals.at[f"s{sensor}", number] - at for number, at in ward.sent_at.items() for sensor in range(150)]
    median = sorted(late)[len(late) // 2]
    with capsys.disabled():
        print(f"\nstandby {standby}: longest wait for a feature {max(late):.2f} s, median {median:.3f} s")
    await ward.check()
