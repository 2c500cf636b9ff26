"""The heartbeat: who sees whom, what is left of a worker that stops or dies, and workers without Redis."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from app.redis_client import redis_client
from app.runtime import heartbeat
from app.runtime.heartbeat import Heartbeat, all_workers, index_key, worker_key
from app.services import down, start
from app.services.redis import RedisServer
from app.settings import Settings
from app.web.status import MirrorStatus, TierStatus, WorkerStatus
from app.wire.blocks import encode_json
from app.worker_process import WorkerProcess
from tests.pages import all_workers_of, until
from tests.system import System, noise


def figures(instance: str = "w1") -> WorkerStatus:
    """Make a worker's figures, of now."""
    tier = TierStatus(
        partitions=[0, 7],
        sensors=3,
        held=1,
        blocks=12,
        samples=3072,
        features=11,
        replayed=1,
        late=0,
        gaps=2,
        events={"replayed": 1, "gap_reset": 2},
        dead_letters={"malformed": 4},
        lag=5,
        checkpoint_age=0.5,
        mirror=MirrorStatus(up=True, pending=6),
    )
    return WorkerStatus(instance, "continuum", "http://127.0.0.1:6066", 1.5, time.time(), True, False, {"rt": tier}, [])


@pytest.fixture
async def redis(settings: Callable[..., Settings]) -> AsyncIterator[Redis]:
    async with redis_client(settings()) as client:
        yield client


@pytest.fixture
def prefix(settings: Callable[..., Settings]) -> str:
    return settings().topic_prefix


@pytest.fixture
def redis_folder(tmp_path: Path, stopped_at_end: Callable[[Path], Path]) -> Path:
    """Data folder for a Redis of the test's own."""
    return stopped_at_end(tmp_path / "own-redis")


async def send_blocks(system: System, block: int, sensors: int) -> None:
    """Send each sensor's block of a number."""
    samples = noise(256, seed=block)
    names = [f"s{number}" for number in range(sensors)]
    await system.send(
        (name.encode(), encode_json(name, samples, 1_700_000_000_000 + block * 1024, seq=block * 256)) for name in names
    )


async def names_seen_by(worker: WorkerProcess) -> list[str]:
    return [other.instance for other in (await all_workers_of(worker)).workers]


async def test_workers_see_each_other_until_one_stops_or_dies(system: System, redis: Redis) -> None:
    first = await system.worker()
    second = await system.worker()
    one, other = (await first.status()).instance, (await second.status()).instance
    both = sorted([one, other])
    await send_blocks(system, 0, sensors=40)

    async def alike() -> bool:
        seen = [await all_workers_of(worker) for worker in (first, second)]
        blocks = [sum(worker.tiers["rt"].blocks for worker in answer.workers) for answer in seen]
        return blocks == [40, 40]

    await until(alike, "either worker shows all blocks of both")
    for worker, own in ((first, one), (second, other)):
        answer = await all_workers_of(worker)
        assert answer.answering == own
        assert answer.others_visible
        assert [seen.instance for seen in answer.workers] == both
        assert sorted(p for seen in answer.workers for p in seen.tiers["rt"].partitions) == list(range(50))
        assert len({seen.url for seen in answer.workers}) == 2
        assert [seen.instance for seen in answer.workers if seen.url == worker.url] == [own]

    prefix = system.settings.topic_prefix
    assert 0 < await redis.ttl(worker_key(prefix, other)) <= 10
    assert await second.stop() == 0
    assert not await redis.exists(worker_key(prefix, other)), "a clean stop withdraws at once"
    assert await redis.zrange(index_key(prefix), 0, -1) == [one.encode()]
    assert await names_seen_by(first) == [one]

    second = await system.worker()
    assert (await second.status()).instance == other, "a restarted worker has its name again"

    async def seen_again() -> bool:
        return await names_seen_by(first) == both

    await until(seen_again, "the restarted worker is seen")
    second.kill()
    assert await names_seen_by(first) == both, "nobody could withdraw it"

    async def expired() -> bool:
        return await names_seen_by(first) == [one]

    await until(expired, "what a killed worker left expires")


async def test_figures_are_published_and_withdrawn(redis: Redis, prefix: str) -> None:
    status = figures()
    beating = Heartbeat(redis, prefix, lambda: status)
    await beating.start()

    async def published() -> bool:
        return await all_workers(redis, prefix) == [status]

    await until(published, "the figures are in Redis")
    assert await all_workers(redis, f"{prefix}another-") == []
    await beating.stop()
    assert await all_workers(redis, prefix) == []
    assert not await redis.exists(worker_key(prefix, status.instance), index_key(prefix))


async def test_what_cannot_be_read_is_left_out(redis: Redis, prefix: str) -> None:
    good = [Heartbeat(redis, prefix, lambda name=name: figures(name)) for name in ("w1", "w9")]
    for beating in good:
        await beating.start()
    await redis.set(worker_key(prefix, "w2"), b"\xff not JSON")
    await redis.set(worker_key(prefix, "w3"), b"{}")
    await redis.set(worker_key(prefix, "w4"), b'{"instance": 4}')
    await redis.hset(worker_key(prefix, "w5"), "of", "another type")
    await redis.zadd(index_key(prefix), dict.fromkeys(("w2", "w3", "w4", "w5", "expired", b"\xff"), 9e9))

    async def only_the_good() -> bool:
        return [worker.instance for worker in await all_workers(redis, prefix)] == ["w1", "w9"]

    await until(only_the_good, "the readable entries are read")
    for beating in good:
        await beating.stop()


async def test_names_of_the_long_gone_are_forgotten(redis: Redis, prefix: str) -> None:
    now = time.time()
    await redis.zadd(index_key(prefix), {"long-gone": now - 3700, "gone": now - 60})
    beating = Heartbeat(redis, prefix, figures)
    await beating.start()

    async def forgotten() -> bool:
        return await redis.zrange(index_key(prefix), 0, -1) == [b"gone", b"w1"]

    await until(forgotten, "the long gone name has left the index")
    assert 0 < await redis.ttl(index_key(prefix)) <= 3600, "the index goes, too, once nobody beats"
    await beating.stop()


async def test_a_crashed_worker_is_left_to_expire(redis: Redis, prefix: str) -> None:
    beating = Heartbeat(redis, prefix, figures)
    await beating.start()

    async def published() -> bool:
        return bool(await all_workers(redis, prefix))

    await until(published, "the figures are in Redis")
    await beating.crash(RuntimeError("on purpose"))
    await beating.stop()
    assert 0 < await redis.ttl(worker_key(prefix, "w1")) <= 10


async def test_beats_share_a_connection(redis_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "BEAT_SECONDS", 0.01)
    url = start(redis_folder, ["redis_url"])["redis_url"]
    beats = 0

    def counted() -> WorkerStatus:
        nonlocal beats
        beats += 1
        return figures()

    async with Redis.from_url(url) as client, Redis.from_url(url) as observer:
        beating = Heartbeat(client, "", counted)
        await beating.start()

        async def some_beats() -> bool:
            return beats >= 50

        await until(some_beats, "fifty beats")
        received = (await observer.info("stats"))["total_connections_received"]
        clients = len(await observer.client_list())
        beats = 0
        await until(some_beats, "fifty more")
        assert (await observer.info("stats"))["total_connections_received"] == received
        assert len(await observer.client_list()) == clients == 2
        await beating.stop()


async def test_a_worker_lives_without_redis(system: System, redis_folder: Path) -> None:
    url = start(redis_folder, ["redis_url"])["redis_url"]
    worker = await system.worker(redis_url=SecretStr(url))
    name = (await worker.status()).instance
    key = worker_key(system.settings.topic_prefix, name)

    async def has_processed(blocks: int) -> None:
        async def holds() -> bool:
            return (await worker.status()).tiers["rt"].blocks == blocks

        await until(holds, f"{blocks} blocks processed")

    async def published() -> bool:
        async with Redis.from_url(url) as client:
            seen = await all_workers_of(worker)
            return seen.others_visible and bool(await client.exists(key))

    async def alone() -> bool:
        seen = await all_workers_of(worker)
        assert [own.instance for own in seen.workers] == [name], "its own figures need no Redis"
        return not seen.others_visible

    await until(published, "the heartbeat is in Redis")
    await send_blocks(system, 0, sensors=3)
    await has_processed(3)

    down(redis_folder)
    await until(alone, "the page says that Redis does not answer")
    await send_blocks(system, 1, sensors=3)
    await has_processed(6)

    assert start(redis_folder, ["redis_url"])["redis_url"] == url
    await until(published, "the heartbeat is back with Redis")

    pid = RedisServer(redis_folder).daemon.pid()
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)  # takes connections, and answers none
    try:
        await until(alone, "the page does not wait for a Redis that hangs")
        await send_blocks(system, 2, sensors=3)
        await has_processed(9)
        await asyncio.sleep(heartbeat.BEAT_SECONDS)  # so that a beat is under way, or has failed
        assert (await worker.status()).ready
        assert await worker.stop() == 0, "nor does a stop"
    finally:
        os.kill(pid, signal.SIGCONT)
