"""Blocks over HTTP: what is good reaches the features, what is not is told, and nothing is half-sent."""

from __future__ import annotations

import asyncio
import gzip
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import aiohttp
import msgspec
import numpy as np
import pytest
from aiohttp import web
from pydantic import SecretStr

from app.pipelines import shipped_pipelines
from app.redis_client import redis_client
from app.services import Endpoints
from app.settings import Settings, load_settings
from app.topics import create_topics, features_topic, needed_topics, sensor_topic
from app.verify import FeatureVerifier, Sent
from app.web import blocks
from app.web.blocks import BlockIntake
from app.wire.blocks import encode_json, encode_msgpack, packed
from app.worker_process import WorkerProcess
from tests.pages import metrics_of
from tests.processes import paused_kafka
from tests.system import System, ecg_blocks, noise

if TYPE_CHECKING:
    from app.faust_app import ContinuumApp

LENGTH = 256
EVERYWHERE = "0.0.0.0"  # noqa: S104 - for a moment, and who asks is refused
TOKEN = "0123456789abcdef-secret"

JSON, MSGPACK = "application/json", "application/msgpack"


async def post(
    url: str,
    content: bytes,
    content_type: str | None = JSON,
    *,
    query: str = "",
    headers: Mapping[str, str] | None = None,
) -> tuple[int, Any]:
    given = {} if content_type is None else {"Content-Type": content_type}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{url}/v1/blocks{query}", data=content, headers={**given, **(headers or {})}) as response,
    ):
        return response.status, msgspec.json.decode(await response.read())


def block(sensor_id: str, number: int, **fields: Any) -> dict[str, Any]:
    samples = noise((number + 1) * LENGTH, seed=7)[number * LENGTH :]
    made = {"sensorId": sensor_id, "samples": samples.tolist(), "timestamp": 1_700_000_000_000 + number * 1024}
    return {**made, "seq": number * LENGTH, **fields}


def as_json(value: Any) -> bytes:
    return msgspec.json.encode(value)


async def test_blocks_in_every_shape_become_features(served: Served) -> None:
    system, worker, url = served
    before = (await metrics_of(worker)).get("continuum_ingest_blocks_total http rt", 0)
    count = 6
    verifier = FeatureVerifier(tier="rt", pipeline="ecg")
    signal = noise(count * LENGTH, seed=7)
    for name in ["json", "list", "map", "packed", "packed-list", "packed-map"]:
        verifier.expect(name, signal, ecg_blocks(count))
    for number in range(count):
        one = as_json(block("json", number))
        assert await post(url, one) == (202, {"accepted": 1, "refused": 0, "errors": []})
        packed_one = msgspec.msgpack.encode(block("packed", number))
        assert (await post(url, packed_one, MSGPACK))[0] == 202
    several = [block("list", number) for number in range(count)]
    assert (await post(url, b" \n" + as_json(several), f"{JSON}; charset=utf-8"))[0] == 202
    assert (await post(url, as_json({"blocks": [block("map", number) for number in range(count)]})))[0] == 202
    several = [block("packed-list", number) for number in range(count)]
    assert (await post(url, msgspec.msgpack.encode(several), "application/x-msgpack"))[0] == 202
    several = [block("packed-map", number) for number in range(count)]
    status, answer = await post(url, msgspec.msgpack.encode({"blocks": several}), MSGPACK)
    assert (status, answer["accepted"]) == (202, count)
    verdict = await system.verify(verifier)
    assert verdict.passed, verdict
    assert (await metrics_of(worker))["continuum_ingest_blocks_total http rt"] - before == 6 * count


async def test_the_good_among_the_bad_are_sent(served: Served) -> None:
    system, worker, url = served
    verifier = FeatureVerifier()
    verifier.expect("good", noise(3 * LENGTH, seed=7), ecg_blocks(3))
    sent = [
        block("good", 0),
        block("bad", 0, sampleRate=100.0),
        {"sensorId": "bad"},
        block("good", 1),
        block("bad", 0, samples=[]),
        block("bad", 0, samples=[1, "2"]),
        block("bad", 0, pipeline="none"),
        block("", 0),
        [1],
        block("bad", 0, samples=[1e200]),
        {"sensorId": "bad", "blocks": [block("bad", 0)]},
        block("good", 2),
    ]
    status, answer = await post(url, as_json(sent))
    assert (status, answer["accepted"], answer["refused"]) == (422, 3, 9)
    assert [(error["index"], error["reason"]) for error in answer["errors"]] == [
        (1, "wrong-rate"),
        (2, "missing-field"),
        (4, "empty-samples"),
        (5, "wrong-type"),
        (6, "unknown-pipeline"),
        (7, "bad-sensor-id"),
        (8, "malformed"),
        (9, "out-of-range"),
        (10, "missing-field"),
    ]
    assert {error["sensorId"] for error in answer["errors"]} == {"bad", "", None}
    assert answer["errors"][0]["detail"] == "sampleRate 100.0: pipeline ecg takes 250.0 Hz"
    verdict = await system.verify(verifier)
    assert verdict.passed, verdict
    records = await system.read(sensor_topic(system.settings, "rt"), until=10_000, seconds=1)
    assert not {record.key for record in records} & {b"bad", b""}, "nothing refused was sent"
    metrics = await metrics_of(worker)
    assert metrics["continuum_ingest_refused_total http wrong-rate"] == 1


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "malformed"),
        (b"{", "malformed"),
        (b"[1,", "malformed"),
        (b"nonsense", "malformed"),
        (b"[]", "empty-samples"),
        (b'{"blocks": 3}', "wrong-type"),
        (b'{"blocks": []}', "empty-samples"),
        (b'{"sensorId": "s", "timestamp": 1, "samples": [NaN]}', "non-finite"),
        (b"\x93\x01", "malformed"),
        (b"\xc1", "malformed"),
        (b"\xdf\xff\xff\xff\xff", "malformed"),
        (b"\xdd\xff\xff\xff\xff", "malformed"),
        (b"[" * 5000, "malformed"),
    ],
)
async def test_what_holds_no_block_is_told(content: bytes, reason: str, served: Served) -> None:
    status, answer = await post(served.url, content)
    assert (status, answer["accepted"], [error["reason"] for error in answer["errors"]]) == (422, 0, [reason])


async def test_requests_that_are_refused_whole(served: Served) -> None:
    url = served.url
    good = as_json(block("s", 0))
    for content_type in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", None]:
        status, answer = await post(url, good, content_type)
        assert status == 415, "a page of another site could send it"
        assert "expected one of application/json" in answer["error"]
    for query in ["?tier=fast", "?teir=rt", "?tier="]:
        assert (await post(url, good, query=query))[0] == 400
    status, answer = await post(url, b"[" + b" " * (2 << 20) + b"]")
    assert (status, answer["error"].startswith("the body is too large: expected at most 2097152 bytes")) == (413, True)
    bomb = gzip.compress(b" " * (64 << 20))
    assert len(bomb) < 100_000
    assert (await post(url, bomb, headers={"Content-Encoding": "gzip"}))[0] == 413
    status, answer = await post(url, good, headers={"Content-Encoding": "gzip"})
    assert (status, answer["error"].startswith("the body cannot be read")) == (400, True)
    status, answer = await post(url, as_json([{}] * 1001))
    assert (status, answer["error"]) == (413, "1001 blocks: expected at most 1000 a request")
    status, answer = await post(url, good, headers={"Host": "rebound.example:6066"})
    assert (status, "CONTINUUM_WEB_TOKEN" in answer["error"]) == (403, True)
    for host in ["localhost", "127.0.0.1:1", "[::1]:6066"]:
        assert (await post(url, b"[]", headers={"Host": host}))[0] == 422
    async with aiohttp.ClientSession() as session, session.get(f"{url}/v1/blocks") as response:
        assert response.status == 405
    async with aiohttp.ClientSession() as session, session.options(f"{url}/v1/blocks") as response:
        assert response.status in {403, 405}, "no other site is allowed anything"
        assert "Access-Control-Allow-Origin" not in response.headers


async def test_the_largest_block_of_all_is_taken(served: Served) -> None:
    system, url = served.system, served.url
    samples = np.random.default_rng(3).normal(size=65_536)
    verifier = FeatureVerifier()
    verifier.expect("long", samples, [Sent(0, 65_536)])
    content = encode_json("long", samples, 1_700_000_000_000, seq=0)
    assert len(content) > 1 << 20, "larger than a Kafka message may be"
    assert (await post(url, content))[0] == 202
    verifier.expect("long-32", samples.astype(np.float32).astype(float), [Sent(0, 65_536)])
    content = encode_msgpack(packed("long-32", samples.astype(np.float32), 1_700_000_000_000, seq=0))
    assert (await post(url, content, MSGPACK))[0] == 202
    verdict = await system.verify(verifier)
    assert verdict.passed, verdict


async def test_blocks_go_to_their_sensors_tier(served: Served) -> None:
    prefix = served.system.settings.topic_prefix
    client = redis_client(served.system.settings)
    await client.hset(f"{prefix}sensor:{{moved}}:meta", mapping={"tier": "rt", "set_tier": "nrt"})
    await client.hset(f"{prefix}sensor:{{ran}}:meta", "tier", "nrt")
    await client.aclose()
    named = [block(name, 0, pipeline="ecg") for name in ["moved", "ran", "new"]]
    assert (await post(served.url, as_json(named)))[0] == 202
    assert (await post(served.url, as_json(block("told", 0, pipeline="ecg")), query="?tier=batch"))[0] == 202
    for tier, keys in {"nrt": {b"moved", b"ran"}, "batch": {b"told"}}.items():
        records = await served.system.read(sensor_topic(served.system.settings, tier), until=len(keys))
        assert {record.key for record in records} == keys
    records = await served.system.read(features_topic(served.system.settings, "ecg"), until=10_000, seconds=2)
    assert b"new" in {record.key for record in records}


async def test_only_who_has_the_token_may_send(settings: Callable[..., Settings]) -> None:
    good = as_json(block("s", 0, pipeline="none"))
    async with intake(settings(web_token=SecretStr(TOKEN)), host=EVERYWHERE) as (url, _):
        for given in [
            None,
            "",
            TOKEN,
            f"Basic {TOKEN}",
            "Bearer",
            f"Bearer {TOKEN[:-1]}",
            f"Bearer {TOKEN}x",
            "Bearer é",
        ]:
            status, answer = await post(url, good, headers=None if given is None else {"Authorization": given})
            assert status == 401, given
            assert TOKEN not in answer["error"]
        status, answer = await post(url, good, headers={"Authorization": f"bearer {TOKEN}", "Host": "ingest.example"})
        assert (status, answer["errors"][0]["reason"]) == (422, "unknown-pipeline")


async def test_without_a_token_only_this_machine_may_send(settings: Callable[..., Settings]) -> None:
    async with intake(settings(), host=EVERYWHERE) as (url, _):
        status, answer = await post(url, as_json(block("s", 0)))
        assert status == 403
        assert "listens on 0.0.0.0 and has no token: set CONTINUUM_WEB_TOKEN" in answer["error"]


async def test_a_compressed_body_counts_as_what_it_may_become(
    settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a few megabytes of requests would hold gigabytes of memory."""
    monkeypatch.setattr("app.web.blocks.MOST_UNDER_WAY", 2 << 20)
    seen = []

    async def reading(request: web.Request) -> bytes:
        seen.append(under_way())
        return await read(request)

    read = blocks._read
    monkeypatch.setattr(blocks, "_read", reading)
    async with intake(settings()) as (url, under_way):
        assert (await post(url, gzip.compress(b"[]"), headers={"Content-Encoding": "gzip"}))[0] == 422
        assert (await post(url, b"[]"))[0] == 422
    assert seen == [2 << 20, 2]


async def test_a_body_that_does_not_come_is_not_waited_for(
    settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "BODY_SECONDS", 0.2)

    async def endless() -> AsyncIterator[bytes]:
        yield b"["
        await asyncio.sleep(60)

    async with (
        intake(settings()) as (url, under_way),
        aiohttp.ClientSession() as session,
        session.post(f"{url}/v1/blocks", data=endless(), headers={"Content-Type": JSON}) as response,
    ):
        assert (response.status, response.headers["Retry-After"]) == (408, "1")
        assert under_way() == 0


async def test_back_pressure(own_services: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Brokers that stand still: 503 after a while, 429 at once when too much is under way, and all of it arrives."""
    settings = load_settings(datadir=own_services)
    await create_topics(settings, needed_topics(settings, [])[:1])
    content = as_json([block("s", 0, pipeline="ecg"), block("other", 0, pipeline="ecg")])
    monkeypatch.setattr("app.web.blocks.MOST_UNDER_WAY", 4 * len(content))
    async with intake(settings) as (url, under_way):
        assert (await post(url, content))[0] == 202
        monkeypatch.setattr("app.web.blocks.ANSWER_SECONDS", 1.0)
        with paused_kafka(own_services):
            status, answer = await post(url, content)
            assert (status, "send the same blocks again later" in answer["error"]) == (503, True)
            answers = await asyncio.gather(*(post(url, content) for _ in range(6)))
            assert {status for status, _ in answers} == {429, 503}
            assert under_way() <= 4 * len(content)
            assert (await post(url, content))[0] == 429, "what was given up is under way all the same"
        monkeypatch.setattr("app.web.blocks.ANSWER_SECONDS", 60.0)
        status = 429
        while status == 429:
            await asyncio.sleep(0.2)
            status, answer = await post(url, content)
        assert status == 202, answer
    taken = 2 + sum(status == 503 for status, _ in answers) + 1
    records = await System(settings).read(sensor_topic(settings, "rt"), until=2 * taken)
    assert len(records) == 2 * taken, "each once"


async def test_redis_that_does_not_answer(settings: Callable[..., Settings], closed_port: int) -> None:
    """A sensor whose tier nobody knows is not sent just anywhere; one that says all itself needs no Redis."""
    without = settings(redis_url=SecretStr(f"redis://127.0.0.1:{closed_port}/0"))
    await create_topics(without, needed_topics(without, ["ecg"])[:1])
    async with intake(without) as (url, _):
        status, answer = await post(url, as_json(block("s", 0, pipeline="ecg")))
        assert (status, "the tier of sensor 's' cannot be looked up" in answer["error"]) == (503, True)
        assert (await post(url, as_json(block("s", 0)), query="?tier=rt"))[0] == 503
        assert (await post(url, as_json(block("s", 0, pipeline="ecg")), query="?tier=rt"))[0] == 202
        status, answer = await post(url, as_json(block("s", 0, pipeline="ecg")), query="?tier=nrt")
        assert (status, "create it with `continuum topics create`" in answer["error"]) == (503, True)


class Served(NamedTuple):
    system: System
    worker: WorkerProcess
    url: str


@pytest.fixture(scope="module")
def served(services: Endpoints, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One worker for the module."""
    settings = load_settings(
        kafka_bootstrap=services.kafka_bootstrap,
        redis_url=services.redis_url,
        topic_prefix="ingest-http-",
        app_id="ingest-http",
        datadir=tmp_path_factory.mktemp("ingest-http"),
        checkpoint_seconds=1.0,
        tiers=("rt",),
    )
    system = System(settings)

    async def start() -> WorkerProcess:
        await system.create()
        return await system.worker()

    worker = asyncio.run(start())
    assert worker.url is not None
    yield Served(system, worker, worker.url)
    system.close()
    asyncio.run(system.delete())


@asynccontextmanager
async def intake(settings: Settings, host: str = "127.0.0.1") -> AsyncIterator[tuple[str, Callable[[], int]]]:
    """Serve what takes blocks without the rest of a worker; gives its address, and how many bytes are under way."""
    app = SimpleNamespace(
        settings=settings,
        pipelines=shipped_pipelines(),
        redis=redis_client(settings),
        web_socket=socket.create_server((host, 0)),
    )
    taking = BlockIntake(cast("ContinuumApp", app))
    server = web.Application()
    server.router.add_post("/v1/blocks", taking.post)
    runner = web.AppRunner(server)
    await runner.setup()
    await web.SockSite(runner, app.web_socket).start()
    try:
        yield f"http://127.0.0.1:{app.web_socket.getsockname()[1]}", lambda: taking._open + taking._sender.under_way
    finally:
        await runner.cleanup()
        await taking.stop()
        await app.redis.aclose()


@pytest.fixture
def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])
