"""From a message's bytes to its block or frame, or to the reason why it is neither."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from typing import Any, NoReturn

import msgspec

from app.wire.blocks import Block, Frame, JsonBlock, PackedBlock
from app.wire.reasons import Reason, Rejected

_json_block = msgspec.json.Decoder(JsonBlock)
_packed_block = msgspec.msgpack.Decoder(PackedBlock)
_frame = msgspec.msgpack.Decoder(Frame)


class RawFrame(msgspec.Struct):
    """A frame whose blocks are looked at one by one, because not all of them are sound."""

    blocks: list[msgspec.Raw]


_raw_frame = msgspec.msgpack.Decoder(RawFrame)

_JSON_BEGINS = b"{ \t\r\n"

#: What msgspec raises on bytes that are not JSON or MessagePack: a string that is not UTF-8, or nesting without
#: end, is none of its own errors.
_MALFORMED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def parse(value: bytes | None) -> Block | Frame | RawFrame:
    """Parse a message.

    Raises
    ------
    Rejected
        It is neither a block nor a frame.
    """
    if not value:
        raise Rejected(Reason.MALFORMED, "empty message: expected a JSON or MessagePack block")
    first = value[0]
    if first in _JSON_BEGINS:
        return _parse_json(value)
    if 0x80 <= first <= 0x8F or first in {0xDE, 0xDF}:
        if value.startswith(b"\x81\xa6blocks"):
            return _parse_frame(value)
        try:
            return parse_packed(value)
        except Rejected as rejected:
            if rejected.reason is Reason.MISSING_FIELD:
                with suppress(Rejected):
                    return _parse_frame(value)
            raise
    raise Rejected(Reason.MALFORMED, f"first byte 0x{first:02x}: expected a JSON object or a MessagePack map")


def parse_packed(value: bytes | msgspec.Raw) -> PackedBlock:
    """Parse a MessagePack block.

    Raises
    ------
    Rejected
        It is none.
    """
    try:
        return _packed_block.decode(value)
    except msgspec.ValidationError as error:
        raise _rejection(error) from None
    except _MALFORMED as error:
        raise Rejected(Reason.MALFORMED, f"not MessagePack: {error}") from None


def parse_with_missing(value: bytes | msgspec.Raw) -> Block | None:
    """Parse a block among whose samples null, or what JSON does not have, stands for ones that are missing.

    Returns
    -------
    The block, its missing samples NaN; None if it is not sound otherwise.
    """
    raw = bytes(value)
    is_json = raw[0] in _JSON_BEGINS
    with suppress(ValueError, RecursionError):
        # Python's parser takes NaN and Infinity, which no other does.
        fields: Any = json.loads(raw.decode()) if is_json else msgspec.msgpack.decode(raw)
        if isinstance(fields, dict) and isinstance(samples := fields.get("samples"), list):
            fields["samples"] = [math.nan if sample is None else sample for sample in samples]
            block = msgspec.convert(fields, JsonBlock) if is_json else msgspec.convert(fields, PackedBlock)
            for text in (block.sensor_id, block.stream, block.pipeline):
                # Python's parser takes halves of surrogate pairs, which are no text.
                (text or "").encode()
            return block
    return None


def _parse_json(value: bytes) -> JsonBlock:
    try:
        return _json_block.decode(value)
    except msgspec.ValidationError as error:
        raise _rejection(error) from None
    except _MALFORMED as error:
        # JSON has no NaN, but many writers of JSON do.
        with suppress(ValueError, RecursionError):
            json.loads(value, parse_constant=_refuse_constant)
        raise Rejected(Reason.MALFORMED, f"not JSON: {error}") from None


def _refuse_constant(constant: str) -> NoReturn:
    raise Rejected(Reason.NON_FINITE, f"{constant} is not JSON: expected finite numbers")


def _parse_frame(value: bytes) -> Frame | RawFrame:
    try:
        return _frame.decode(value)
    except _MALFORMED:  # also of one bad block: then they are looked at one by one
        pass
    try:
        return _raw_frame.decode(value)
    except msgspec.ValidationError as error:
        raise _rejection(error) from None
    except _MALFORMED as error:
        raise Rejected(Reason.MALFORMED, f"not MessagePack: {error}") from None


def _rejection(error: msgspec.ValidationError) -> Rejected:
    """Tell a validation error's kind by its text, the only place where msgspec gives it."""
    text = str(error)
    if "missing required field" in text:
        return Rejected(Reason.MISSING_FIELD, text)
    if "got `" in text:
        return Rejected(Reason.WRONG_TYPE, text)
    return Rejected(Reason.OUT_OF_RANGE, text)
