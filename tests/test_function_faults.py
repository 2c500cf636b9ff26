"""The function beside other owners, and while Kafka or Redis does not answer: nothing is lost, nothing half-saved."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from pydantic import SecretStr

from app.dsp.engine import Engine
from app.mirror.keys import sensor_key
from app.mirror.ownership import Ownership
from app.mirror.states import Saved
from app.pipelines import shipped_pipelines
from app.redis_client import redis_client
from app.serverless import connections, function
from app.serverless.errors import FunctionError
from app.services import start
from app.services.redis import RedisServer
from app.topics import sensor_topic
from app.verify import FeatureVerifier, Sent
from tests.feeding import Block, Partition
from tests.mirroring import claim
from tests.processes import paused_kafka
from tests.serverless import (
    BLOCK,
    Environment,
    Message,
    Outputs,
    blocks_of,
    environment,
    event,
    expecting,
    timestamp_of,
)
from tests.system import System, noise


class Rt:
    """The rt tier with one sensor, by the engine and by Redis's scripts."""

    def __init__(self, ownership: Ownership, sensor_id: str, samples) -> None:
        self.ownership = ownership
        self.id = sensor_id
        self.samples = samples
        self.partition = Partition(Engine(shipped_pipelines()["ecg"]))

    async def consume(self, blocks: int) -> None:
        """Consume the next blocks of the signal."""
        sensor = self.partition.engine.sensors.get(self.id)
        begin = sensor.next_index if sensor else 0
        for first in range(begin, begin + blocks * BLOCK, BLOCK):
            self.partition.feed(Block(self.id, self.samples[first : first + BLOCK], first, timestamp_of(first)))

    async def claim(self, first: int = -1, *, force: bool = False) -> bool:
        (claimed,) = await self.ownership.claim([claim(self.id, first)], force=force)
        if claimed.taken:
            if claimed.snapshot:
                self.partition.engine.restore({self.id: claimed.snapshot})
            self.epoch = claimed.epoch
        return claimed.taken

    async def save(self) -> bool:
        sensor = self.partition.engine.sensors[self.id]
        sensor.epoch = self.epoch
        (snapshot,) = self.partition.engine.snapshots([sensor])
        assert sensor.position is not None
        state = Saved(self.id, snapshot, self.epoch, *sensor.age, sensor.position, "ecg", 250.0, b"")
        return await self.ownership.save([state]) == []

    async def asked_for(self) -> None:
        """Wait until another tier wants the sensor."""
        while not await self.ownership.wanted():  # noqa: ASYNC110 - it is in Redis
            await asyncio.sleep(0.02)

    async def release(self) -> None:
        await self.ownership.release([(self.id, self.epoch)])


@pytest.fixture
async def rt(outputs: Outputs):
    """Give a function that makes the rt tier with a sensor."""
    async with redis_client(outputs.settings) as redis:
        ownership = Ownership(redis, outputs.settings.topic_prefix, "rt")
        yield lambda sensor_id, samples: Rt(ownership, sensor_id, samples)


def from_batch(sensor_id: str, samples, first: int) -> FeatureVerifier:
    """Expect a signal's features from a block on: rt has given those before."""
    verifier = FeatureVerifier(tier="batch", pipeline="ecg")
    starts = range(0, len(samples), BLOCK)
    verifier.expect(sensor_id, samples, [Sent(start, BLOCK) for start in starts])
    for given in range(0, first, BLOCK):
        verifier._expected.pop((sensor_id, given))
    verifier.verdict.expected = len(verifier._expected)
    return verifier


async def test_a_sensor_that_its_owner_does_not_give_up_fails_and_no_other(outputs, rt, caplog):
    samples = noise(4 * BLOCK, 1)
    owner = rt("kept", samples)
    await owner.claim()
    await owner.consume(1)
    await owner.save()
    kept = blocks_of("kept", samples, start=2 * BLOCK, offset=10)
    free = blocks_of("free", samples, offset=20)
    async with environment(outputs.settings, handoff_wait=60.0) as own:
        assert await own.feed({0: kept[:1] + free[:2] + kept[1:], 1: blocks_of("else", samples)}, 2.0) == {0: [10, 11]}
        (warned,) = [own.getMessage() for own in caplog.records if own.name == "app.serverless.tier"]
        assert "1 sensors ('kept', ...) could not be had" in warned
        assert "CONTINUUM_HANDOFF_WAIT is 60 s" in warned
        assert (await outputs.state("kept"))["owner"] == b"rt"
        assert (await outputs.state("free"))["owner"] == b""
        assert await outputs.features("kept") == []
        # A caller that reads no answer is told by an error, or it would take the event for done.
        async with environment(outputs.settings, handoff_wait=60.0, function_partial_response=False) as other:
            with pytest.raises(FunctionError, match="2 messages have to come again"):
                await other.feed({0: kept[:1] + free[:2] + kept[1:]}, 2.0)
        await owner.consume(1)
        await owner.save()
        # Its owner has come to where it is wanted: it is taken now.
        assert await own.feed({0: kept[:1] + free + kept[1:]}) == {}
    for sensor_id in ("free", "else"):
        verdict = await outputs.verify(expecting(sensor_id, samples))
        assert verdict.passed, (verdict, verdict.examples)
        assert verdict.repeated == 0
    verdict = await outputs.verify(from_batch("kept", samples, 2 * BLOCK))
    assert verdict.passed, (verdict, verdict.examples)


async def test_a_sensor_that_is_given_up_in_time_goes_on(outputs, rt):
    samples = noise(4 * BLOCK, 2)
    owner = rt("given", samples)
    await owner.claim()
    await owner.consume(1)
    await owner.save()

    async def give_up() -> None:
        async with asyncio.timeout(10):
            await owner.asked_for()
        await owner.consume(1)
        await owner.save()
        await owner.release()

    async with environment(outputs.settings, handoff_wait=60.0) as own:
        messages = blocks_of("given", samples, start=2 * BLOCK)
        failed, _ = await asyncio.gather(own.feed({0: messages}), give_up())
        assert failed == {}
    verdict = await outputs.verify(from_batch("given", samples, 2 * BLOCK))
    assert verdict.passed, (verdict, verdict.examples)


async def test_a_tier_that_has_samples_before_and_has_not_claimed_yet_is_waited_for(outputs, rt):
    """From rt by way of nrt: rt gives the sensor up for nrt, and the function asks sooner than nrt does again."""
    samples = noise(4 * BLOCK, 9)
    owner = rt("handed on", samples)
    await owner.claim()
    await owner.consume(1)
    await owner.save()
    async with redis_client(outputs.settings) as redis:
        between = Rt(Ownership(redis, outputs.settings.topic_prefix, "nrt"), "handed on", samples)
        between.partition.number = 1

        async def hand_on() -> None:
            async with asyncio.timeout(20):
                await owner.asked_for()
                await owner.release()
                while (await outputs.state("handed on"))["owner"] != b"batch":  # noqa: ASYNC110 - it is in Redis
                    await asyncio.sleep(0.02)
                await asyncio.sleep(0.2)  # if it does not wait, it gives a gap
                assert await between.claim(BLOCK)
                await between.consume(1)
                await between.asked_for()
                assert await between.save()
                await between.release()

        async with environment(outputs.settings, handoff_wait=60.0) as own:
            messages = blocks_of("handed on", samples, start=2 * BLOCK)
            failed, _ = await asyncio.gather(own.feed({0: messages}), hand_on())
            assert failed == {}
    verdict = await outputs.verify(from_batch("handed on", samples, 2 * BLOCK))
    assert verdict.passed, (verdict, verdict.examples)
    assert verdict.repeated == 0


async def test_after_the_wait_the_gap_is_believed(outputs, rt):
    samples = noise(4 * BLOCK, 3)
    owner = rt("gap", samples)
    await owner.claim()
    await owner.consume(1)
    await owner.save()
    async with environment(outputs.settings, handoff_wait=0.3) as own:
        assert await own.feed({0: blocks_of("gap", samples, start=2 * BLOCK)}) == {}
    assert [record["gap"] for record in await outputs.features("gap")] == [BLOCK, 0]
    await owner.consume(1)
    assert not await owner.save(), "it has been taken from its owner"


async def test_an_invocation_waits_for_the_one_before_it(outputs, rt):
    """A partition's events may overlap, after a timeout: the later one must not take the sensor from the earlier."""
    samples = noise(3 * BLOCK, 4)
    messages = blocks_of("overlap", samples)
    async with (
        environment(outputs.settings, handoff_wait=60.0) as one,
        environment(outputs.settings, handoff_wait=60.0) as two,
    ):
        assert await one.feed({0: messages[:1]}) == {}
        tier = one.function.tiers["batch"]
        settle, later = tier._settle, asyncio.get_running_loop()
        overtaking: list[object] = []

        async def while_the_next_comes() -> None:
            if not overtaking:
                overtaking.append(asyncio.run_coroutine_threadsafe(two.feed({0: messages[2:]}), later))
                await asyncio.sleep(0.5)  # it has claimed, and waits; if not, it gives a gap
            await settle()

        tier._settle = while_the_next_comes
        assert await one.feed({0: messages[1:2]}) == {}
        assert await asyncio.wrap_future(overtaking[0]) == {}
    verdict = await outputs.verify(expecting("overlap", samples))
    assert verdict.passed, (verdict, verdict.examples)


async def test_what_is_unread_is_waited_for(outputs, rt):
    """Another tier needs a later state than the function has saved: it is not given an earlier one."""
    samples = noise(4 * BLOCK, 5)
    messages = blocks_of("unread", samples)
    async with environment(outputs.settings) as own, redis_client(outputs.settings) as redis:
        key = sensor_key(outputs.settings.topic_prefix, "unread", "state")
        assert await own.feed({0: messages[:1]}) == {}
        await redis.hset(key, "owner", "batch")  # as during an event
        owner = rt("unread", samples)
        assert not await owner.claim(3 * BLOCK)
        for number in (1, 2):
            assert await own.feed({0: messages[number : number + 1]}) == {}
            taken = await owner.claim(3 * BLOCK)
            assert taken == (number == 2), "between events it is still waited for"
    assert owner.partition.engine.sensors["unread"].next_index == 3 * BLOCK


@pytest.fixture
def own_redis(tmp_path: Path, stopped_at_end: Callable[[Path], Path]) -> RedisServer:
    folder = stopped_at_end(tmp_path / "own-redis")
    start(folder, ["redis_url"])
    return RedisServer(folder)


async def test_redis_down_is_an_error_and_the_event_is_right_when_it_comes_again(outputs, own_redis):
    samples = noise(4 * BLOCK, 6)
    messages = blocks_of("redis-down", samples)
    folder = own_redis.daemon.folder.parent
    url = start(folder, ["redis_url"])["redis_url"]
    async with environment(outputs.settings, redis_url=SecretStr(url), function_warm=True) as own:
        assert await own.feed({0: messages[:2]}) == {}
        own_redis.daemon.kill()
        with pytest.raises(FunctionError, match="Redis does not answer"):
            await own.feed({0: messages[2:]})
        assert own.function.tiers["batch"].processor.residents == {}
        start(folder, ["redis_url"])
        assert await own.feed({0: messages[2:3]}) == {}
        # The features are out when the save fails, and come again.
        tier = own.function.tiers["batch"]
        save = tier._ownership.save

        async def killed_before(*arguments, **options):
            own_redis.daemon.kill()
            return await save(*arguments, **options)

        tier._ownership.save = killed_before
        with pytest.raises(FunctionError, match="Redis does not answer"):
            await own.feed({0: messages[3:]})
        tier._ownership.save = save
        start(folder, ["redis_url"])
        assert await own.feed({0: messages[3:]}) == {}
    verdict = await outputs.verify(expecting("redis-down", samples))
    assert verdict.passed, (verdict, verdict.examples)
    assert verdict.repeated == 1


async def until_done(own: Environment, messages: list[Message]) -> None:
    """Hand an event over again and again, as Lambda does: Kafka may take a while until it answers as before."""
    async with asyncio.timeout(120):
        while True:
            with suppress(FunctionError):
                if await own.feed({0: messages}) == {}:
                    return
            await asyncio.sleep(0.2)


async def test_kafka_down_is_an_error_and_nothing_is_saved(outputs, services_datadir):
    samples = noise(3 * BLOCK, 7)
    messages = blocks_of("kafka-down", samples)
    async with environment(outputs.settings) as own:
        assert await own.feed({0: messages[:1]}) == {}
        before = await outputs.state("kafka-down")
        with paused_kafka(services_datadir), pytest.raises(FunctionError, match=r"Kafka .*the event is retried"):
            await own.feed({0: messages[1:2]}, 2.0)
        after = await outputs.state("kafka-down")
        assert (after["next"], after["snapshot"]) == (before["next"], before["snapshot"])
        await until_done(own, messages[1:])
    verdict = await outputs.verify(expecting("kafka-down", samples))
    assert verdict.passed, (verdict, verdict.examples)


async def test_no_kafka_or_redis_at_all_is_said_in_words(outputs):
    messages = blocks_of("nobody", noise(BLOCK, 8))
    async with environment(outputs.settings, kafka_bootstrap="127.0.0.1:1") as own:
        with pytest.raises(FunctionError, match=r"no Kafka answers at 127\.0\.0\.1:1: the event is retried"):
            await own.feed({0: messages})
    async with environment(outputs.settings, redis_url=SecretStr("redis://127.0.0.1:1")) as own:
        with pytest.raises(FunctionError, match="Redis does not answer"):
            await own.feed({0: messages})


async def test_a_kafka_that_never_answers_leaves_nothing_open(outputs, monkeypatch):
    made = []

    def producer(**options: Any) -> AIOKafkaProducer:
        made.append(AIOKafkaProducer(**options))
        return made[-1]

    monkeypatch.setattr(connections, "AIOKafkaProducer", producer)

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()[:2]
        async with environment(outputs.settings, kafka_bootstrap=f"{host}:{port}") as own:
            with pytest.raises(FunctionError, match=r"Kafka or Redis took over 0\.5 s"):
                await own.feed({0: blocks_of("silent", noise(BLOCK, 8))}, 0.5)
    assert [own._closed for own in made] == [True]


async def test_a_key_of_somebody_else_fails_the_event(outputs):
    """A sensor without an answer must not begin anew."""
    async with redis_client(outputs.settings) as redis:
        await redis.set(sensor_key(outputs.settings.topic_prefix, "foreign", "state"), "not a hash")
    async with environment(outputs.settings) as own:
        with pytest.raises(FunctionError, match="did not answer for 1 of 2 sensors"):
            await own.feed({0: blocks_of("foreign", noise(BLOCK, 9)) + blocks_of("native", noise(BLOCK, 9), offset=1)})


async def test_connections_that_have_not_been_used_for_long_are_made_anew(outputs, monkeypatch):
    samples = noise(3 * BLOCK, 10)
    messages = blocks_of("frozen", samples)
    async with environment(outputs.settings) as own:
        assert await own.feed({0: messages[:1]}) == {}
        before = own.function._connections._producer
        assert await own.feed({0: messages[1:2]}) == {}
        assert own.function._connections._producer is before, "kept while it is fresh"
        monkeypatch.setattr(connections, "STALE_SECONDS", 0.0)
        assert await own.feed({0: messages[2:]}) == {}
        assert own.function._connections._producer is not before
    verdict = await outputs.verify(expecting("frozen", samples))
    assert verdict.passed, (verdict, verdict.examples)


def test_the_margin_leaves_time_for_the_rest():
    assert function.MARGIN_SECONDS > function.LAST_SECONDS > 0


async def test_a_worker_then_the_function_then_the_worker(system: System) -> None:
    """A sensor moves from the rt tier's worker to the function and back while it streams."""
    samples = noise(12 * BLOCK, 11)
    messages = blocks_of("mover", samples)
    worker = await system.worker(tiers=("rt",), handoff_wait=30.0)
    verifier = expecting("mover", samples, tier=None)

    async def to_rt(own) -> None:
        await system.send([(key, value) for _, key, value in own])

    async with environment(system.settings, handoff_wait=30.0) as own:
        await to_rt(messages[:4])
        async with asyncio.timeout(60):
            while (await worker.status()).tiers["rt"].features < 4:  # noqa: ASYNC110 - it is another process
                await asyncio.sleep(0.1)
        # Redis is a checkpoint behind, perhaps: the worker is asked for the sensor.
        assert await own.feed({0: messages[4:6]}) == {}
        await to_rt(messages[8:])  # while two blocks are unread
        assert await own.feed({0: messages[6:7]}) == {}
        assert await own.feed({0: messages[7:8]}) == {}
    verdict = await system.verify(verifier, quiet=0.5)
    assert verdict.passed, (verdict, verdict.examples)
    assert (await worker.status()).tiers["rt"].gaps == 0
    assert await worker.stop() == 0


async def test_a_changed_pipeline_is_warmed_up_from_what_the_topic_retains(system: System, tmp_path: Path) -> None:
    samples = noise(12 * BLOCK, 12)
    messages = blocks_of("upgraded", samples)
    await system.send([(key, value) for _, key, value in messages], "batch")
    folder = tmp_path / "pipelines"
    folder.mkdir()
    changed = shipped_pipelines()["ecg"].text.replace("window = 50", "window = 40")
    (folder / "ecg.toml").write_text(changed)
    topic = sensor_topic(system.settings, "batch")
    async with environment(system.settings) as own:
        assert await own(event(topic, {partition_of_key(): messages[:10]})) == {}
    async with environment(system.settings, pipelines=folder) as own:
        assert await own(event(topic, {partition_of_key(): messages[10:]})) == {}
    outputs = Outputs(system.settings)
    records = await outputs.features("upgraded")
    assert [record["seq"] for record in records] == [own * BLOCK for own in range(12)]
    from app.offline import Parameters, ecg_features

    expected = ecg_features(samples, [11 * BLOCK, 12 * BLOCK], parameters=Parameters(rms_window=40))
    assert [record["rms"] for record in records[10:]] == pytest.approx(expected[:, 0].tolist(), rel=1e-6)


def partition_of_key() -> int:
    from app.runtime.outbox import partition_of

    return partition_of(b"upgraded", 20)
