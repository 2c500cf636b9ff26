"""What a dead letter's bytes are, decoded as far as they can be."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from app.dsp.pipeline import Pipeline
from app.wire.decode import decode

SHOWN_ITEMS = 8
"""Items of a list, or samples, that are shown."""

SHOWN_TEXT = 300
"""Characters of a text that are shown."""

SHOWN_BYTES = 32

LARGEST_SHOWN = 1e18
"""Numbers beyond, and those that are not finite, are shown as text: JSON's readers have no such numbers."""

DEPTH = 6
"""Levels of nesting that are shown."""

#: Of bytes that are not JSON or MessagePack: a string that is not UTF-8, nesting without end, a number too long.
_MALFORMED = (msgspec.DecodeError, ValueError, RecursionError)


class Block(msgspec.Struct, omit_defaults=True):
    """A block of the message, and what this release says of it.

    Attributes
    ----------
    number
        Its place in the message, from 1.
    fields
        What it holds, long values cut short.
    reason, detail
        Why it would be refused now; empty where it would not be.
    """

    number: int
    fields: Any
    reason: str = ""
    detail: str = ""


class Contents(msgspec.Struct):
    """A message's bytes, decoded.

    Attributes
    ----------
    kind
        `JSON`, `MessagePack`, `frame`, `nothing`, or `bytes` where it is none of these.
    blocks
        Its blocks; one, unless it is a frame.
    """

    kind: str
    blocks: list[Block]


@dataclass
class _Record:
    offset: int
    key: bytes | None
    value: bytes | None


class _Frame(msgspec.Struct):
    blocks: list[msgspec.Raw]


def contents(key: bytes | None, value: bytes | None, pipelines: Mapping[str, Pipeline], default: str) -> Contents:
    """Decode a message's bytes as far as possible.

    Parameters
    ----------
    key, value
        Of the message.
    pipelines, default
        As for `app.wire.decode.decode`: the blocks are checked as a worker of this release would check them.
    """
    if not value:
        return Contents("nothing", [])
    try:
        frame = msgspec.msgpack.decode(value, type=_Frame)
    except _MALFORMED:
        pass
    else:
        blocks = [_block(number, bytes(raw), pipelines, default) for number, raw in enumerate(frame.blocks, 1)]
        if not key and blocks:
            # What concerns the whole frame is said of its first block.
            blocks[0] = _checked(1, blocks[0].fields, key, value, pipelines, default)
        return Contents("frame", blocks)
    kind, fields = _any_object(value)
    return Contents(kind, [] if fields is None else [_checked(1, fields, key, value, pipelines, default)])


def _any_object(value: bytes) -> tuple[str, Any]:
    for kind, parse in (("JSON", json.loads), ("MessagePack", msgspec.msgpack.decode)):
        try:
            fields = parse(value)
        except _MALFORMED:
            continue
        if isinstance(fields, dict):
            return kind, fields
    return "bytes", None


def _block(number: int, raw: bytes, pipelines: Mapping[str, Pipeline], default: str) -> Block:
    try:
        fields = msgspec.msgpack.decode(raw)
    except _MALFORMED:
        fields = raw
    sensor_id = fields.get("sensorId") if isinstance(fields, dict) else None
    # In a frame the sensor id stands in for the key.
    key = sensor_id.encode() if isinstance(sensor_id, str) else None
    return _checked(number, fields, key, raw, pipelines, default)


def _checked(
    number: int,
    fields: Any,
    key: bytes | None,
    value: bytes,
    pipelines: Mapping[str, Pipeline],
    default: str,
) -> Block:
    bad = decode([_Record(0, key, value)], pipelines, default).bad
    return Block(number, shown(_with_samples(fields)), *((str(bad[0].reason), _short(bad[0].detail)) if bad else ()))


def _with_samples(fields: Any) -> Any:
    """Give the fields with packed samples as numbers."""
    samples = fields.get("samples") if isinstance(fields, dict) else None
    if isinstance(samples, bytes) and len(samples) % 4 == 0:
        return {**fields, "samples": np.frombuffer(samples, "<f4").tolist()}
    return fields


def shown(value: Any, depth: int = 0) -> Any:
    """Make a decoded value fit to be shown: short, and with nothing that JSON has not."""
    if isinstance(value, dict) and depth < DEPTH:
        items = list(value.items())
        named = {_short(str(key)): shown(item, depth + 1) for key, item in items[:SHOWN_ITEMS]}
        return named | ({"…": f"{len(items):,} in all"} if len(items) > SHOWN_ITEMS else {})
    if isinstance(value, list) and depth < DEPTH:
        listed = [shown(item, depth + 1) for item in value[:SHOWN_ITEMS]]
        return listed + ([f"… {len(value):,} in all"] if len(value) > SHOWN_ITEMS else [])
    if isinstance(value, bytes):
        return f"{len(value):,} bytes {value[:SHOWN_BYTES].hex(' ')}" + ("…" if len(value) > SHOWN_BYTES else "")
    if value is None or isinstance(value, bool) or (isinstance(value, int | float) and abs(value) < LARGEST_SHOWN):
        return value
    return _short(str(value))


def _short(text: str) -> str:
    return text if len(text) <= SHOWN_TEXT else f"{text[:SHOWN_TEXT]}… ({len(text):,} characters)"


def hex_dump(value: bytes, limit: int) -> str:
    """Dump the first bytes as offsets, hexadecimal numbers and ASCII characters, 16 a line."""
    lines = []
    for start in range(0, min(len(value), limit), 16):
        row = value[start : start + 16]
        text = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in row)
        lines.append(f"{start:08x}  {row.hex(' '):<47}  {text}")
    if len(value) > limit:
        lines.append(f"… {len(value):,} bytes in all")
    return "\n".join(lines)
