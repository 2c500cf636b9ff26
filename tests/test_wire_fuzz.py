"""Whatever bytes a message holds, it is taken or refused, and its neighbours do not notice."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.wire.blocks import encode_frame, encode_json, encode_msgpack, packed
from tests.decoding import Message, columns, decoded, good, rows

GOOD_BLOCK = {"sensorId": "s", "samples": [0.5], "timestamp": 1}


def only_itself(value: bytes, key: bytes = b"s") -> None:
    """Check that a message, whatever it is, is taken or refused, with no effect on its neighbours."""
    of = decoded(good(0), Message(key, value), good(1))
    assert all(bad.record == 1 and bad.detail for bad in of.bad)
    mine = [one.records.count(1) for one in of.columns]
    neighbours = [
        row
        for one in of.columns
        for record, row in zip(one.records, rows(one), strict=True)
        if record != 1 and one.pipeline.name == "ecg"
    ]
    assert neighbours == columns(decoded(good(0), good(1)))["ecg"]
    assert all(np.isfinite(one.values).all() for one in of.columns)
    assert sum(mine) or of.bad or b"blocks" in value


@given(st.binary(max_size=300))
@settings(max_examples=300)
def test_any_bytes(data):
    only_itself(data)
    for start in (b"{", b'{"sensorId":"', b"\x83", b"\x81\xa6blocks", b"\x83\xa8sensorId", b"\xdf\xff\xff\xff\xff"):
        only_itself(start + data)


WHOLE = [
    encode_json("s", np.array([0.25, -1e-9, 3e8]), 1_700_000_000_000, seq=7, pipeline="ecg"),
    encode_msgpack(packed("s", np.array([0.25, -1e-9]), 1_700_000_000_000, seq=7)),
    encode_msgpack(packed("s", np.array([0.25, -1e-9], dtype=np.float32), 5, pipeline="ecg")),
    encode_frame([packed("s", np.array([0.25], dtype=np.float32), 5), packed("t", np.array([0.5]), 5, seq=3)]),
]


@given(data=st.data())
@settings(max_examples=400)
def test_mutated_messages(data):
    value = bytearray(data.draw(st.sampled_from(WHOLE)))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(value) - 1))
        kind = data.draw(st.sampled_from(["change", "cut", "insert", "repeat"]))
        if kind == "change":
            value[at] = data.draw(st.integers(0, 255))
        elif kind == "cut":
            del value[at : at + data.draw(st.integers(1, 9))]
        elif kind == "insert":
            value[at:at] = data.draw(st.binary(min_size=1, max_size=6))
        else:
            value[at:at] = value[at : at + 20]
        if not value:
            break
    only_itself(bytes(value))


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats()
    | st.text(st.characters(codec="utf-8"), max_size=8)
    | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
fields = ["sensorId", "samples", "timestamp", "seq", "sampleRate", "channels", "pipeline", "stream", "blocks", "other"]


@given(block=st.dictionaries(st.sampled_from(fields), anything), framed=st.booleans())
@settings(max_examples=300)
def test_any_values_in_the_fields(block, framed):
    whole = {**GOOD_BLOCK, **block}
    value: Any = {"blocks": [whole, block, GOOD_BLOCK]} if framed else whole
    only_itself(msgspec.msgpack.encode(value))
    only_itself(json.dumps(value, default=lambda data: data.hex()).encode())


@pytest.mark.parametrize(
    "value",
    [
        b'{"a":' + b"[" * 100_000,
        b'{"sensorId":"s","samples":[1],"timestamp":1,"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b"\x84\xa8sensorId\xa1s\xa7samples\x91\x01\xa9timestamp\x01\xa1x" + b"\x91" * 100_000 + b"\xc0",
        b"\x81\xa6blocks\x91\x84\xa8sensorId\xa1s\xa7samples\x91\x01\xa9timestamp\x01\xa1x"
        + b"\x91" * 100_000
        + b"\xc0",
        b"\x81\xa6blocks" + b"\x91" * 100_000 + b"\xc0",
        b"\x81\xa6blocks\xdd\xff\xff\xff\xff",
        b"\x83\xa8sensorId\xa1s\xa7samples\xdd\xff\xff\xff\xff",
        b"\x83\xa8sensorId\xa1s\xa7samples\xc6\xff\xff\xff\xff",
        b'{"sensorId":"s","samples":[1' + b"0" * 10_000 + b'],"timestamp":1}',
        b'{"sensorId":"s","samples":[1],"timestamp":1' + b"0" * 10_000 + b"}",
        b'{"sensorId":"\\ud800","samples":[1],"timestamp":1}',
        b"\x83\xa8sensorId\xa3\xed\xa0\x80\xa7samples\x91\x01\xa9timestamp\x01",
        '{"sensorId":"s","samples":[NaN]}'.encode("utf-16-le"),
    ],
    ids=lambda value: str(value[:20]),
)
def test_what_breaks_parsers(value):
    of = decoded(good(0), Message(b"s", value), good(1))
    assert [bad.record for bad in of.bad] == [1]
    assert columns(of) == columns(decoded(good(0), good(1)))
