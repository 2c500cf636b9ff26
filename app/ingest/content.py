"""From the bytes of a request or an MQTT message to the bytes of each block in it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from app.wire.parse import parse, parse_with_missing
from app.wire.reasons import Reason, Rejected

MAX_BLOCKS = 1000
"""Blocks that one request may hold."""

LARGE_BLOCK = 512 << 10
"""Bytes of a block from which it is written anew as MessagePack: any sound one then fits into a Kafka message."""

_JSON_LIST, _JSON_OBJECT, _JSON_SPACE = b"[", b"{", b" \t\r\n"

_MALFORMED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class _Envelope(msgspec.Struct):
    """A map that holds many blocks, or is one itself."""

    blocks: list[msgspec.Raw] | None = None


class Identity(msgspec.Struct, rename="camel"):
    """What must be known of a block before it can be checked: whose it is, and what it is to be run by."""

    sensor_id: str
    pipeline: str | None = None
    blocks: msgspec.Raw | None = None
    """Of a frame; there are none inside frames and lists."""


_json_list = msgspec.json.Decoder(list[msgspec.Raw])
_json_envelope = msgspec.json.Decoder(_Envelope)
_json_identity = msgspec.json.Decoder(Identity)
_packed_list = msgspec.msgpack.Decoder(list[msgspec.Raw])
_packed_envelope = msgspec.msgpack.Decoder(_Envelope)
_packed_identity = msgspec.msgpack.Decoder(Identity)


def split(content: bytes) -> list[bytes]:
    """Give the bytes of each block: of one block, of a list of blocks, or of a map ``{"blocks": [...]}``.

    Raises
    ------
    Rejected
        It is neither JSON nor MessagePack, or holds no block.
    """
    start = content.lstrip(_JSON_SPACE)[:1]
    if not start:
        raise Rejected(Reason.MALFORMED, "empty message: expected a JSON or MessagePack block, or a list of blocks")
    try:
        if start == _JSON_LIST:
            found: Sequence[msgspec.Raw] | None = _json_list.decode(content)
        elif 0x90 <= start[0] <= 0x9F or start[0] in {0xDC, 0xDD}:
            found = _packed_list.decode(content)
        else:
            found = (_json_envelope if start == _JSON_OBJECT else _packed_envelope).decode(content).blocks
    except msgspec.ValidationError as error:
        if start == _JSON_LIST or "blocks" in str(error):
            raise Rejected(Reason.WRONG_TYPE, str(error)) from None
        found = None
    except _MALFORMED as error:
        if start != _JSON_OBJECT and start[0] < 0x90:
            raise Rejected(Reason.MALFORMED, f"not JSON: {error}") from None
        # One block, as far as can be seen: what is wrong with it, or whether NaN stands for what is missing, is
        # told where blocks are looked at.
        found = None
    if found is None:
        return [content]
    if not found:
        raise Rejected(Reason.EMPTY_SAMPLES, "no blocks: expected at least one")
    return [bytes(block) for block in found]


def identify(value: bytes) -> Identity | None:
    """Say whose a block is; None where that cannot be read, so that the block is not sound either."""
    is_json = value.lstrip(_JSON_SPACE)[:1] == _JSON_OBJECT
    try:
        found = (_json_identity if is_json else _packed_identity).decode(value)
    except _MALFORMED:
        block = parse_with_missing(value) if value else None
        return None if block is None else Identity(block.sensor_id, block.pipeline)
    return found if found.blocks is None else None


def as_message(value: bytes) -> bytes:
    """Give a sound block's bytes as they travel: its own, or where they are many, the block as MessagePack."""
    return value if len(value) <= LARGE_BLOCK else as_packed(value)


def as_packed(value: bytes) -> bytes:
    """Give a sound block as MessagePack, every sample exactly."""
    if value.lstrip(_JSON_SPACE)[:1] != _JSON_OBJECT and len(value) <= LARGE_BLOCK:
        return value
    try:
        block = parse(value)
    except Rejected:  # samples are missing, and its pipeline repairs them
        return msgspec.msgpack.encode(parse_with_missing(value))
    return msgspec.msgpack.encode(block)
