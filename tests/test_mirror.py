"""The mirror: what it does with a Redis that is away, hangs, is emptied or fails over, without waiting for it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import suppress
from pathlib import Path

import pytest

from app.chaos.redis_cluster import RedisCluster
from app.mirror.keys import sensor_key
from app.mirror.mirror import Mirror
from app.mirror.ownership import Ownership
from app.mirror.states import Saved
from app.redis_client import RedisClient, redis_client
from app.services import down, start
from app.services.redis import RedisServer
from app.settings import Settings
from tests.mirroring import claim, state
from tests.pages import until

NAMES = [f"s{number}" for number in range(450)]


def states(next_index: int, names: Iterable[str] = NAMES) -> list[Saved]:
    return [state(name, next_index=next_index) for name in names]


class Running:
    """A mirror at work, and what it was given and gave back."""

    def __init__(self, redis: RedisClient, prefix: str) -> None:
        self.redis = redis
        self.ownership = Ownership(redis, prefix, "rt")
        self.refused: list[Saved] = []
        self.table: dict[str, Saved] = {}
        self.mirror = Mirror(self.ownership, on_refused=self.refused.extend, resync=lambda: list(self.table.values()))
        self.task = asyncio.create_task(self.mirror.run())

    def put(self, saved: list[Saved]) -> None:
        """Checkpoint some states."""
        self.table |= {one.sensor_id: one for one in saved}
        self.mirror.put(saved)

    async def found(self) -> dict[str, int]:
        """Next indices in Redis, by sensor."""
        commands = self.redis.pipeline()
        for name in self.table:
            commands.hget(sensor_key(self.ownership.prefix, name, "state"), "next")
        values = await commands.execute()
        return {name: int(value) for name, value in zip(self.table, values, strict=True) if value is not None}

    async def holds_all(self) -> bool:
        """Whether nothing waits, and Redis has what the table has."""
        if self.mirror.pending or not self.mirror.up:
            return False
        return await self.found() == {name: one.next for name, one in self.table.items()}


@pytest.fixture
def folder(tmp_path: Path, stopped_at_end: Callable[[Path], Path]) -> Path:
    """Data folder for a Redis of the test's own."""
    return stopped_at_end(tmp_path / "own-redis")


@pytest.fixture
async def running(settings: Callable[..., Settings], folder: Path) -> AsyncIterator[Callable[..., Running]]:
    """Give a function that starts a mirror; on a Redis of its own unless another address is given."""
    begun: list[Running] = []

    def begin(url: str | None = None) -> Running:
        own = settings(redis_url=url or start(folder, ["redis_url"])["redis_url"])
        begun.append(Running(redis_client(own), own.topic_prefix))
        return begun[-1]

    yield begin
    for one in begun:
        one.task.cancel()
        with suppress(asyncio.CancelledError):
            await one.task
        await one.redis.aclose()
    down(folder)


async def until_all_held(one: Running) -> None:
    await until(one.holds_all, "Redis has the newest state of every sensor")


async def until_down(one: Running) -> None:
    async def noticed() -> bool:
        return one.mirror.up is False

    await until(noticed, "the mirror has noticed")


async def test_the_newest_state_of_each_sensor_gets_there(running: Callable[..., Running]) -> None:
    one = running()
    for next_index in range(256, 256 * 20, 256):
        one.put(states(next_index))
        await asyncio.sleep(0)
    await until_all_held(one)
    assert (one.refused, one.mirror.resynced, one.mirror.last_error) == ([], 0, None)
    assert one.mirror.last_success is not None


async def test_catches_up_after_an_outage(running: Callable[..., Running], folder: Path) -> None:
    one = running()
    one.put(states(256))
    await until_all_held(one)
    down(folder)
    await until_down(one)  # by its look at the marker alone
    assert one.mirror.last_error is not None
    assert one.mirror.last_error.startswith("Redis does not answer (")
    for next_index in (512, 768):
        one.put(states(next_index, NAMES[:300]))
    assert one.mirror.pending == 300, "one state a sensor"
    await asyncio.sleep(1)
    assert one.mirror.pending == 300
    (folder / "redis" / "appendonly.aof").unlink()  # it has lost everything, those that did not change too
    start(folder, ["redis_url"])
    await until_all_held(one)
    assert one.mirror.resynced >= 150
    assert one.refused == []


async def test_what_waits_for_redis_is_bounded(
    running: Callable[..., Running], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.mirror.mirror.MOST_WAITING", 100)
    one = running()
    one.put(states(256))
    await until_all_held(one)
    down(folder)
    await until_down(one)
    for next_index in (512, 768):
        one.put(states(next_index))
        assert one.mirror.pending == 100
    start(folder, ["redis_url"])
    await until_all_held(one)  # from the table, what has not waited
    assert one.refused == []


async def test_a_redis_that_hangs_holds_nobody_up(running: Callable[..., Running], folder: Path) -> None:
    one = running()
    one.put(states(256))
    await until_all_held(one)
    pid = RedisServer(folder).daemon.pid()
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        one.put(states(512))
        turns = 0
        while one.mirror.up:  # some seconds, until the answer is overdue
            await asyncio.sleep(0.01)
            turns += 1
        assert turns > 20, "the event loop went on meanwhile"
        one.put(states(768))
        loop = asyncio.get_running_loop()
        await one.mirror.flush(loop.time() + 0.2)
        assert one.mirror.pending == len(NAMES)
    finally:
        os.kill(pid, signal.SIGCONT)
    await until_all_held(one)
    assert one.refused == [], "what it had taken before it hung is no newer than what it is given"


async def test_the_last_write_waits_no_longer_than_it_may(running: Callable[..., Running], folder: Path) -> None:
    one = running()
    one.put(states(256))
    await until_all_held(one)
    pid = RedisServer(folder).daemon.pid()
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        one.put(states(512))
        await one.mirror.flush(asyncio.get_running_loop().time() + 0.2)
        assert one.mirror.pending == len(NAMES)
    finally:
        os.kill(pid, signal.SIGCONT)


async def test_ends_when_told_whatever_it_does(running: Callable[..., Running]) -> None:
    """Python 3.11's `wait_for` loses cancellations at some moments, one of them in each command."""
    one = running()
    for turns in range(30):
        one.put(states(256 * (turns + 1)))
        for _ in range(turns):
            await asyncio.sleep(0)
        one.task.cancel()
        ended, _ = await asyncio.wait({one.task}, timeout=20)
        assert ended, f"cancelled after {turns} turns of the loop"
        one.task = asyncio.create_task(one.mirror.run())
    await until_all_held(one)


@pytest.mark.parametrize("kind", ["single", "cluster"])
async def test_writes_everything_again_after_a_flush(
    running: Callable[..., Running], request: pytest.FixtureRequest, kind: str
) -> None:
    one = running(request.getfixturevalue("redis_cluster").url if kind == "cluster" else None)
    one.put(states(256))
    await until_all_held(one)

    async def marked() -> bool:
        markers = [key async for key in one.redis.scan_iter(f"{one.ownership.prefix}marker:*")]
        return len(markers) == (3 if kind == "cluster" else 1)

    await until(marked, "every master has a marker")
    await one.redis.flushall()  # nothing fails, so nothing but the markers can tell
    await until_all_held(one)
    assert one.mirror.resynced >= len(NAMES)
    assert (one.refused, one.mirror.last_error) == ([], None)


async def test_one_emptied_master_is_noticed(running: Callable[..., Running], redis_cluster: RedisCluster) -> None:
    one = running(redis_cluster.url)
    one.put(states(256))
    await until_all_held(one)

    async def marked() -> bool:
        return len([key async for key in one.redis.scan_iter(f"{one.ownership.prefix}marker:*")]) == 3

    await until(marked, "every master has a marker")
    for node in one.redis.get_primaries()[-1:]:
        await one.redis.flushall(target_nodes=[node])
    await until_all_held(one)
    assert one.mirror.resynced >= len(NAMES)


async def test_what_is_newer_than_the_table_is_not_written_over(running: Callable[..., Running]) -> None:
    """The table may be behind what waits, and what is read from it may wait while a newer state is written."""
    one = running()
    one.put(states(256))
    await until_all_held(one)
    await one.redis.flushall()
    one.mirror.put(states(512, NAMES[::2]))

    async def resynced() -> bool:
        return one.mirror.resynced > 0 and len(await one.found()) == len(NAMES)

    await until(resynced, "all is in Redis again")
    found = await one.found()
    assert all(found[name] == 512 for name in NAMES[::2])
    assert all(found[name] == 256 for name in NAMES[1::2])
    assert one.refused == [], "a sensor is not lost because its table is behind"


async def test_tells_who_lost_a_sensor(running: Callable[..., Running]) -> None:
    one = running()
    thief = Ownership(one.redis, one.ownership.prefix, "nrt")
    stolen = [state("s7", epoch=2, next_index=512)]
    one.put(states(256))
    await until_all_held(one)
    await thief.save(stolen)
    one.mirror.put(states(512))

    async def told() -> bool:
        return one.refused == [state("s7", next_index=512)] and one.mirror.pending == 0

    await until(told, "the loser is told, once")
    assert (one.mirror.up, one.mirror.last_error) == (True, None), "a refusal is no failure"


async def test_forgets_what_was_released(running: Callable[..., Running]) -> None:
    one = running()
    one.mirror.put(states(256))
    one.mirror.forget(NAMES[:100])
    one.table = {each.sensor_id: each for each in states(256, NAMES[100:])}
    await until_all_held(one)
    assert not await one.redis.exists(sensor_key(one.ownership.prefix, NAMES[0], "state"))


async def test_a_key_of_somebody_else_holds_up_its_sensor_only(running: Callable[..., Running]) -> None:
    one = running()
    key = sensor_key(one.ownership.prefix, "s3", "state")
    await one.redis.set(key, "not a hash")
    one.put(states(256))

    async def others_done() -> bool:
        return one.mirror.pending == 1

    await until(others_done, "all others are in Redis")
    assert one.mirror.up is False
    assert "WRONGTYPE" in str(one.mirror.last_error)
    await one.redis.delete(key)
    await until_all_held(one)
    assert one.mirror.resynced == 0, "nothing was lost"


async def test_a_failover_loses_nothing(running: Callable[..., Running], redis_cluster: RedisCluster) -> None:
    one = running(redis_cluster.url)
    one.put(states(256))
    await until_all_held(one)
    killed = await asyncio.to_thread(redis_cluster.kill_master, 1)
    try:
        next_index = 256
        while one.mirror.last_error is None or not one.mirror.up:
            next_index += 256
            one.put(states(next_index, NAMES[:300]))
            await asyncio.sleep(0.1)
        await until_all_held(one)

        async def resynced() -> bool:
            return one.mirror.resynced >= 150

        await until(resynced, "the rest is written again: the replica may have lacked what its master had taken")
        assert one.refused == []
    finally:
        await asyncio.to_thread(redis_cluster.restart, killed)
        await asyncio.to_thread(redis_cluster.wait_until_whole)


async def test_a_node_that_hangs_holds_up_only_its_own(
    running: Callable[..., Running], redis_cluster: RedisCluster
) -> None:
    one = running(redis_cluster.url)
    one.put(states(256))
    await until_all_held(one)
    hung = redis_cluster.masters()[0]
    redis_cluster.signal(hung, signal.SIGSTOP)
    try:
        attempt = await one.ownership.try_save(states(512))
        assert 0 < len(attempt.failed) < len(NAMES), "the others have their sensors"
        assert attempt.error is not None
        one.put(states(768))
    finally:
        redis_cluster.signal(hung, signal.SIGCONT)
        await asyncio.to_thread(redis_cluster.wait_until_whole)
    await until_all_held(one)


async def test_epochs_are_kept_through_a_failover(running: Callable[..., Running], redis_cluster: RedisCluster) -> None:
    one = running(redis_cluster.url)
    thief = Ownership(one.redis, one.ownership.prefix, "nrt")
    one.put(states(256))
    await until_all_held(one)
    stolen = NAMES[:100]
    assert all(taken.epoch == 2 for taken in await thief.claim([claim(name) for name in stolen], force=True))
    killed = await asyncio.to_thread(redis_cluster.kill_master, 0)
    try:
        await asyncio.to_thread(redis_cluster.wait_for_failover, killed)
        one.mirror.put(states(512))

        async def settled() -> bool:
            return one.mirror.pending == 0 and bool(one.mirror.up)

        await until(settled, "all is written or refused")
        assert {each.sensor_id for each in one.refused} == set(stolen)
    finally:
        await asyncio.to_thread(redis_cluster.restart, killed)
        await asyncio.to_thread(redis_cluster.wait_until_whole)
