"""`continuum function`: events made and invoked, and a tier served beside a worker."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import psutil
import pytest
from aiokafka import AIOKafkaConsumer

from app.kafka_client import client_options, started
from app.own_process import ProcessFailedError
from app.redis_client import redis_client
from app.runtime.heartbeat import all_workers
from app.serverless.events import decode_event
from app.settings import Settings, as_environment
from app.topics import features_topic, sensor_topic
from app.verify import FeatureVerifier, Sent
from app.wire.blocks import encode_json
from tests.command import continuum
from tests.pages import until
from tests.system import System, noise

ROOT = Path(__file__).parents[1]


async def sample(settings: Settings, *arguments: str) -> bytes:
    done = await continuum(settings, "function", "sample-event", *arguments)
    assert done.code == 0, done.notes
    return done.out


async def test_an_event_made_is_one_of_the_tier_s(settings: Callable[..., Settings]) -> None:
    made = await sample(settings(), "--tier", "nrt", "--sensors", "3", "--blocks", "2", "--source", "msk")
    event = msgspec.json.decode(made)
    assert event["eventSource"] == "aws:kafka"
    batches = decode_event(event)
    assert {source.topic for source in batches} == {sensor_topic(settings(), "nrt")}
    assert sum(map(len, batches.values())) == 6
    for own in batches.values():
        assert [record.offset for record in own] == list(range(len(own)))


async def test_invoke_prints_the_response(system: System, tmp_path: Path) -> None:
    event = tmp_path / "event.json"
    event.write_bytes(await sample(system.settings, "--sensors", "2", "--blocks", "3", "--pipeline", "ecg"))
    done = await continuum(system.settings, "function", "invoke", str(event))
    assert (done.code, done.json) == (0, {"batchItemFailures": []}), done.notes
    assert "ms after a cold start of" in done.notes
    records = await system.read(features_topic(system.settings, "ecg"), 6)
    assert sorted({msgspec.json.decode(record.value)["sensorId"] for record in records}) == ["sample-1", "sample-2"]
    again = await continuum(system.settings, "function", "invoke", "-", "--json", stdin=event.read_bytes())
    assert again.json["response"] == {"batchItemFailures": []}
    assert again.json["error"] is None
    assert 0 < again.json["seconds"] < 60
    assert again.json["init_seconds"] > 0
    assert again.json["memory"] > 1 << 20
    here = await continuum(system.settings, "function", "invoke", str(event), "--in-process")
    assert (here.code, here.json) == (0, {"batchItemFailures": []}), here.notes
    assert len(await system.read(features_topic(system.settings, "ecg"), 7, seconds=1.0)) == 6, "replays give nothing"


async def test_an_invocation_that_fails(settings: Callable[..., Settings], tmp_path: Path) -> None:
    own = settings(redis_url="redis://127.0.0.1:1")
    event = await sample(own)
    done = await continuum(own, "function", "invoke", "-", "--json", stdin=event)
    assert done.code == 1
    assert done.json["error"]["errorType"] == "FunctionError"
    assert "Redis does not answer" in done.json["error"]["errorMessage"]
    assert any("Redis does not answer" in line for line in done.json["log"])


@pytest.mark.parametrize(
    ("arguments", "stdin", "message"),
    [
        (("invoke", "-"), b"[1]", "- is not an event (Expected `object`, got `array`)"),
        (("invoke", "-"), b'"' + bytes(7 << 20) + b'"', "an event has at most 6,291,456; split it"),
        (("invoke", "none.json"), b"", "none.json cannot be read (No such file or directory)"),
        (("serve", "--timeout", "4.9"), b"", "--timeout 4.9: expected at least 5, which is CONTINUUM_HANDOFF_WAIT"),
        (("serve", "--tiers", "batch,warm"), b"", "--tiers batch,warm: expected one or more of rt, nrt, batch"),
    ],
)
async def test_what_is_refused(
    settings: Callable[..., Settings], arguments: tuple[str, ...], stdin: bytes, message: str
) -> None:
    done = await continuum(settings(), "function", *arguments, stdin=stdin)
    assert done.code == 2
    assert message in done.notes


class Serve:
    """`continuum function serve` in a process of its own."""

    def __init__(self, settings: Settings, *arguments: str) -> None:
        self.log = settings.datadir / "serve.log"
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "app", "function", "serve", "--json", *arguments],
                env={**os.environ, **as_environment(settings)},
                cwd=ROOT,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [msgspec.json.decode(line) for line in self.log.read_bytes().splitlines() if line.startswith(b"{")]

    async def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return await asyncio.to_thread(self.process.wait, 30)


@pytest.fixture
async def serving(system: System) -> AsyncIterator[Callable[..., Serve]]:
    started: list[Serve] = []

    def start(*arguments: str) -> Serve:
        started.append(Serve(system.settings, *arguments))
        return started[-1]

    yield start
    for serve in started:
        serve.process.kill()
        serve.process.wait()


async def test_a_tier_is_served(system: System, serving: Callable[..., Serve]) -> None:
    blocks = 6
    signals = {f"s{number}": noise(blocks * 256, seed=number) for number in range(10)}
    verifier = FeatureVerifier(tier="batch", pipeline="ecg")
    for sensor, signal_ in signals.items():
        verifier.expect(sensor, signal_, [Sent(block * 256, 256) for block in range(blocks)])
    serve = serving("--tiers", "batch,rt", "--batch-size", "20", "--window", "0.1", "--timeout", "20")
    messages = [
        (sensor.encode(), encode_json(sensor, part, block * 1024, seq=block * 256, pipeline="ecg"))
        for sensor, signal_ in signals.items()
        for block, part in enumerate(np.split(signal_, blocks))
    ]
    await system.send(messages, "batch")
    verdict = await system.verify(verifier, quiet=0.2)
    assert verdict.passed, (verdict, serve.log.read_text())

    async def shown() -> bool:
        async with redis_client(system.settings) as redis:
            workers = await all_workers(redis, system.settings.topic_prefix)
        return [worker.tiers["batch"].blocks for worker in workers] == [60]

    await until(shown, "the heartbeat shows what was processed")
    named = "|".join(
        f"group {system.settings.function_group(tier)} has a living poller on {sensor_topic(system.settings, tier)}"
        for tier in ("rt", "batch")
    )
    with pytest.raises(ProcessFailedError, match=named):
        await system.worker()
    assert await serve.stop() == 0
    last = next(line for line in reversed(serve.lines) if line["tier"] == "batch")
    assert (last["records"], last["errors"], last["lag"]) == (60, 0, 0)
    assert 0 < last["p50"] <= last["p99"]
    assert last["cold_starts"] >= 1
    async with redis_client(system.settings) as redis:
        assert not await all_workers(redis, system.settings.topic_prefix), "a clean stop withdraws the heartbeat"


async def test_a_tier_that_a_worker_reads_is_not_served(system: System, serving: Callable[..., Serve]) -> None:
    topic, group = sensor_topic(system.settings, "batch"), f"{system.settings.app_id}-rt-batch"
    consumer = AIOKafkaConsumer(topic, **client_options(system.settings), group_id=group)
    async with started(consumer, system.settings):

        async def joined() -> bool:
            return bool(consumer.assignment())

        await until(joined, "the consumer has joined its group")
        serve = serving()
        assert await asyncio.to_thread(serve.process.wait, 60) == 2
    assert f"error: group {group} has a living worker on {topic}, and the function" in serve.log.read_text()


@pytest.mark.slow
async def test_a_killed_server_leaves_no_process_and_loses_nothing(
    system: System, serving: Callable[..., Serve]
) -> None:
    first = serving("--window", "0")
    await system.send([(b"s1", encode_json("s1", noise(256, 1), 0, seq=0, pipeline="ecg"))], "batch")
    assert len(await system.read(features_topic(system.settings, "ecg"), 1)) == 1
    children = psutil.Process(first.process.pid).children()
    assert children
    first.process.kill()

    async def gone() -> bool:
        return not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children)

    await until(gone, "the environments have ended")
    await system.send([(b"s1", encode_json("s1", noise(256, 2), 1024, seq=256, pipeline="ecg"))], "batch")
    serving("--window", "0")
    records = await system.read(features_topic(system.settings, "ecg"), 2)
    assert [msgspec.json.decode(record.value)["seq"] for record in records] == [0, 256]
