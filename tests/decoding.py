"""Decoding by hand: a batch of messages in, columns of blocks out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from app.pipelines import shipped_pipelines
from app.wire.blocks import encode_frame, encode_json, encode_msgpack, packed
from app.wire.decode import BlockColumns, Decoded, decode
from tests.feeding import two_channels

PIPELINES = {**shipped_pipelines(), "two-channels": two_channels()}


@dataclass
class Message:
    key: bytes | None
    value: bytes | None
    offset: int = 0


def decoded(*messages: Message) -> Decoded:
    return decode(messages, PIPELINES, "ecg")


def columns(of: Decoded) -> dict[str, list[tuple[Any, ...]]]:
    """Give the blocks of each pipeline as rows, but for the records they came in."""
    return {one.pipeline.name: rows(one) for one in of.columns}


def rows(of: BlockColumns) -> list[tuple[Any, ...]]:
    assert of.bounds[-1] == len(of.values)
    assert of.values.dtype == np.float64
    ends = zip(of.bounds, of.bounds[1:], strict=False)
    values = [of.values[start:end].tobytes() for start, end in ends]
    return list(zip(of.sensor_ids, of.timestamps, of.seqs, of.streams, values, strict=True))


def good(n: int) -> Message:
    samples = np.arange(1.0, 4.0) + n
    if n % 3 == 2:
        return Message(b"gateway", encode_frame(packed(f"f{n}-{k}", samples, n) for k in range(2)))
    if n % 3:
        return Message(f"m{n}".encode(), encode_msgpack(packed(f"m{n}", samples.astype(np.float32), n)))
    return Message(f"j{n}".encode(), encode_json(f"j{n}", samples, n))
