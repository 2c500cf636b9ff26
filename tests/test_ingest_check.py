"""What ingest accepts the workers accept, with the same samples, however it travels; what it refuses they would too."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import hypothesis.strategies as st
import msgspec
import numpy as np
import pytest
from hypothesis import example, given

from app.dsp.pipeline import Pipeline
from app.dsp.pipeline_file import parse_pipeline
from app.ingest.check import Accepted, Checked, Checker
from app.ingest.content import LARGE_BLOCK, as_message, split
from app.ingest.payload import FRAME_BYTES, frames_of, named, sensor_of
from app.ingest.routes import Route, Routes
from app.pipelines import shipped_pipelines
from app.wire.decode import decode
from app.wire.reasons import Reason, Rejected
from tests.feeding import two_channels


def repairing() -> Pipeline:
    text = shipped_pipelines()["ecg"].text
    return parse_pipeline(text.replace('name = "ecg"', 'name = "mending"\nnon_finite = "hold"', 1), "mending.toml")


PIPELINES = {"ecg": shipped_pipelines()["ecg"], "two-channels": two_channels(), "mending": repairing()}


class KnownRoutes(Routes):
    """Routes that are known."""

    def __init__(self, routes: Mapping[str, Route]) -> None:
        self._given = routes

    async def find(self, sensor_ids: Collection[str]) -> Mapping[str, Route]:
        return {sensor_id: self._given.get(sensor_id, Route()) for sensor_id in sensor_ids}


class Message(NamedTuple):
    key: bytes | None
    value: bytes | None
    offset: int = 0


def check(values: list[bytes], routes: Mapping[str, Route] | None = None, **options: Any) -> Checked:
    return asyncio.run(Checker(PIPELINES, KnownRoutes(routes or {})).check(values, **options))


numbers = st.floats(-1e6, 1e6) | st.integers(-(2**40), 2**40)
odd = st.sampled_from([None, "1", 1e200, math.inf, True, 2**70])
fields = st.fixed_dictionaries(
    {"sensorId": st.sampled_from(["a", "ä", "", "x" * 300, 3]), "timestamp": st.sampled_from([0, 1, -1, 2**54, 1.5])},
    optional={
        "samples": st.lists(numbers, max_size=6) | st.lists(numbers | odd, max_size=4) | st.binary(max_size=16),
        "seq": st.sampled_from([0, 256, None, -1]),
        "sampleRate": st.sampled_from([250.0, 250, 100.0]),
        "channels": st.sampled_from([1, 2]),
        "pipeline": st.sampled_from(["ecg", "two-channels", "mending", "none", None]),
        "stream": st.sampled_from(["", "s", "x" * 65]),
        "blocks": st.just([]),
        "more": numbers,
    },
)


def encoded(block: dict[str, Any], as_json: bool) -> bytes:
    samples = block.get("samples")
    if as_json or (isinstance(samples, list) and 2**70 in samples):
        return msgspec.json.encode(block)
    return msgspec.msgpack.encode(block)


@given(st.lists(st.tuples(fields, st.booleans()), min_size=1, max_size=6))
def test_ingest_and_workers_agree(blocks: list[tuple[dict[str, Any], bool]]) -> None:
    values = [encoded(block, as_json) for block, as_json in blocks]
    checked = check(values)
    assert sorted([*(b.place for b in checked.accepted), *(b.place for b in checked.refused)]) == list(
        range(len(values))
    )
    for block in checked.refused:
        key = None if block.sensor_id is None else block.sensor_id.encode()
        (bad,) = decode([Message(key, block.value)], PIPELINES, "ecg").bad
        assert key is None or (bad.reason, bad.detail) == (block.reason, block.detail)
    apart = decode([Message(b.sensor_id.encode(), as_message(b.value)) for b in checked.accepted], PIPELINES, "ecg")
    assert_same(apart, checked)
    frames = frames_of(checked.accepted)
    assert_same(decode([Message(b"gateway", frame.value) for frame in frames], PIPELINES, "ecg"), checked)


def assert_same(decoded: Any, checked: Checked) -> None:
    assert decoded.bad == []
    assert sum(len(columns.sensor_ids) for columns in decoded.columns) == len(checked.accepted)
    original = decode([Message(b.sensor_id.encode(), b.value) for b in checked.accepted], PIPELINES, "ecg")
    for columns, expected in zip(decoded.columns, original.columns, strict=True):
        assert columns.sensor_ids == expected.sensor_ids
        assert (columns.timestamps, columns.seqs, columns.streams) == (
            expected.timestamps,
            expected.seqs,
            expected.streams,
        )
        assert columns.bounds == expected.bounds
        assert columns.values.tobytes() == expected.values.tobytes(), "bit for bit"


@given(st.binary(max_size=60) | st.text('[]{}",:1e.nulbocks ', max_size=30).map(str.encode))
@example(b"\x81\xa6blocks\x91\x81\xa6blocks\x90")
@example(b'[{"sensorId": "a", "samples": [1], "timestamp": 1}, "\xff"]')
@example(b'{"sensorId": "\\ud800", "samples": [1], "timestamp": 1}')
def test_no_bytes_upset_it(content: bytes) -> None:
    try:
        values = split(content)
    except Rejected:
        return
    values = [named(value, "s") for value in values]
    checked = check(values)
    assert len(checked.accepted) + len(checked.refused) == len(values) >= 1
    frames_of(checked.accepted)


def test_a_sensors_route_says_tier_and_pipeline() -> None:
    routes = {"two": Route("nrt", "two-channels"), "mends": Route("batch", "mending")}
    made = {"timestamp": 1, "samples": [1.0, None]}
    values = [msgspec.json.encode({"sensorId": sensor, **made}) for sensor in ["two", "mends", "other"]]
    values.append(msgspec.json.encode({"sensorId": "two", "timestamp": 1, "samples": [1.0, 2.0, 3.0]}))
    values.append(msgspec.json.encode({"sensorId": "two", "timestamp": 1, "samples": [1.0, 2.0]}))
    checked = check(values, routes)
    assert [(block.place, block.tier) for block in checked.accepted] == [(1, "batch"), (4, "nrt")]
    assert [(block.place, block.reason) for block in checked.refused] == [
        (0, Reason.WRONG_TYPE),
        (2, Reason.WRONG_TYPE),
        (3, Reason.WRONG_CHANNELS),
    ]
    assert [block.tier for block in check(values[1:2], routes, tier="nrt").accepted] == ["nrt"]


def test_nobody_asks_for_the_route_of_what_cannot_be_a_sensor() -> None:
    """Routes are remembered by sensor: ids of megabytes would fill the memory."""

    class Asked(KnownRoutes):
        async def find(self, sensor_ids: Collection[str]) -> Mapping[str, Route]:
            assert set(sensor_ids) == {"x" * 256}
            return await super().find(sensor_ids)

    values = [msgspec.json.encode({"sensorId": "x" * size, "samples": [1], "timestamp": 1}) for size in (256, 257)]
    checked = asyncio.run(Checker(PIPELINES, Asked({})).check(values))
    assert [block.place for block in checked.accepted] == [0]
    assert [block.reason for block in checked.refused] == [Reason.BAD_SENSOR_ID]


def test_messages_and_frames_fit_into_kafka() -> None:
    samples = np.random.default_rng(1).normal(size=65_536).tolist()
    large = msgspec.json.encode({"sensorId": "a", "timestamp": 1, "samples": samples, "more": "x" * (1 << 20)})
    checked = check([large])
    assert [block.place for block in checked.accepted] == [0]
    assert len(as_message(large)) < 1_000_000 < len(large)
    assert_same(decode([Message(b"a", as_message(large))], PIPELINES, "ecg"), checked)
    small = msgspec.json.encode({"sensorId": "a", "timestamp": 1, "samples": samples[:5000]})
    blocks = [Accepted(number, "a", "rt", small) for number in range(40)]
    frames = frames_of([*blocks, Accepted(40, "a", "rt", large)])
    assert 2 < len(frames) < 41
    assert max(len(frame.value) for frame in frames) < 1_000_000
    assert FRAME_BYTES <= LARGE_BLOCK


@pytest.mark.parametrize(
    ("pattern", "topic", "sensor_id"),
    [
        ("sensors/+/blocks", "sensors/a b/blocks", "a b"),
        ("+/+/x", "one/two/x", "one"),
        ("sensors/#", "sensors/a/blocks", None),
        ("sensors/blocks", "sensors/blocks", None),
    ],
)
def test_the_topic_names_the_sensor(pattern: str, topic: str, sensor_id: str | None) -> None:
    assert sensor_of(pattern, topic) == sensor_id


def test_only_what_names_no_sensor_is_named() -> None:
    shuffled = [0.1, 1e-300, 5, -0.0]
    random.Random(3).shuffle(shuffled)
    block = {"samples": shuffled, "timestamp": 1}
    for encode in (msgspec.json.encode, msgspec.msgpack.encode):
        assert msgspec.msgpack.decode(named(encode(block), "s")) == {"sensorId": "s", **block}
        for other in ({"sensorId": "own", **block}, {"sensorId": 3}, {"blocks": []}, [1], "x"):
            assert named(encode(other), "s") == encode(other)
    for other in (b"", b"{", b"\xc1", b'{"timestamp": ' + str(2**70).encode() + b"}"):
        assert named(other, "s") == other
