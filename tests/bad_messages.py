"""Messages that no worker may take: every kind, with the reason it must be given."""

from __future__ import annotations

import json
import struct
from typing import Any

import msgspec

from app.wire.reasons import Reason

GOOD: dict[str, Any] = {"sensorId": "bad", "samples": [0.1, 0.2], "timestamp": 1_700_000_000_000}


def as_json(**changes: Any) -> bytes:
    return json.dumps({**GOOD, **changes}).encode()


def as_msgpack(**changes: Any) -> bytes:
    return msgspec.msgpack.encode({**GOOD, **changes})


def without(*names: str) -> dict[str, Any]:
    return {name: value for name, value in GOOD.items() if name not in names}


def float32(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


#: Reason, key, value.
BAD_MESSAGES: list[tuple[Reason, bytes | None, bytes | None]] = [
    (Reason.MALFORMED, b"bad", b""),
    (Reason.MALFORMED, b"bad", None),
    (Reason.MALFORMED, b"bad", b"\x00\x01\x02"),
    (Reason.MALFORMED, b"bad", b"hello"),
    (Reason.MALFORMED, b"bad", as_json()[:-5]),
    (Reason.MALFORMED, b"bad", as_msgpack()[:-3]),
    (Reason.MALFORMED, b"bad", as_json() + b"}"),
    (Reason.MALFORMED, b"bad", b"[1, 2]"),
    (Reason.MALFORMED, b"bad", b'{"sensorId": "\xff"}'),
    (Reason.MALFORMED, b"bad", b"[" * 1_040_000),  # as long as a sensor topic takes
    (Reason.KEY_MISMATCH, b"k" * 500_000, as_json()),
    (Reason.MISSING_FIELD, b"bad", json.dumps(without("sensorId")).encode()),
    (Reason.MISSING_FIELD, b"bad", json.dumps(without("samples")).encode()),
    (Reason.MISSING_FIELD, b"bad", json.dumps(without("timestamp")).encode()),
    (Reason.MISSING_FIELD, b"bad", msgspec.msgpack.encode(without("samples"))),
    (Reason.MISSING_FIELD, b"bad", msgspec.msgpack.encode({})),
    (Reason.WRONG_TYPE, b"bad", as_json(sensorId=7)),
    (Reason.WRONG_TYPE, b"bad", as_json(samples="0.1, 0.2")),
    (Reason.WRONG_TYPE, b"bad", as_json(samples=[0.1, "0.2"])),
    (Reason.WRONG_TYPE, b"bad", as_json(samples=[0.1, None])),
    (Reason.WRONG_TYPE, b"bad", as_json(samples=[True])),
    (Reason.WRONG_TYPE, b"bad", as_json(timestamp="now")),
    (Reason.WRONG_TYPE, b"bad", as_json(timestamp=1.5)),
    (Reason.WRONG_TYPE, b"bad", as_json(seq="0")),
    (Reason.WRONG_TYPE, b"bad", as_msgpack(samples=b"\x00\x00\x00")),
    (Reason.OUT_OF_RANGE, b"bad", as_json(timestamp=-1)),
    (Reason.OUT_OF_RANGE, b"bad", as_json(samples=[1e200])),
    (Reason.WRONG_TYPE, b"bad", as_json(stream=7)),
    (Reason.OUT_OF_RANGE, b"bad", as_json(stream="x" * 65)),
    (Reason.OUT_OF_RANGE, b"bad", as_msgpack(stream="é" * 33)),
    (Reason.EMPTY_SAMPLES, b"bad", as_json(samples=[])),
    (Reason.EMPTY_SAMPLES, b"bad", as_msgpack(samples=b"")),
    (Reason.EMPTY_SAMPLES, b"gateway", msgspec.msgpack.encode({"blocks": []})),
    (Reason.TOO_MANY_SAMPLES, b"bad", as_json(samples=[0] * 65_537)),
    (Reason.TOO_MANY_SAMPLES, b"bad", as_msgpack(samples=float32(*[0.0] * 65_537))),
    (Reason.NON_FINITE, b"bad", as_json(samples=[0.1, float("nan")])),
    (Reason.NON_FINITE, b"bad", as_json(samples=[float("inf")])),
    (Reason.NON_FINITE, b"bad", as_json(samples=[float("-inf")])),
    (Reason.NON_FINITE, b"bad", as_msgpack(samples=[0.1, float("nan")])),
    (Reason.NON_FINITE, b"bad", as_msgpack(samples=float32(0.1, float("inf")))),
    (Reason.BAD_SENSOR_ID, b"", as_json(sensorId="")),
    (Reason.BAD_SENSOR_ID, b"x" * 257, as_json(sensorId="x" * 257)),
    (Reason.BAD_SENSOR_ID, ("é" * 129).encode(), as_json(sensorId="é" * 129)),
    (Reason.KEY_MISMATCH, b"another", as_json()),
    (Reason.KEY_MISMATCH, None, as_json()),
    (Reason.KEY_MISMATCH, None, msgspec.msgpack.encode({"blocks": [GOOD]})),
    (Reason.WRONG_RATE, b"bad", as_json(sampleRate=360)),
    (Reason.WRONG_CHANNELS, b"bad", as_json(channels=2)),
    (Reason.UNKNOWN_PIPELINE, b"bad", as_json(pipeline="nonesuch")),
    (Reason.WRONG_RATE, b"gateway", msgspec.msgpack.encode({"blocks": [{**GOOD, "sampleRate": 10}]})),
]
