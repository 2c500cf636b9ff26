"""Bad input: each message has its reason, and no effect on any other."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.wire.blocks import encode_frame, encode_json
from app.wire.decode import BadInput
from app.wire.reasons import Reason
from tests.bad_messages import BAD_MESSAGES
from tests.decoding import Message, columns, decoded, good

BAD = [(reason, Message(key, value)) for reason, key, value in BAD_MESSAGES]


@pytest.mark.parametrize(("reason", "message"), BAD, ids=[f"{n}-{bad[0]}" for n, bad in enumerate(BAD)])
def test_every_bad_message_has_its_reason(reason, message):
    of = decoded(message)
    assert not of.columns
    assert [(bad.record, bad.reason) for bad in of.bad] == [(0, reason)]
    assert of.bad[0].detail


def test_every_reason_is_met():
    """But for the one that the sensor's state gives, which decoding does not know."""
    assert {reason for reason, _ in BAD} == set(Reason) - {Reason.UNUSABLE_STATE}


SHORT = [(reason, message) for reason, message in BAD if len(message.value or b"") < 1000]


@given(kinds=st.lists(st.none() | st.sampled_from(SHORT), min_size=1, max_size=25))
def test_bad_messages_have_no_effect_on_others(kinds):
    batch = [good(n) if kind is None else kind[1] for n, kind in enumerate(kinds)]
    of = decoded(*batch)
    assert [(bad.record, bad.reason) for bad in of.bad] == [(n, kind[0]) for n, kind in enumerate(kinds) if kind]
    alone = decoded(*(good(n) for n, kind in enumerate(kinds) if kind is None))
    assert columns(of) == columns(alone)
    sound = [n for n, kind in enumerate(kinds) if kind is None]
    for mixed, pure in zip(of.columns, alone.columns, strict=True):
        assert mixed.records == [sound[record] for record in pure.records]


GOOD_BLOCK = {"sensorId": "s", "samples": [0.5], "timestamp": 1}
BAD_BLOCKS: list[tuple[Reason, Any]] = [
    (Reason.WRONG_TYPE, 5),
    (Reason.WRONG_TYPE, None),
    (Reason.MISSING_FIELD, {}),
    (Reason.WRONG_TYPE, {**GOOD_BLOCK, "samples": "x"}),
    (Reason.WRONG_TYPE, {**GOOD_BLOCK, "samples": b"123"}),
    (Reason.OUT_OF_RANGE, {**GOOD_BLOCK, "timestamp": -1}),
    (Reason.EMPTY_SAMPLES, {**GOOD_BLOCK, "samples": []}),
    (Reason.NON_FINITE, {**GOOD_BLOCK, "samples": [float("nan")]}),
    (Reason.NON_FINITE, {**GOOD_BLOCK, "samples": np.array([1, np.inf], dtype="<f4").tobytes()}),
    (Reason.OUT_OF_RANGE, {**GOOD_BLOCK, "samples": [1e150]}),
    (Reason.BAD_SENSOR_ID, {**GOOD_BLOCK, "sensorId": ""}),
    (Reason.BAD_SENSOR_ID, {**GOOD_BLOCK, "sensorId": "x" * 257}),
    (Reason.WRONG_RATE, {**GOOD_BLOCK, "sampleRate": 100}),
    (Reason.WRONG_CHANNELS, {**GOOD_BLOCK, "channels": 3}),
    (Reason.WRONG_CHANNELS, {**GOOD_BLOCK, "pipeline": "two-channels"}),
    (Reason.UNKNOWN_PIPELINE, {**GOOD_BLOCK, "pipeline": "eeg"}),
]


@given(kinds=st.lists(st.none() | st.sampled_from(BAD_BLOCKS), min_size=1, max_size=12))
def test_bad_blocks_have_no_effect_on_the_others_of_their_frame(kinds):
    framed = [{**GOOD_BLOCK, "seq": n} if kind is None else kind[1] for n, kind in enumerate(kinds)]
    of = decoded(Message(b"gateway", msgspec.msgpack.encode({"blocks": framed})), good(0))
    sound = [n for n, kind in enumerate(kinds) if kind is None]
    assert of.columns[0].seqs == [*sound, None]
    assert of.columns[0].records == [0] * len(sound) + [1]
    reasons = [kind[0] for kind in kinds if kind]
    assert {(bad.record, bad.reason) for bad in of.bad} == {(0, reason) for reason in reasons}
    for bad in of.bad:
        count = reasons.count(bad.reason)
        assert bad.detail.endswith(f" (and {count - 1} more)") == (count > 1)


def test_a_frame_of_nothing_but_bad_blocks_is_one_dead_letter():
    """Each letter holds the frame: one for every block would be the square of what came in."""
    frame = msgspec.msgpack.encode({"blocks": [7] * 10_000})
    of = decoded(Message(b"gateway", frame))
    detail = "block 1 of 10000 in the frame: Expected `object`, got `int` (and 9999 more)"
    assert of.bad == [BadInput(0, Reason.WRONG_TYPE, detail)]


@pytest.mark.parametrize(
    ("key", "value", "detail"),
    [
        (b"s", b"", "empty message: expected a JSON or MessagePack block"),
        (b"s", b"\x00", "first byte 0x00: expected a JSON object or a MessagePack map"),
        (b"s", b'{"sensorId"', "not JSON: Input data was truncated"),
        (b"s", b'{"sensorId":"\xff"}', "not JSON: 'utf-8' codec can't decode byte 0xff"),
        (b"s", b"\x81\xa8sensorId\xa1\xff", "not MessagePack: 'utf-8' codec can't decode byte 0xff"),
        (b"s", b'{"samples":[-Infinity]}', "-Infinity is not JSON: expected finite numbers"),
        (b"t", encode_json("s", np.ones(1), 0), "key b't': expected the sensorId, 's'"),
        (b"", encode_frame([]), "frame without a key: expected the gateway's id"),
        (b"gateway", encode_frame([]), "frame without blocks: expected at least one"),
        (b"s", json.dumps({**GOOD_BLOCK, "samples": []}).encode(), "samples is empty: expected at least one"),
        (b"s", encode_json("s", np.ones(65_537), 0), "65537 samples: expected at most 65536"),
        (
            b"s",
            encode_json("s", np.array([1, 1e150]), 0),
            "samples[1] = 1e+150: expected a finite number within ±1e+150",
        ),
        (b"s", json.dumps({**GOOD_BLOCK, "sampleRate": 360}).encode(), "sampleRate 360.0: pipeline ecg takes 250.0 Hz"),
        (b"s", encode_json("s", np.ones(1), 0, stream="x" * 65), "stream of 65 bytes: expected at most 64"),
        (b"s", json.dumps({**GOOD_BLOCK, "channels": 2}).encode(), "channels 2: pipeline ecg takes 1"),
        (b"s", encode_json("s", np.ones(3), 0, pipeline="two-channels"), "3 values: expected a multiple of 2 channels"),
        (
            b"s",
            json.dumps({**GOOD_BLOCK, "pipeline": "eeg"}).encode(),
            "pipeline 'eeg': expected one of audio-mfcc, ",
        ),
        (b"s", msgspec.msgpack.encode({**GOOD_BLOCK, "samples": b"12345"}), "samples of 5 bytes: expected float32"),
        (b"s", json.dumps({**GOOD_BLOCK, "timestamp": 2**53 + 1}).encode(), "Expected `int` <= 9007199254740992"),
    ],
)
def test_details_say_what_was_found_and_what_was_expected(key, value, detail):
    (bad,) = decoded(Message(key, value)).bad
    assert detail in bad.detail
