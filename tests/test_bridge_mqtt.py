"""The MQTT bridge between a real mosquitto and a real Kafka: nothing of QoS 1 is lost, whatever is killed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiomqtt
import msgspec
import pytest
from pydantic import SecretStr

from app.settings import Settings, as_environment, load_settings
from app.topics import create_topics, dead_letter_topic, needed_topics, sensor_topic
from app.verify import FeatureVerifier
from tests.command import continuum
from tests.mosquitto import Mosquitto
from tests.pages import until
from tests.processes import paused_kafka
from tests.system import System, decoded, ecg_blocks, noise

ROOT = Path(__file__).parents[1]
LENGTH = 256


class BridgeProcess:
    """A `continuum bridge mqtt` of its own."""

    def __init__(self, settings: Settings, port: int, *options: str, log: Path) -> None:
        self.log = log
        command = ["-m", "app", "bridge", "mqtt", "--host", "127.0.0.1", "--port", str(port), "--json", *options]
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, *command],
                cwd=ROOT,
                env={**os.environ, **as_environment(settings)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def said(self) -> str:
        return self.log.read_text()

    async def subscribed(self, times: int = 1) -> None:
        async def done() -> bool:
            assert self.process.poll() is None, self.said()
            return self.said().count("subscribed to") >= times

        await until(done, "subscribed", 60)

    async def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return await asyncio.to_thread(self.process.wait, 40)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    @property
    def figures(self) -> dict[str, Any]:
        """What it told last."""
        return json.loads([line for line in self.said().splitlines() if line.startswith("{")][-1])


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    started = Mosquitto(tmp_path / "mosquitto")
    started.start()
    yield started
    started.stop()


@pytest.fixture
async def some_topics(settings: Callable[..., Settings]) -> AsyncIterator[System]:
    """Topics of this test's own that no worker reads."""
    system = System(settings())
    own = [sensor_topic(system.settings, tier) for tier in ("rt", "nrt", "batch")]
    own.append(dead_letter_topic(system.settings))
    await create_topics(system.settings, [topic for topic in needed_topics(system.settings, []) if topic.name in own])
    return system


@pytest.fixture
def bridges(tmp_path: Path) -> Iterator[Callable[..., BridgeProcess]]:
    """Give a function that starts bridges, which end with the test."""
    started: list[BridgeProcess] = []

    def start(settings: Settings, broker: Mosquitto, *options: str) -> BridgeProcess:
        log = tmp_path / f"bridge-{len(started)}.log"
        started.append(BridgeProcess(settings, broker.port, *options, log=log))
        return started[-1]

    yield start
    for bridge in started:
        bridge.kill()


@asynccontextmanager
async def device(broker: Mosquitto) -> AsyncIterator[aiomqtt.Client]:
    async with aiomqtt.Client("127.0.0.1", broker.port) as client:
        yield client


def block(number: int, **fields: Any) -> dict[str, Any]:
    samples = noise((number + 1) * LENGTH, seed=7)[number * LENGTH :]
    made = {"samples": samples.tolist(), "timestamp": 1_700_000_000_000 + number * 1024, "seq": number * LENGTH}
    return {**made, **fields}


def blocks_in(records: list[Any]) -> list[Mapping[str, Any]]:
    return [block for record in records for block in msgspec.msgpack.decode(record.value)["blocks"]]


async def test_blocks_become_features_though_bridge_and_broker_are_killed(
    system: System, broker: Mosquitto, bridges: Callable[..., BridgeProcess]
) -> None:
    worker = await system.worker(tiers=("rt",))
    sensors, rounds = [f"m{number}" for number in range(20)], 12
    verifier = FeatureVerifier(tier="rt", pipeline="ecg")
    for sensor in sensors:
        verifier.expect(sensor, noise(rounds * LENGTH, seed=7), ecg_blocks(rounds))

    async def send(numbers: range) -> None:
        async with device(broker) as client:
            for number in numbers:
                one = block(number)
                for place, sensor in enumerate(sensors):
                    content = msgspec.msgpack.encode(one) if place % 2 else msgspec.json.encode(one)
                    await client.publish(f"sensors/{sensor}/blocks", content, qos=1)

    first = bridges(system.settings, broker)
    await first.subscribed()
    await send(range(3))
    sending = asyncio.create_task(send(range(3, 6)))
    await asyncio.sleep(0.05)
    first.kill()  # while blocks come in; what it had not acknowledged comes again
    await sending
    await send(range(6, 8))  # while there is no bridge
    second = bridges(system.settings, broker)
    await second.subscribed()
    await send(range(8, 10))
    await asyncio.to_thread(broker.stop)
    await asyncio.to_thread(broker.start)
    await second.subscribed(2)
    await send(range(10, 12))
    verdict = await system.verify(verifier, seconds=60)
    assert verdict.passed, verdict
    assert await second.stop() == 0, second.said()
    figures = second.figures
    assert (figures["connections"], figures["refused"], figures["dropped"], figures["waiting"]) == (2, 0, 0, 0)
    assert figures["blocks"] == figures["messages"] > figures["frames"], "blocks share frames"
    assert (await worker.status()).tiers["rt"].dead_letters == {}


async def test_what_cannot_be_accepted_is_a_dead_letter(
    some_topics: System, broker: Mosquitto, bridges: Callable[..., BridgeProcess]
) -> None:
    settings = some_topics.settings
    bridge = bridges(settings, broker, "--topic", "ward/+/+", "--gateway", "ward-7", "--tier", "nrt")
    await bridge.subscribed()
    good = block(0, pipeline="ecg")
    own = msgspec.json.encode({**good, "sensorId": "own"})
    several = msgspec.json.encode([{**good, "sensorId": "a"}, {**good, "sensorId": "b", "channels": 3}])
    async with device(broker) as client:
        await client.publish("ward/bed3/ecg", msgspec.json.encode(good), qos=1)
        await client.publish("ward/bed4/ecg", own, qos=0)
        await client.publish("ward/bed5/ecg", several, qos=1)
        await client.publish("ward/bed6/ecg-1-2", b"nonsense", qos=1)
        await client.publish("ward/bed7/ecg", b"", qos=1)
        await client.publish("ward/bed8/ecg", b"{}", qos=1)
        await client.publish("elsewhere/bed8/ecg", own, qos=1)
        await client.publish("ward/bed9/ecg", msgspec.json.encode({**good, "sensorId": "x" * 3_000_000}), qos=1)
    letters = await some_topics.dead_letters(until=5)
    assert await bridge.stop() == 0, bridge.said()
    records = await some_topics.read(sensor_topic(settings, "nrt"), until=3, seconds=20)
    assert [found["sensorId"] for found in blocks_in(records)] == ["bed3", "own", "a"]
    assert blocks_in(records)[0]["samples"] == good["samples"], "exactly"
    assert {record.key for record in records} == {b"ward-7"}
    told = {dict(letter.headers)["source"]: (letter, dict(letter.headers)) for letter in letters}
    assert {source: headers["reason"] for source, (_, headers) in told.items()} == {
        b"mqtt:ward/bed5/ecg": b"wrong-channels",
        b"mqtt:ward/bed6/ecg-1-2": b"malformed",
        b"mqtt:ward/bed7/ecg": b"malformed",
        b"mqtt:ward/bed8/ecg": b"missing-field",
        b"mqtt:ward/bed9/ecg": b"bad-sensor-id",
    }
    assert len(told[b"mqtt:ward/bed9/ecg"][0].key) == 256, "as much as Kafka takes"
    letter, headers = told[b"mqtt:ward/bed5/ecg"]
    assert (letter.key, decoded(letter)["channels"]) == (b"b", 3), "the bad block alone"
    assert headers["detail"] == b"channels 3: pipeline ecg takes 1"
    assert told[b"mqtt:ward/bed6/ecg-1-2"][0].value == b"nonsense"
    assert bridge.figures["refused"] == 5
    newest = (await continuum(settings, "dead-letters", "list", "--json")).json["letters"]
    assert {letter["source"] for letter in newest} == {source.decode() for source in told}
    planned = (await continuum(settings, "dead-letters", "replay", "--all", "--dry-run", "--json")).json
    assert list(planned["held"].values()) == 5 * ["its source is not a partition of a sensor topic"]


async def test_a_broker_that_refuses_us_ends_the_bridge(
    some_topics: System, tmp_path: Path, bridges: Callable[..., BridgeProcess]
) -> None:
    broker = Mosquitto(tmp_path / "closed", "allow_anonymous false")
    broker.start()
    try:
        settings = some_topics.settings.model_copy(update={"mqtt_password": SecretStr("hunter2")})
        bridge = bridges(settings, broker, "--username", "me")
        assert await asyncio.to_thread(bridge.process.wait, 60) == 1
    finally:
        broker.stop()
    assert "CONTINUUM_MQTT_PASSWORD" in bridge.said()
    assert "hunter2" not in bridge.said()


@pytest.mark.slow
async def test_two_bridges_of_one_name_are_told_so(
    some_topics: System, broker: Mosquitto, bridges: Callable[..., BridgeProcess]
) -> None:
    both = [bridges(some_topics.settings, broker) for _ in range(2)]

    async def told() -> bool:
        return any("does another bridge have the id" in bridge.said() for bridge in both)

    await until(told, "the bridges take the session from each other", 60)


@pytest.mark.slow
async def test_kafka_that_stands_still_holds_mqtt_back(
    own_services: Path, tmp_path: Path, bridges: Callable[..., BridgeProcess]
) -> None:
    """The broker keeps what the bridge has not acknowledged, so that even a bridge killed meanwhile loses nothing."""
    system = System(load_settings(datadir=own_services))
    await create_topics(system.settings, needed_topics(system.settings, []))
    broker = Mosquitto(tmp_path / "mosquitto")
    broker.start()
    try:
        stuck = bridges(system.settings, broker)
        await stuck.subscribed()
        with paused_kafka(own_services):
            async with device(broker) as client:
                for number in range(1500):
                    await client.publish("sensors/s/blocks", small_block(number), qos=1)
            assert stuck.process.poll() is None
            assert await stuck.stop() == 1, "not all was sent on"
            assert "stopped before all was sent on" in stuck.said()
        after = bridges(system.settings, broker)
        await after.subscribed()
        records = await system.read(sensor_topic(system.settings, "rt"), until=10_000, seconds=10)
        seqs = [block["seq"] for block in blocks_in(records)]
        assert list(dict.fromkeys(seqs)) == list(range(1500)), "all, and in order but for what came again"
        assert await after.stop() == 0
    finally:
        broker.stop()


def small_block(number: int) -> bytes:
    one = {"samples": [float(number)], "timestamp": 1_700_000_000_000 + 4 * number, "seq": number}
    return msgspec.json.encode(one)
