"""Sensor blocks as messages: what a device, a gateway or `continuum replay` puts on a sensor topic.

A block is one JSON object or one MessagePack map; a frame is a MessagePack map of many sensors' blocks. The
first byte tells them apart: no JSON text begins with a byte that begins a MessagePack map.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated

import msgspec
import numpy as np
from numpy.typing import NDArray

MAX_SAMPLES = 65_536
"""Values a block may hold, all channels together."""

MAX_SENSOR_ID = 256
"""Bytes a sensor id may hold in UTF-8."""

MAX_STREAM = 64
"""Bytes a stream id may hold in UTF-8."""

#: Whole numbers beyond 2**53 do not survive a JSON reader that has only doubles.
WholeNumber = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class JsonBlock(msgspec.Struct, omit_defaults=True, rename="camel"):
    """One sensor's block, as JSON.

    Attributes
    ----------
    sensor_id
        Name of the sensor, also the message's key.
    samples
        Values in the sensor's unit; several channels are interleaved.
    timestamp
        Time of the first sample, ms since the epoch.
    seq
        Index of the first sample since the stream began, counted per channel.
    sample_rate
        Hz.
    channels
        Number of interleaved channels.
    pipeline
        Name of the pipeline to run; without it the tier's own.
    stream
        Id of the stream, new whenever the device begins anew.
    """

    sensor_id: str
    samples: list[float]
    timestamp: WholeNumber
    seq: WholeNumber | None = None
    sample_rate: float | None = None
    channels: int | None = None
    pipeline: str | None = None
    stream: str | None = None


class PackedBlock(msgspec.Struct, omit_defaults=True, rename="camel"):
    """One sensor's block, as MessagePack; `samples` may be little-endian float32 bytes."""

    sensor_id: str
    samples: memoryview | list[float]
    timestamp: WholeNumber
    seq: WholeNumber | None = None
    sample_rate: float | None = None
    channels: int | None = None
    pipeline: str | None = None
    stream: str | None = None


Block = JsonBlock | PackedBlock


class Frame(msgspec.Struct):
    """Many sensors' blocks in one message, for gateways."""

    blocks: list[PackedBlock]


_json = msgspec.json.Encoder()
_msgpack = msgspec.msgpack.Encoder()


def encode_json(
    sensor_id: str,
    samples: NDArray[np.floating],
    timestamp: int,
    *,
    seq: int | None = None,
    pipeline: str | None = None,
    stream: str | None = None,
) -> bytes:
    """Encode a block as JSON, every sample exactly."""
    block = JsonBlock(sensor_id, samples.tolist(), timestamp, seq=seq, pipeline=pipeline, stream=stream)
    return _json.encode(block)


def packed(
    sensor_id: str,
    samples: NDArray[np.floating],
    timestamp: int,
    *,
    seq: int | None = None,
    pipeline: str | None = None,
    stream: str | None = None,
) -> PackedBlock:
    """Make a MessagePack block; float32 samples travel as their bytes, others as doubles, both exactly."""
    values: memoryview | list[float]
    if samples.dtype == np.float32:
        values = memoryview(np.ascontiguousarray(samples, dtype="<f4").tobytes())
    else:
        values = samples.tolist()
    return PackedBlock(sensor_id, values, timestamp, seq=seq, pipeline=pipeline, stream=stream)


def encode_msgpack(block: PackedBlock) -> bytes:
    """Encode a block as MessagePack."""
    return _msgpack.encode(block)


def encode_frame(blocks: Sequence[PackedBlock] | Iterable[PackedBlock]) -> bytes:
    """Encode many sensors' blocks as one MessagePack frame."""
    return _msgpack.encode(Frame(list(blocks)))
