"""More partitions for a tier, with its sensors' states: whatever interrupts it, every state is found once."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import AsyncIterator, Callable, Iterable
from types import SimpleNamespace

import pytest
from faust.types import TP
from pydantic import SecretStr

from app.own_process import ProcessFailedError
from app.repartition.marker import unfinished
from app.runtime.outbox import partition_of
from app.runtime.tier import Tier
from app.settings import Settings
from app.state_copies.tables import read_table, table_partitions
from app.topics import TopicError, changelog_topic, sensor_topic
from tests.command import continuum
from tests.repartitioning import POINTS, counts, create_small, killed_at, live, placed, raise_topic
from tests.stored_states import state_of
from tests.system import System, noise
from tests.test_checkpoint import rocksdb_values
from tests.ward import Ward

BEFORE, AFTER = 4, 10


@pytest.fixture
async def small(settings: Callable[..., Settings]) -> AsyncIterator[System]:
    """A system whose rt and nrt tiers have four partitions."""
    system = System(settings(checkpoint_seconds=1.0, session_timeout=6.0))
    await create_small(system, BEFORE, "rt", "nrt")
    yield system
    system.close()
    await system.delete()


async def put_states(system: System, count: int, partitions: int = BEFORE) -> dict[bytes, bytes]:
    """Put states of sensors on the changelog, each where its id belongs; gives them by encoded id."""
    states = {f"s{number}".encode(): state_of(noise(200 + number, number)) for number in range(count)}
    async with system.producer() as producer:
        topic = changelog_topic(system.settings, "rt")
        for key, state in states.items():
            await producer.send(topic, state, key, partition_of(key, partitions))
    return states


async def run(system: System, partitions: int = AFTER, *arguments: str, tier: str = "rt"):
    return await continuum(
        system.settings, "topics", "repartition", "--tier", tier, "--partitions", str(partitions), *arguments
    )


def partitions_on_disk(system: System, key: bytes) -> set[int]:
    """Partitions of the first worker's table that have a sensor's state."""
    tables = table_partitions(system.settings, "rt")
    return {own.partition for own in tables if read_table(own, key.decode()) is not None}


SOME_POINTS = ("after some states are deleted", "before the mark is removed")


@pytest.mark.parametrize("points", [SOME_POINTS, pytest.param(POINTS, marks=pytest.mark.slow)], ids=["some", "all"])
async def test_wherever_it_is_killed_it_goes_on(small: System, points: Iterable[str]) -> None:
    states = await put_states(small, 40)
    partitions = BEFORE
    for number, point in enumerate(points):
        partitions += 3 if number % 2 else 4
        arguments = "--tier", "rt", "--partitions", str(partitions)
        await asyncio.to_thread(killed_at, small.settings, point, *arguments)
        refused = await continuum(small.settings, "topics", "check")
        assert refused.code == 2
        assert f"`continuum topics repartition --tier rt --partitions {partitions}`" in refused.notes
        done = await run(small, partitions, "--json")
        assert (done.code, done.json["resumed"], done.json["states"]) == (0, True, 40), (point, done.notes)
        assert await counts(small.settings) == (partitions, partitions)
        assert await live(small.settings) == placed(states, partitions), point
        assert await unfinished(small.settings) == []


async def test_features_go_on_bit_for_bit(small: System) -> None:
    """First with the disk that the worker had before, then with an empty one."""
    ward = Ward(small, sensors=24, blocks=20)
    worker = await small.worker()
    await ward.send(8)
    await ward.drained()
    assert await worker.stop() == 0
    tried = await run(small, AFTER, "--dry-run", "--json")
    assert (tried.code, tried.json["states"], await counts(small.settings)) == (0, 24, (BEFORE, BEFORE))
    done = await run(small)
    assert (done.code, await counts(small.settings)) == (0, (AFTER, AFTER)), done.notes
    # Sent before a worker has the new partitions, by a producer that has not noticed them and by others that have.
    await ward.send(1, partitions=BEFORE)
    await ward.send(1)
    worker = await small.worker()
    await ward.send(2)
    await ward.drained()
    assert await worker.stop() == 0
    assert (await run(small, AFTER + 3)).code == 0
    shutil.rmtree(small.settings.datadir / "workers")
    await ward.send(1)
    worker = await small.worker()
    await ward.send(7)
    await ward.drained()
    await ward.check()
    assert await worker.stop() == 0
    assert rocksdb_values(small.settings.datadir / "workers" / "1").keys() >= {f"s{n}".encode() for n in range(24)}


async def test_refused_with_the_reason(small: System) -> None:
    settings, topic = small.settings, sensor_topic(small.settings, "rt")
    lower = await run(small, BEFORE - 1)
    assert lower.code == 2
    assert f"{topic} has 4 partitions" in lower.notes
    assert "Kafka can only raise a count" in lower.notes
    same = await run(small, BEFORE)
    assert (same.code, same.out) == (0, b"rt has 4 partitions already, its topic as its table\n")
    ward = Ward(small, sensors=6, blocks=6)
    await ward.send(2)
    lag = await run(small)
    assert lag.code == 2
    assert re.search(rf"\d+ messages in \d partitions of {topic} have not been consumed", lag.notes)
    assert "Stop the producers, let the workers go on until nothing is left" in lag.notes
    worker = await small.worker()
    await ward.drained()
    living = await run(small)
    assert living.code == 2
    assert f"group {settings.app_id} has living members that read {topic}" in living.notes
    unreachable = settings.model_copy(update={"redis_url": SecretStr("redis://127.0.0.1:1")})
    assert await worker.stop() == 0
    without = await continuum(unreachable, "topics", "repartition", "--tier", "rt", "--partitions", "10")
    assert (without.code, await counts(settings)) == (2, (BEFORE, BEFORE))
    assert "Redis does not answer" in without.notes


async def test_a_topic_raised_without_its_states(small: System) -> None:
    """As with Kafka's own tools, beneath a worker; producers have noticed, or not."""
    settings, topic, name = small.settings, sensor_topic(small.settings, "rt"), changelog_topic(small.settings, "rt")
    ward = Ward(small, sensors=6, blocks=8)
    worker = await small.worker()
    await ward.send(2)
    await ward.drained()
    await raise_topic(settings, AFTER)
    await ward.send(1, partitions=BEFORE)
    await ward.send(1)
    assert await worker.stop() == 0
    said = rf"{topic} has 10; {name} has 4(.|\n)*`continuum topics repartition --tier rt --partitions 10`"
    with pytest.raises(ProcessFailedError, match=said):
        await small.worker()
    assert b"4, expected 10" in (await continuum(settings, "topics", "list")).out
    done = await run(small)
    assert (done.code, await counts(settings)) == (0, (AFTER, AFTER)), done.notes
    assert "messages have not been consumed, and no worker can until this is done" in done.notes
    await small.worker()
    await ward.send(4)
    await ward.drained()
    await ward.check()


async def test_a_tier_goes_on_in_another_group(small: System) -> None:
    """From one group to one for each tier and back: nothing is read again, and no sensor claimed back.

    Nor where its partitions are raised between, of which its disk knows nothing.
    """
    ward = Ward(small, sensors=6, blocks=9)
    worker = await small.worker()
    await ward.send(3)
    await ward.drained()
    assert await worker.stop() == 0
    assert (await run(small)).code == 0
    worker = await small.worker(tiers=("rt",))
    await ward.send(3)
    async with asyncio.timeout(60):
        while await small.lag("rt", apart=True):  # noqa: ASYNC110 - it is another process
            await asyncio.sleep(0.2)
    status = (await worker.status()).tiers["rt"]
    assert await worker.stop() == 0
    assert (status.features, status.replayed, status.late) == (18, 0, 0), "none of those before"
    for key in (f"s{number}".encode() for number in range(6) if number % 3 < 2):
        assert partitions_on_disk(small, key) == {partition_of(key, AFTER)}, "deleted on its disk too"
    worker = await small.worker()
    await ward.send(3)
    await ward.drained()
    status = (await worker.status()).tiers["rt"]
    assert (status.features, status.replayed, status.late) == (18, 0, 0), "nor here"
    await ward.check()


@pytest.mark.parametrize(
    ("blocks", "states"), [(range(4), range(3)), (range(3), range(4)), (range(5), range(5)), ([0, 2], [0, 1])]
)
def test_partitions_that_were_raised_beneath_a_worker(blocks: Iterable[int], states: Iterable[int]) -> None:
    """A worker notices minutes later, with its next assignment."""
    tier = SimpleNamespace(
        name="rt",
        topic="rt-sensors",
        app=SimpleNamespace(partitions={"rt-sensors": 4}),
        _table=SimpleNamespace(changelog_topic_name="changelog"),
    )

    def check(blocks: Iterable[int], states: Iterable[int]) -> None:
        active = [*(TP("rt-sensors", number) for number in blocks), *(TP("changelog", number) for number in states)]
        Tier.check_assigned(tier, [*active, TP("other", 9)])

    check(range(4), range(4))
    check([], [])
    with pytest.raises(TopicError, match=r"changelog were raised while workers ran, from 4: .*--tier rt"):
        check(blocks, states)
