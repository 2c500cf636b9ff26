"""Clients for every kind of address, and what is said where Redis will not have us."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster as ClusterClient

from app.chaos.redis_cluster import RedisCluster
from app.mirror.mirror import Mirror
from app.mirror.ownership import Ownership
from app.redis_client import REDIS_ERRORS, explain, redis_client
from app.replay import plan_replay
from app.runtime.heartbeat import Heartbeat, all_workers
from app.services import start
from app.settings import Settings, load_settings
from app.sources import builtin_ecg
from tests.mirroring import claim, state
from tests.pages import until
from tests.replaying import replay, verifier_of
from tests.system import System
from tests.test_heartbeat import figures
from tests.tls import self_signed, tls_before

PASSWORD = "p@ss:w/rd%"


class Secured(NamedTuple):
    """A Redis behind TLS that wants a password."""

    url: str
    certificate: Path


@pytest.fixture
async def secured(tmp_path: Path, stopped_at_end: Callable[[Path], Path]) -> AsyncIterator[Secured]:
    url = start(stopped_at_end(tmp_path / "own-redis"), ["redis_url"])["redis_url"]
    async with Redis.from_url(url) as client:
        await client.config_set("requirepass", PASSWORD)
    certificate, key = self_signed(tmp_path, "redis")
    async with tls_before(urlsplit(url).port or 0, certificate, key) as port:
        yield Secured(f"rediss://127.0.0.1:{port}/0", certificate)


async def test_mirror_and_ownership_through_tls_with_a_password(
    secured: Secured, settings: Callable[..., Settings]
) -> None:
    own = settings(redis_url=secured.url, redis_password=PASSWORD, redis_ssl_cafile=secured.certificate)
    async with redis_client(own) as client:
        ownership = Ownership(client, own.topic_prefix, "rt")
        assert all(taken.taken for taken in await ownership.claim([claim(f"s{number}") for number in range(300)]))
        mirror = Mirror(ownership, on_refused=lambda refused: pytest.fail(str(refused)), resync=list)
        mirror.put([state(f"s{number}") for number in range(300)])
        running = asyncio.create_task(mirror.run())

        async def written() -> bool:
            return mirror.pending == 0

        await until(written, "the mirror has written all")
        assert mirror.last_error is None
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        thief = Ownership(client, own.topic_prefix, "nrt")
        (taken,) = await thief.claim([claim("s7", first=256)])
        assert (taken.epoch, taken.snapshot) == (2, state("s7").snapshot)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ("password", "Redis refuses the login (.*): see CONTINUUM_REDIS_PASSWORD"),
        ("no password", "Redis refuses the login (.*): see CONTINUUM_REDIS_PASSWORD"),
        ("authority", "the certificate of Redis is not accepted (.*): see CONTINUUM_REDIS_SSL_CAFILE"),
    ],
)
async def test_a_worker_that_redis_will_not_have_says_so_and_goes_on(
    secured: Secured, system: System, tmp_path: Path, wrong: str, text: str
) -> None:
    changes = {
        "redis_url": SecretStr(secured.url),
        "redis_password": SecretStr(PASSWORD),
        "redis_ssl_cafile": secured.certificate,
    }
    if wrong == "authority":
        changes["redis_ssl_cafile"] = self_signed(tmp_path, "another")[0]
    else:
        changes["redis_password"] = SecretStr("guess") if wrong == "password" else None
    system.settings = system.settings.model_copy(update=changes)
    plan = plan_replay(builtin_ecg(), sensors=10, seconds=20)
    worker = await system.worker()
    await replay(system, plan, speed=1e6)
    verdict = await system.verify(verifier_of(plan), quiet=0.5)
    assert verdict.passed, verdict

    async def noticed() -> bool:
        return (await worker.status()).tiers["rt"].mirror.last_error is not None

    await until(noticed, "the page shows it")
    figures_of_mirror = (await worker.status()).tiers["rt"].mirror
    assert (figures_of_mirror.up, figures_of_mirror.last_success) == (False, None)
    assert re.fullmatch(text, str(figures_of_mirror.last_error))
    assert await worker.stop() == 0
    assert await system.lag() == 0
    log = worker.log.read_text()
    (line,) = [line for line in log.splitlines() if "mirror: " in line and "snapshots wait" in line]
    assert re.search(f"mirror: {text}; snapshots wait", line)
    assert "Traceback" not in log
    assert PASSWORD not in log


@pytest.mark.slow
async def test_workers_see_each_other_in_a_cluster_and_after_a_failover(
    redis_cluster: RedisCluster, settings: Callable[..., Settings]
) -> None:
    own = settings(redis_url=redis_cluster.url)
    prefix = own.topic_prefix
    clients = [redis_client(own) for _ in range(3)]
    beating = [Heartbeat(client, prefix, lambda n=n: figures(f"w{n}")) for n, client in enumerate(clients)]
    for heartbeat in beating:
        await heartbeat.start()

    async def seen() -> bool:
        try:
            return [worker.instance for worker in await all_workers(clients[0], prefix)] == ["w0", "w1", "w2"]
        except REDIS_ERRORS:
            return False

    await until(seen, "all workers are seen")
    for position in range(3):  # one of them has the index
        killed = await asyncio.to_thread(redis_cluster.kill_master, position)
        try:
            await asyncio.to_thread(redis_cluster.wait_for_failover, killed)
            await until(seen, "all workers are seen by way of the successor")
        finally:
            await asyncio.to_thread(redis_cluster.restart, killed)
            await asyncio.to_thread(redis_cluster.wait_until_whole)

    async def all_beat() -> bool:
        return not any(heartbeat._failing for heartbeat in beating)

    await until(all_beat, "every worker has reached Redis again")
    for heartbeat in beating:
        await heartbeat.stop()
    assert await all_workers(clients[0], prefix) == []
    for client in clients:
        await client.aclose()


def test_a_cluster_address_may_name_many_nodes_and_a_login() -> None:
    client = redis_client(load_settings(redis_url="rediss+cluster://me:a%40b@one.example:1,two.example:2,[::1]:3/"))
    assert isinstance(client, ClusterClient)
    assert [(node.host, node.port) for node in client.startup_nodes] == [
        ("one.example", 1),
        ("two.example", 2),
        ("::1", 3),
    ]
    options = client.get_connection_kwargs()
    assert (options["username"], options["password"]) == ("me", "a@b")
    assert options["connection_class"].__name__ == "SSLConnection"
    client = redis_client(load_settings(redis_url="redis+cluster://one.example:1", redis_password="x"))
    assert isinstance(client, ClusterClient)
    assert client.get_connection_kwargs()["password"] == "x"
    assert client.get_connection_kwargs()["connection_class"].__name__ == "Connection"


async def test_an_authority_does_not_spoil_an_address_without_tls(settings: Callable[..., Settings]) -> None:
    async with redis_client(settings(redis_ssl_cafile="/nowhere.pem")) as client:
        assert await client.ping()


async def test_a_single_redis_is_no_cluster(settings: Callable[..., Settings]) -> None:
    url = settings().redis_url
    assert url is not None
    address = url.get_secret_value().replace("redis://", "redis+cluster://").removesuffix("/0")
    client = redis_client(settings(redis_url=address))
    attempt = await Ownership(client, "", "rt").try_save([state()])
    await client.aclose()
    assert attempt.failed == [state()]
    assert attempt.error is not None
    assert "Cluster mode is not enabled" in explain(attempt.error)
