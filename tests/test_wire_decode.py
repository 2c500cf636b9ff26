"""Decoding: the same blocks whatever their encoding."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from app.wire.blocks import encode_frame, encode_json, encode_msgpack, packed
from tests.decoding import Message, columns, decoded, rows

sensor_ids = st.text(st.characters(codec="utf-8"), min_size=1, max_size=64).filter(
    lambda name: len(name.encode()) <= 256
)


@st.composite
def blocks(draw: st.DrawFn) -> dict[str, Any]:
    pipeline = draw(st.sampled_from([None, "ecg", "ecg-branched", "two-channels"]))
    count = draw(st.integers(1, 20)) * (2 if pipeline == "two-channels" else 1)
    value = st.floats(width=32, allow_nan=False, allow_infinity=False)
    return {
        "sensor_id": draw(sensor_ids),
        "samples": np.array(draw(st.lists(value, min_size=count, max_size=count)), dtype=np.float32),
        "timestamp": draw(st.integers(0, 2**53)),
        "seq": draw(st.none() | st.integers(0, 2**53)),
        "pipeline": pipeline,
        "stream": draw(st.none() | st.text(st.characters(codec="utf-8"), min_size=1, max_size=16)),
    }


@given(sent=st.lists(blocks(), min_size=1, max_size=8))
def test_the_same_blocks_in_every_encoding(sent):
    exact = [{**block, "samples": block["samples"].astype(np.float64)} for block in sent]
    keys = [block["sensor_id"].encode() for block in sent]
    as_json = decoded(*(Message(key, encode_json(**block)) for key, block in zip(keys, exact, strict=True)))
    assert not as_json.bad
    for make in (
        [Message(key, encode_msgpack(packed(**block))) for key, block in zip(keys, exact, strict=True)],
        [Message(key, encode_msgpack(packed(**block))) for key, block in zip(keys, sent, strict=True)],
        [Message(b"gateway", encode_frame(packed(**block) for block in sent))],
        [Message(b"gateway", encode_frame(packed(**block) for block in exact))],
        [
            Message(key, encode_json(**block)) if n % 2 else Message(b"g", encode_frame([packed(**sent[n])]))
            for n, (key, block) in enumerate(zip(keys, exact, strict=True))
        ],
    ):
        other = decoded(*make)
        assert not other.bad
        assert columns(other) == columns(as_json)
    assert [one.records for one in as_json.columns] == [
        [n for n, block in enumerate(sent) if (block["pipeline"] or "ecg") == one.pipeline.name]
        for one in as_json.columns
    ]


@given(samples=st.lists(st.floats(-9.9e149, 9.9e149), min_size=1, max_size=50))
def test_doubles_arrive_exactly(samples):
    x = np.array(samples)
    for value in (encode_json("s", x, 0), encode_msgpack(packed("s", x, 0))):
        (own,) = decoded(Message(b"s", value)).columns
        assert own.values.tobytes() == x.tobytes()


def test_what_plain_encoders_send():
    """Spaces, another order, unknown fields, integers for samples: as any language's JSON library writes them."""
    block = {"extra": {"a": [1, {}]}, "timestamp": 5, "samples": [1, -2, 3.5], "sensorId": "s", "seq": None}
    given_rate = {**block, "sampleRate": 250, "channels": 1}
    for value in (
        json.dumps(block, indent=2).encode(),
        b" \r\n\t" + json.dumps(given_rate).encode() + b"\n",
        msgspec.msgpack.encode(block),
        msgspec.msgpack.encode(given_rate),
    ):
        (own,) = decoded(Message(b"s", value)).columns
        assert (own.sensor_ids, own.timestamps, own.seqs) == (["s"], [5], [None])
        np.testing.assert_array_equal(own.values, [1, -2, 3.5])


def test_maps_and_frames_of_any_length():
    """MessagePack has three ways to begin a map; a frame may carry more than its blocks."""
    block = {"sensorId": "s", "samples": [1.0], "timestamp": 5}
    body = msgspec.msgpack.encode(block)[1:]
    wide = {**block, **{f"x{n}": n for n in range(20)}}
    frame = msgspec.msgpack.encode({"gateway": "g", "sent": 7, "blocks": [block, block]})
    for value, count in (
        (b"\x83" + body, 1),
        (b"\xde\x00\x03" + body, 1),
        (b"\xdf\x00\x00\x00\x03" + body, 1),
        (msgspec.msgpack.encode(wide), 1),
        (frame, 2),
        (msgspec.msgpack.encode({"blocks": [block] * 100}), 100),
    ):
        of = decoded(Message(b"s", value))
        assert not of.bad
        assert of.columns[0].sensor_ids == ["s"] * count


def test_an_empty_stream_id_is_none():
    block = {"sensorId": "s", "samples": [1.0], "timestamp": 5, "stream": ""}
    for value in (json.dumps(block).encode(), msgspec.msgpack.encode(block)):
        assert decoded(Message(b"s", value)).columns[0].streams == [None]


def test_the_longest_block_and_id_pass():
    name, samples = "ä" * 128, np.ones(65_536, dtype=np.float32)
    of = decoded(
        Message(name.encode(), encode_json(name, samples.astype(float), 2**53, seq=2**53, stream="ä" * 32)),
        Message(name.encode(), encode_msgpack(packed(name, samples, 0))),
    )
    assert not of.bad
    assert of.columns[0].bounds == [0, 65_536, 131_072]


def test_an_empty_batch_holds_nothing():
    assert decoded() == ([], [])


@given(sent=st.lists(blocks(), min_size=1, max_size=8), data=st.data())
def test_columns_of_just_some_blocks(sent, data):
    frame = encode_frame(packed(**{**block, "pipeline": None}) for block in sent)
    (whole,) = decoded(Message(b"g", frame)).columns
    numbers = sorted(data.draw(st.sets(st.integers(0, len(sent) - 1))))
    some, others = whole.only(numbers), whole.without(set(range(len(sent))) - set(numbers))
    for own in (some, others):
        assert rows(own) == [rows(whole)[number] for number in numbers]
        assert own.records == [0] * len(numbers)
        assert len(own.samples) == len(numbers)
