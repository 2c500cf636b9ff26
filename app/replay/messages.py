"""The messages of a replay, in sending order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import groupby
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from app.replay.plan import Due, Plan
from app.wire.blocks import PackedBlock, encode_frame, encode_msgpack

#: Samples turned into JSON at a time, so that a day's recording needs no list of all its numbers.
_PART = 1 << 16


class Message(NamedTuple):
    """A message to a sensor topic.

    Attributes
    ----------
    time
        Stream time of the first sample, s since the replay's beginning.
    key
        Id of the sensor, or of the gateway for a frame.
    value
        The block or frame.
    blocks
        How many blocks it holds.
    """

    time: float
    key: bytes
    value: bytes
    blocks: int


class _JsonBlock(msgspec.Struct, omit_defaults=True, rename="camel"):
    """`app.wire.blocks.JsonBlock` with the samples already encoded."""

    sensor_id: str
    samples: msgspec.Raw
    timestamp: int
    seq: int
    sample_rate: float
    channels: int | None = None
    pipeline: str | None = None


def message_source(plan: Plan) -> Callable[[float], Iterator[Message]]:
    """Prepare a plan's messages.

    All sensors play the same samples, so these are encoded once, here; a block then is a slice of them. Encoding
    the numbers of every block anew takes three times as long.

    Returns
    -------
    A function of the time at which the replay begins, ms since the epoch: it gives the messages in sending order,
    with timestamps that follow stream time from there.
    """
    # The samples go on round the recording's end, for the block that lies across it.
    samples = np.resize(plan.samples, (len(plan.samples) + plan.block) * plan.channels)
    if plan.encoding == "json":
        return partial(_single, plan, _json_encoder(plan, samples))
    pack = _packer(plan, samples)
    if plan.encoding == "msgpack":
        return partial(_single, plan, lambda due, timestamp: encode_msgpack(pack(due, timestamp)))
    return partial(_frames, plan, pack)


def _single(plan: Plan, encode: Callable[[Due, int], bytes], begin: float) -> Iterator[Message]:
    keys = [sensor.encode() for sensor in plan.sensors]
    for due in plan.blocks():
        yield Message(due.time, keys[due.sensor], encode(due, timestamp_of(begin, due)), 1)


def _frames(plan: Plan, pack: Callable[[Due, int], PackedBlock], begin: float) -> Iterator[Message]:
    together = plan.gateway_sensors
    for (_, gateway), group in groupby(plan.blocks(), lambda due: (due.block, due.sensor // together)):
        blocks = list(group)
        key = f"gateway-{plan.sensors[gateway * together]}".encode()
        frame = encode_frame(pack(due, timestamp_of(begin, due)) for due in blocks)
        yield Message(blocks[0].time, key, frame, len(blocks))


def timestamp_of(begin: float, due: Due) -> int:
    """Give a block's timestamp in a replay that begins at a time, both ms since the epoch."""
    return round(begin + due.time * 1000)


def _values(plan: Plan, due: Due) -> slice:
    """Give where a block's values lie among those of the recording, channels interleaved."""
    place = plan.place(due.sensor, due.block)
    return slice(place * plan.channels, (place + plan.block) * plan.channels)


def _json_encoder(plan: Plan, samples: NDArray[Any]) -> Callable[[Due, int], bytes]:
    encoder = msgspec.json.Encoder()
    parts = (samples[at : at + _PART].tolist() for at in range(0, len(samples), _PART))
    text = b"".join(encoder.encode(part)[1:-1] + b"," for part in parts)
    ends = np.flatnonzero(np.frombuffer(text, dtype=np.uint8) == ord(","))
    starts = np.concatenate([[0], ends[:-1] + 1])
    channels = plan.channels if plan.channels > 1 else None

    def encode(due: Due, timestamp: int) -> bytes:
        own = _values(plan, due)
        values = msgspec.Raw(b"[%b]" % text[starts[own.start] : ends[own.stop - 1]])
        seq = due.block * plan.block
        return encoder.encode(
            _JsonBlock(plan.sensors[due.sensor], values, timestamp, seq, plan.sample_rate, channels, plan.pipeline)
        )

    return encode


def _packer(plan: Plan, samples: NDArray[Any]) -> Callable[[Due, int], PackedBlock]:
    values = memoryview(samples.astype("<f4").tobytes())
    channels = plan.channels if plan.channels > 1 else None

    def pack(due: Due, timestamp: int) -> PackedBlock:
        own = _values(plan, due)
        return PackedBlock(
            plan.sensors[due.sensor],
            values[4 * own.start : 4 * own.stop],
            timestamp,
            seq=due.block * plan.block,
            sample_rate=plan.sample_rate,
            channels=channels,
            pipeline=plan.pipeline,
        )

    return pack
