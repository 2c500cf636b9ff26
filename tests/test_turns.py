"""Tiers in one worker: each has its turn, and a backlog of a slower one keeps nothing of a faster one waiting."""

from __future__ import annotations

import asyncio
import random
from bisect import bisect_left, bisect_right
from collections import Counter

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.runtime import turns
from app.runtime.outbox import Outbox, Outgoing
from app.runtime.turns import LEAST_RECORDS, SLICE_SECONDS, Turns
from app.settings import TIERS, TierName
from app.topics import features_topic, sensor_topic
from tests.sensor_streams import Streams, features, until
from tests.system import System

BACKLOG_SENSORS, BACKLOG_EACH = 400, 100
ROUNDS = 10
MOST_MEANWHILE = 2_000
"""Blocks of the backlog that may be done meanwhile: a twentieth, as a worker does in some tenths of a second."""


@pytest.fixture
def own_time(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Give the time that the turns take for the thread's own, in a list; it passes only where a test says so."""
    now = [0.0]
    monkeypatch.setattr(turns.time, "thread_time", lambda: now[0])
    return now


async def test_slower_tiers_wait_for_the_faster_ones() -> None:
    waiting: set[TierName] = {"rt"}
    own = Turns(TIERS, waiting.__contains__)
    came: list[TierName] = []

    async def work(tier: TierName) -> None:
        turn = own.of(tier, 1000)
        # A wait that nothing ends would be seen: it is as long as that of a slice of an hour.
        turn._last = 3600.0
        await turn.come()
        waiting.discard(tier)
        with turn.at_work():
            came.append(tier)
            await asyncio.sleep(0.01)

    waiting |= {"nrt", "batch"}
    async with asyncio.timeout(60):
        await asyncio.gather(work("batch"), work("nrt"), work("rt"))
    assert came == ["rt", "nrt", "batch"]


async def test_a_tier_that_never_finishes_leaves_the_others_a_share(own_time: list[float]) -> None:
    own = Turns(("rt", "batch"), lambda tier: tier == "rt")
    batch = own.of("batch", 1000)
    async with asyncio.timeout(60):
        for _ in range(3):
            await batch.come()
            with batch.slice(LEAST_RECORDS):
                own_time[0] += 0.001


async def test_a_tier_alone_waits_for_nobody() -> None:
    turn = Turns(("batch",), lambda _: True).of("batch", 25)
    turn._last = 3600.0
    async with asyncio.timeout(60):
        await turn.come()
    assert turn.at_once == 25


@given(st.integers(1, 10_000), st.lists(st.floats(1e-7, 1e-2), min_size=1, max_size=30))
def test_slices_fit_their_time(most: int, costs: list[float]) -> None:
    """Whatever a record costs, and once it is known, a slice takes no more than its time or has the least records."""
    with pytest.MonkeyPatch.context() as patch:
        now = [0.0]
        patch.setattr(turns.time, "thread_time", lambda: now[0])
        turn = Turns(("rt", "batch"), lambda _: False).of("batch", most)
        for cost in costs:
            for _ in range(2):
                before = turn.at_once
                with turn.slice(before):
                    now[0] += before * cost
                assert 1 <= turn.at_once <= min(most, 2 * before + LEAST_RECORDS)
            assert turn.at_once * cost <= SLICE_SECONDS * 1.001 or turn.at_once <= LEAST_RECORDS


def test_the_fastest_tier_is_never_cut_shorter(own_time: list[float]) -> None:
    turn = Turns(TIERS, lambda _: False).of("rt", 1000)
    with turn.slice(1000):
        own_time[0] += random.Random(1).uniform(0.1, 1.0)
    assert turn.at_once == 1000


async def test_rt_has_its_features_while_the_batch_tier_has_a_backlog(system: System) -> None:
    """Few blocks of the backlog are done between an rt block's being appended and its feature.

    Counted by what Kafka's records say of when they were made, so that it does not matter how fast the test is.
    """
    settings, backlog = system.settings, BACKLOG_SENSORS * BACKLOG_EACH
    streams = Streams(system, 4)
    worker = await system.worker()

    async def blocks_of(tier: str) -> int:
        return (await worker.status()).tiers[tier].blocks

    async with system.producer(max_batch_size=256 << 10) as producer:
        outbox = Outbox(lambda: producer)
        for number in range(BACKLOG_EACH):
            reports = [report(f"report-{sensor}", number) for sensor in range(BACKLOG_SENSORS)]
            await asyncio.gather(*await outbox.send(sensor_topic(settings, "batch"), reports))
    await until(lambda: blocks_of("batch"))
    for number in range(1, ROUNDS + 1):
        await streams.send("rt", 1)
        await features(worker, "rt", number * len(streams.ids))
    done = await blocks_of("batch")
    assert 0 < done < backlog, "the backlog was there all the while"
    verdict = await system.verify(streams.verifier(pipeline="ecg"), quiet=0.5)
    assert verdict.passed, verdict
    sent = await times(system, sensor_topic(settings, "rt"), ROUNDS * len(streams.ids))
    given = await times(system, features_topic(settings, "ecg"), ROUNDS * len(streams.ids))
    meanwhile = sorted((await times(system, features_topic(settings, "report"), done)).values())
    assert sent.keys() == given.keys()
    waits = [bisect_right(meanwhile, given[block]) - bisect_left(meanwhile, sent[block]) for block in sent]
    assert max(waits) < MOST_MEANWHILE, waits
    assert await worker.stop() == 0


def report(sensor_id: str, number: int) -> Outgoing:
    """A sensor's block of a number, of one sample."""
    value = {"sensorId": sensor_id, "samples": [60.5 + number % 9], "seq": number, "timestamp": 10**12 + number * 10**5}
    return Outgoing(sensor_id.encode(), msgspec.json.encode(value))


async def times(system: System, topic: str, count: int) -> dict[tuple[bytes, int], int]:
    """When records were made, ms since the epoch, by key and number among those of the key."""
    found: dict[tuple[bytes, int], int] = {}
    numbers: Counter[bytes] = Counter()
    for record in await system.read(topic, count):
        found[record.key, numbers[record.key]] = record.timestamp
        numbers[record.key] += 1
    return found
