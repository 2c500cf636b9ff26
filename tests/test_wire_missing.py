"""Samples that are no finite numbers: taken where the pipeline repairs them, refused elsewhere, and nothing else is."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.dsp.pipeline_file import parse_pipeline
from app.wire.blocks import encode_frame, encode_msgpack, packed
from app.wire.decode import Decoded, decode
from app.wire.reasons import Reason
from tests.bad_messages import BAD_MESSAGES
from tests.decoding import PIPELINES, Message, columns, good
from tests.feeding import TWO_CHANNELS

MENDING = {
    f"mending-{channels}": parse_pipeline(
        f'name="mending-{channels}"\nsample_rate=250\nchannels={channels}\nnon_finite="hold"\n'
        '[[stages]]\ntype="moving_rms"\nwindow=5\n[features]\nrms="moving_rms"',
        "mending.toml",
    )
    for channels in (1, 2)
}
NAN, INF = float("nan"), float("inf")


def mended(*messages: Message) -> Decoded:
    """Decode with a default pipeline that repairs."""
    return decode(messages, {**PIPELINES, **MENDING}, "mending-1")


def as_json(samples: list[Any], **more: Any) -> bytes:
    return json.dumps({"sensorId": "s", "samples": samples, "timestamp": 5, **more}).encode()


def as_msgpack(samples: Any, **more: Any) -> bytes:
    return msgspec.msgpack.encode({"sensorId": "s", "samples": samples, "timestamp": 5, **more})


def framed(samples: Any, **more: Any) -> bytes:
    good_one = {"sensorId": "other", "samples": [1.0], "timestamp": 5}
    own = {"sensorId": "s", "samples": samples, "timestamp": 5, **more}
    return msgspec.msgpack.encode({"blocks": [own, good_one]})


samples = st.lists(
    st.none() | st.just(NAN) | st.just(INF) | st.just(-INF) | st.floats(-1e6, 1e6) | st.integers(-9, 9), min_size=1
)


@pytest.mark.parametrize("encode", [as_json, as_msgpack, framed])
@given(samples=samples)
def test_all_are_taken_where_they_are_repaired(encode, samples):
    of = mended(Message(b"s", encode(samples, seq=7, stream="x")))
    assert not of.bad
    (own,) = of.columns
    assert (own.sensor_ids[0], own.timestamps[0], own.seqs[0], own.streams[0]) == ("s", 5, 7, "x")
    expected = [NAN if sample is None else sample for sample in samples]
    np.testing.assert_array_equal(own.values[: own.bounds[1]], np.array(expected, dtype=float))


def test_single_precision_too():
    x = np.array([1.5, np.nan, -np.inf], dtype=np.float32)
    of = mended(Message(b"s", encode_msgpack(packed("s", x, 0))))
    assert not of.bad
    np.testing.assert_array_equal(of.columns[0].values, x)


@pytest.mark.parametrize("encode", [as_json, as_msgpack, framed])
@pytest.mark.parametrize("odd", [NAN, INF, -INF, None])
def test_they_are_refused_where_the_pipeline_does_not_repair(encode, odd):
    """Also while another pipeline does; with the reasons that they have when none does."""
    message = Message(b"s", encode([0.5, odd], pipeline="ecg"))
    of = mended(message)
    assert [one.sensor_ids for one in of.columns] == ([["other"]] if encode is framed else [])
    assert of.bad == decode([message], PIPELINES, "ecg").bad
    assert [bad.reason for bad in of.bad] == [Reason.WRONG_TYPE if odd is None else Reason.NON_FINITE]


@pytest.mark.parametrize(
    ("reason", "value"),
    [
        (Reason.OUT_OF_RANGE, as_json([NAN, 1e150])),
        (Reason.OUT_OF_RANGE, as_json([1.0, 1e200])),
        (Reason.WRONG_TYPE, as_json([None, "0.5"])),
        (Reason.NON_FINITE, as_json([NAN, "0.5"])),
        (Reason.NON_FINITE, as_json([NAN], timestamp=None)),
        (Reason.NON_FINITE, as_json([1.0], timestamp=NAN)),
        (Reason.NON_FINITE, as_json([NAN, True])),
        (Reason.NON_FINITE, as_json([NAN, 10**400])),
        (Reason.WRONG_TYPE, as_json([None], seq=1.5)),
        (Reason.WRONG_TYPE, as_msgpack([None, [1.0]])),
        (Reason.WRONG_TYPE, as_msgpack(None)),
        (Reason.WRONG_CHANNELS, as_json([NAN], pipeline="mending-2")),
        (Reason.UNKNOWN_PIPELINE, as_msgpack([NAN], pipeline="nonesuch")),
        (Reason.WRONG_RATE, as_json([NAN], sampleRate=360)),
        (Reason.NON_FINITE, '{"sensorId":"s","samples":[NaN],"timestamp":5}'.encode("utf-16-le")),
    ],
)
def test_nothing_else_is_taken(reason, value):
    of = mended(good(0), Message(b"s", value), good(1))
    reasons = [bad.reason for bad in of.bad]
    assert len(reasons) == 1
    assert reasons[0] in (reason, Reason.MALFORMED), "msgspec may stumble over another fault first"
    assert sum(len(one.sensor_ids) for one in of.columns) == 2


SHORT = [(reason, Message(key, value)) for reason, key, value in BAD_MESSAGES if len(value or b"") < 1000]


@pytest.mark.parametrize(("reason", "message"), SHORT, ids=range(len(SHORT)))
def test_all_other_bad_messages_are_refused_as_ever(reason, message):
    missing = reason is Reason.NON_FINITE or (message.value and b"null" in message.value)
    assert [bad.reason for bad in mended(message).bad] == ([] if missing else [reason])


@given(st.binary(max_size=200))
@settings(max_examples=300)
def test_any_bytes(data):
    starts = (
        b"",
        b'{"samples":[NaN],',
        b'{"sensorId":"s","samples":[null',
        b"\x83\xa7samples\x91\xc0",
        b"\x81\xa6blocks",
    )
    for start in starts:
        of = mended(good(0), Message(b"s", start + data), good(1))
        assert all(bad.record == 1 and bad.detail for bad in of.bad)
        neighbours = columns(mended(good(0), good(1)))["mending-1"]
        assert [row for row in columns(of)["mending-1"] if row[0] != "s"] == neighbours


def test_the_first_fault_of_each_block_is_named():
    pipeline = parse_pipeline(TWO_CHANNELS, "t")
    blocks = [packed("a", np.array([1, 2.0]), 0), packed("b", np.array([1, 1e200, np.nan, 2]), 0)]
    blocks += [packed("c", np.array([3, 4.0]), 0), packed("d", np.array([np.inf, 2]), 0)]
    of = decode([Message(b"g", encode_frame(blocks))], {"two-channels": pipeline}, "two-channels")
    assert of.columns[0].sensor_ids == ["a", "c"]
    assert of.columns[0].values.tolist() == [1, 2, 3, 4]
    assert [(bad.reason, bad.detail) for bad in of.bad] == [
        (Reason.OUT_OF_RANGE, "sensor 'b': samples[1] = 1e+200: expected a finite number within ±1e+150"),
        (Reason.NON_FINITE, "sensor 'd': samples[0] = inf: expected a finite number within ±1e+150"),
    ]


@pytest.mark.parametrize("field", ["sensorId", "stream", "pipeline"])
def test_half_a_surrogate_pair_is_no_text(field):
    """Python's parser, which is asked where samples are missing, takes it; nothing could encode it again."""
    rest = {name: value for name, value in {"sensorId": "s", "timestamp": 5}.items() if name != field}
    value = json.dumps({"samples": [None], **rest, field: "\ud800"}).encode()
    (bad,) = mended(Message(b"s", value)).bad
    assert bad.reason is Reason.WRONG_TYPE


@pytest.mark.parametrize("sensor_id", ["", "x" * 257])
def test_nobody_is_asked_of_a_sensor_that_cannot_be(sensor_id):
    """Its id makes no key of Redis's, and whoever asked with it would come to grief, at every reading again."""
    asked: list[str] = []
    messages = [Message(sensor_id.encode(), as_json([NAN], sensorId=sensor_id)), good(0)]
    of = decode(messages, {**PIPELINES, **MENDING}, lambda id_: (asked.append(id_), "mending-1")[1])
    assert [bad.reason for bad in of.bad] == [Reason.NON_FINITE]
    assert asked == of.columns[0].sensor_ids
