"""The function on a real Kafka and a real Redis: its features, its dead letters, and what it leaves in Redis."""

from __future__ import annotations

import asyncio
import atexit
import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from app.mirror.keys import sensor_key
from app.mirror.ownership import Ownership
from app.pipelines import shipped_pipelines
from app.redis_client import redis_client
from app.serverless import handler as entry
from app.serverless.events import EventError
from app.settings import as_environment
from app.wire.blocks import encode_frame, encode_json, packed
from tests.mirroring import claim
from tests.serverless import (
    BLOCK,
    MSK,
    SELF_MANAGED,
    Context,
    blocks_of,
    environment,
    event,
    expecting,
    record,
    timestamp_of,
)
from tests.system import noise
from tests.test_import_rules import BESIDE_A_FUNCTION

ROOT = Path(__file__).parents[1]

COLD = """
import json, sys
from app.serverless.handler import handler
response = handler(json.load(sys.stdin))
print(json.dumps([response, sorted(sys.modules)]))
"""


@pytest.mark.parametrize("warm", [False, True], ids=["on demand", "warm"])
@pytest.mark.parametrize("seq", [True, False], ids=["seq", "timestamps"])
async def test_a_stream_in_events_is_the_offline_reference(outputs, warm, seq):
    name, signal = f"stream-{warm}-{seq}", noise(9 * BLOCK, 1)
    messages = blocks_of(name, signal, seq=seq)
    async with environment(outputs.settings, function_warm=warm) as function:
        for begin in range(0, 9, 3):
            assert await function.feed({3: messages[begin : begin + 3]}) == {}
        in_memory = function.function.tiers["batch"].processor.residents
        assert list(in_memory) == ([name] if warm else [])
    verdict = await outputs.verify(expecting(name, signal))
    assert verdict.passed, (verdict, verdict.examples)
    assert verdict.repeated == 0
    state = await outputs.state(name)
    assert state["owner"] == (b"batch" if warm else b""), "on demand nobody owns it between events"
    assert state["position"] == outputs.settings.topic_prefix.encode() + b"batch-sensors-3-9"
    # Warm, one claim serves all events; on demand each event's claim is its own.
    assert int(state["epoch"]) == (1 if warm else 3)


async def test_the_handler_reads_the_environment_and_keeps_what_is_warm(outputs, monkeypatch):
    for name, value in as_environment(outputs.settings).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_LAMBDA_INITIALIZATION_TYPE", "provisioned-concurrency")
    signal = noise(4 * BLOCK, 2)
    messages = blocks_of("handled", signal)
    topic = f"{outputs.settings.topic_prefix}batch-sensors"
    entry.function.cache_clear()
    for shape, own in ((MSK, messages[:2]), (SELF_MANAGED, messages[2:])):
        response = await asyncio.to_thread(entry.handler, event(topic, {1: own}, shape), Context())
        assert response == {"batchItemFailures": []}
    made = entry.function()
    assert list(made.tiers["batch"].processor.residents) == ["handled"], "provisioned concurrency is warm"
    atexit.unregister(made.close)
    await asyncio.to_thread(made.close)
    entry.function.cache_clear()
    verdict = await outputs.verify(expecting("handled", signal))
    assert verdict.passed, (verdict, verdict.examples)


async def test_many_sensors_partitions_tiers_and_frames_in_one_event(outputs):
    settings, signals = outputs.settings, {f"many-{number}": noise(4 * BLOCK, number) for number in range(5)}
    names = list(signals)
    frames = [
        encode_frame(
            [
                packed(own, signals[own][start : start + BLOCK], timestamp_of(start), seq=start, pipeline="ecg")
                for own in names[:3]
            ]
        )
        for start in range(0, 4 * BLOCK, BLOCK)
    ]
    async with environment(settings) as function:
        for begin in (0, 2):
            own = {
                0: [(10 + begin + number, b"gateway", frame) for number, frame in enumerate(frames[begin : begin + 2])],
                1: blocks_of(names[3], signals[names[3]], offset=5)[begin : begin + 2],
            }
            happening = event(function.topic, own)
            rt = f"{settings.topic_prefix}rt-sensors"
            happening["records"] |= event(rt, {1: blocks_of(names[4], signals[names[4]])[begin : begin + 2]})["records"]
            assert await function(happening) == {}
    for number, name in enumerate(names):
        verdict = await outputs.verify(expecting(name, signals[name], tier="rt" if number == 4 else "batch"))
        assert verdict.passed, (verdict, verdict.examples)


async def test_what_can_never_succeed_is_a_dead_letter(outputs):
    signal = noise(2 * BLOCK, 3)
    good = blocks_of("sound", signal)
    bad = encode_frame(
        [
            packed("sound", signal[BLOCK:], timestamp_of(BLOCK), seq=BLOCK, pipeline="ecg"),
            packed("", signal[:4], 0, seq=0),
        ]
    )
    own = {2: [good[0], (1, b"null", None), (2, b"none", b"{"), (3, b"other", good[0][2]), (4, b"half", bad)]}
    async with environment(outputs.settings) as function:
        happening = event(function.topic, own)
        happening["records"][f"{function.topic}-2"][1]["headers"] = [{"replayed-from": list(b"x-1-2")}, {"own": [1]}]
        assert await function(happening) == {}
    for key, reason, offset in (
        (b"null", b"malformed", 1),
        (b"none", b"malformed", 2),
        (b"other", b"key-mismatch", 3),
        (b"half", b"bad-sensor-id", 4),
    ):
        (letter,) = await outputs.dead_letters(key)
        headers = dict(letter.headers)
        assert headers["reason"] == reason
        assert headers["source"] == f"{function.topic}-2-{offset}".encode()
        assert letter.value == {1: None, 2: b"{", 3: good[0][2], 4: bad}[offset]
        assert headers.get("replayed-from") == (b"x-1-2" if offset == 1 else None)
        assert "own" not in headers
    verdict = await outputs.verify(expecting("sound", signal))
    assert verdict.passed, (verdict, verdict.examples)


async def test_a_state_of_another_pipeline_is_a_dead_letter_and_the_sensor_is_given_up(outputs):
    signal = noise(2 * BLOCK, 4)
    first, second = blocks_of("changed", signal)
    other = blocks_of("changed", signal, pipeline="report")[1]
    async with environment(outputs.settings) as function:
        assert await function.feed({0: [first]}) == {}
        assert await function.feed({0: [other]}) == {}
        (letter,) = await outputs.dead_letters(b"changed")
        assert dict(letter.headers)["reason"] == b"unusable-state"
        assert (await outputs.state("changed"))["owner"] == b""
        assert await function.feed({0: [second]}) == {}
    verdict = await outputs.verify(expecting("changed", signal))
    assert verdict.passed, (verdict, verdict.examples)


@pytest.mark.parametrize("warm", [False, True], ids=["on demand", "warm"])
async def test_a_state_of_another_pipeline_is_brought_to_the_one_that_is_set(outputs, warm):
    """As a worker does, though all blocks name their pipelines."""
    name, signal = f"set-{warm}", noise(3 * BLOCK, 7)
    async with environment(outputs.settings, function_warm=warm) as function:
        assert await function.feed({0: blocks_of(name, signal)[:2]}) == {}
        async with redis_client(outputs.settings) as redis:
            key = sensor_key(outputs.settings.topic_prefix, name, "meta")
            await redis.hset(key, mapping={"set_pipeline": "report"})
        assert await function.feed({0: blocks_of(name, signal, pipeline="report")[2:]}) == {}
    assert await outputs.dead_letters(name.encode()) == []
    (record,) = await outputs.features(name, "report")
    assert record["seq"] == 2 * BLOCK


async def test_the_pipeline_of_a_block_that_names_none(outputs):
    """What a person set, else what ran last, else what it begins with, else the tier's."""
    prefix, signal = outputs.settings.topic_prefix, noise(BLOCK, 5)
    metas = {
        "set": {"set_pipeline": "ecg", "pipeline": "report"},
        "ran": {"pipeline": "ecg"},
        "named": {"set_pipeline": "report"},
    }
    async with redis_client(outputs.settings) as redis:
        for sensor_id, meta in metas.items():
            await redis.hset(sensor_key(prefix, sensor_id, "meta"), mapping=meta)
    own = (
        blocks_of("set", signal, pipeline=None)
        + blocks_of("ran", signal, pipeline=None, offset=1)
        + blocks_of("named", signal, offset=2)
    )
    two = noise(2 * BLOCK, 6)
    begun = [blocks_of("begun", two)[0], blocks_of("begun", two, pipeline=None)[1]]
    frame = encode_frame([packed("in-frame", signal, 0, seq=0)])
    async with redis_client(outputs.settings) as redis:
        await redis.hset(sensor_key(prefix, "in-frame", "meta"), mapping={"set_pipeline": "ecg"})
    async with environment(outputs.settings) as function:
        assert await function.feed({0: [*own, (3, b"gateway", frame)], 1: begun}) == {}
    for sensor_id in ("set", "ran", "named", "in-frame"):
        assert len(await outputs.features(sensor_id)) == 1, sensor_id
    assert len(await outputs.features("begun")) == 2


@pytest.mark.parametrize("warm", [False, True], ids=["on demand", "warm"])
async def test_a_sensor_that_changes_its_partition_goes_on(outputs, warm):
    name, signal = f"changes-{warm}", noise(6 * BLOCK, 14)
    messages = blocks_of(name, signal)
    async with environment(outputs.settings, function_warm=warm) as function:
        assert await function.feed({0: messages[:2]}) == {}
        assert await function.feed({1: messages[2:3]}) == {}
        assert await function.feed({1: messages[3:4], 2: messages[4:]}) == {}, "within an event, too"
    verdict = await outputs.verify(expecting(name, signal))
    assert verdict.passed, (verdict, verdict.examples)
    assert verdict.repeated == 0


async def test_a_topic_of_no_tier_is_refused_with_the_ones_expected(outputs):
    async with environment(outputs.settings) as function:
        with pytest.raises(EventError, match=r"'other-sensors': expected one of .*rt-sensors, .*batch-sensors"):
            await function(
                event("other-sensors", {0: []}) | {"records": {"x": [record("other-sensors", 0, (0, b"k", b"v"))]}}
            )


async def test_a_replay_gives_nothing_and_is_given_up_too(outputs):
    signal = noise(3 * BLOCK, 6)
    messages = blocks_of("again", signal)
    async with environment(outputs.settings) as function:
        for own in (messages, messages[:2], messages[1:]):
            assert await function.feed({0: own}) == {}
            assert (await outputs.state("again"))["owner"] == b""
    assert [own["seq"] for own in await outputs.features("again")] == [0, BLOCK, 2 * BLOCK]


async def test_warm_a_sensor_that_another_has_claimed_is_loaded_anew(outputs):
    """Its state in memory is an old one then."""
    signal = noise(4 * BLOCK, 7)
    messages = blocks_of("taken", signal)
    async with (
        environment(outputs.settings, function_warm=True) as function,
        environment(outputs.settings, function_warm=True) as other,
    ):
        for own, message in zip((function, other, other, function), messages, strict=True):
            assert await own.feed({0: [message]}) == {}
    verdict = await outputs.verify(expecting("taken", signal))
    assert verdict.passed, (verdict, verdict.examples)
    assert verdict.repeated == 0


async def test_warm_a_sensor_that_is_claimed_during_its_event_fails_and_comes_again(outputs, monkeypatch):
    signal = noise(3 * BLOCK, 8)
    messages = blocks_of("stolen", signal)
    async with redis_client(outputs.settings) as redis, environment(outputs.settings, function_warm=True) as function:
        rt = Ownership(redis, outputs.settings.topic_prefix, "rt")
        assert await function.feed({0: messages[:1]}) == {}
        tier = function.function.tiers["batch"]
        settle = tier._settle

        async def stolen_before() -> None:
            async with redis_client(outputs.settings) as own:
                await Ownership(own, outputs.settings.topic_prefix, "rt").claim([claim("stolen")], force=True)
            await settle()

        monkeypatch.setattr(tier, "_settle", stolen_before)
        assert await function.feed({0: messages[1:2]}) == {0: [1]}
        monkeypatch.undo()
        await rt.release([("stolen", 2)])
        assert await function.feed({0: messages[1:2]}) == {}
        assert await function.feed({0: messages[2:]}) == {}
    verdict = await outputs.verify(expecting("stolen", signal))
    assert verdict.passed, (verdict, verdict.examples)


async def test_warm_an_idle_sensor_is_given_up(outputs, monkeypatch):
    async with environment(outputs.settings, function_warm=True, idle_after=0.05) as function:
        assert await function.feed({0: blocks_of("idle", noise(BLOCK, 9))}) == {}
        assert (await outputs.state("idle"))["owner"] == b"batch"
        await asyncio.sleep(0.1)
        assert await function.feed({0: blocks_of("busy", noise(BLOCK, 9), offset=1)}) == {}
        assert list(function.function.tiers["batch"].processor.residents) == ["busy"]
    assert (await outputs.state("idle"))["owner"] == b""


@pytest.mark.parametrize("pipeline", ["ecg", "wearable", "report"])
async def test_the_first_event_loads_just_what_its_pipeline_needs(outputs, pipeline):
    """In a fresh process, with a feature sent: what has been imported then."""
    name = f"cold-{pipeline}"
    value = encode_json(name, noise(3 * BLOCK, 13), timestamp_of(0), seq=0, pipeline=pipeline)
    happening = event(f"{outputs.settings.topic_prefix}batch-sensors", {0: [(0, name.encode(), value)]})
    ran = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", COLD],
        input=json.dumps(happening),
        cwd=ROOT,
        env=os.environ | as_environment(outputs.settings),
        capture_output=True,
        text=True,
        check=True,
    )
    response, loaded = json.loads(ran.stdout)
    assert response == {"batchItemFailures": []}
    assert len(await outputs.features(name, pipeline)) == 1
    assert not {name.split(".")[0] for name in loaded} & (BESIDE_A_FUNCTION - {"scipy"})
    assert "scipy.signal" not in loaded
    assert ("scipy" in loaded) == (pipeline != "report")
    stages = {name for name in loaded if name.startswith("app.dsp.stages.") and name.count(".") == 4}
    used = {shipped_pipelines()[pipeline].node[own].type for own in shipped_pipelines()[pipeline].node}
    assert {name.split(".")[-1] for name in stages if not name.split(".")[-1].startswith("_")} == used


async def test_features_are_the_records_that_consumers_know(outputs):
    async with environment(outputs.settings) as function:
        assert await function.feed({0: blocks_of("typed", noise(BLOCK, 10))}) == {}
    (own,) = await outputs.features("typed")
    assert msgspec.convert(own["rms"], float) > 0
    assert (own["tier"], own["pipeline"], own["gap"], own["seq"]) == ("batch", "ecg", 0, 0)
