"""From a partition batch's bytes to its plain blocks as arrays, with no Python object a record, block or sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.compiled import decoding, numbers
from app.compiled.directory import Directory

Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class PlainBlocks:
    """The blocks of a batch's plain records, in the partition's order.

    A record is plain where it is perfectly sound by itself: what `app.wire.decode` takes it for without a look at its
    pipeline. Whether a block's rate, channels and length fit its pipeline is for the reader to say.
    """

    plain: NDArray[np.bool_]
    """(records,) False where `app.wire.decode` must say what a record is; none of its blocks are here."""
    record: Indices
    """(blocks,) index of the record that each came in."""
    sensor: Indices
    """(blocks,) entry of its sensor; -1 where it is unknown."""
    id_begins: Indices
    """(blocks,) where its sensor's id begins in the batch's bytes,"""
    id_ends: Indices
    """(blocks,) and where it ends."""
    timestamp: Indices
    """(blocks,) time of its first sample, ms since the epoch."""
    seq: Indices
    """(blocks,) index of its first sample; -1 where it has none."""
    rate: NDArray[np.float64]
    """(blocks,) the Hz that it says it has; NaN where it says nothing."""
    channels: Indices
    """(blocks,) the channels that it says it has; 0 where it says nothing."""
    pipeline: Indices
    """(blocks,) entry of the pipeline that it names; -1 where that is unknown, -2 where it names none."""
    stream: Indices
    """(blocks,) entry of its stream; -1 where it is unknown, -2 where it has none."""
    stream_begins: Indices
    """(blocks,) where its stream's id begins in the batch's bytes,"""
    stream_ends: Indices
    """(blocks,) and where it ends; the same place where it has none."""
    bounds: Indices
    """(blocks + 1,) where each block's values begin among all, and where the last's end."""
    values: NDArray[np.float64]
    """All values, one block after another: finite and within `app.wire.decode.LARGEST_SAMPLE`."""


class _Room(NamedTuple):
    """What a batch's blocks are taken into."""

    heads: Indices
    rates: NDArray[np.float64]
    bounds: Indices
    values: NDArray[np.float64]


def decode_plain(
    data: NDArray[np.uint8],
    key_begins: Indices,
    key_ends: Indices,
    value_begins: Indices,
    value_ends: Indices,
    sensors: Directory,
    names: Directory,
    streams: Directory,
) -> PlainBlocks:
    """Decode the plain records of a batch.

    Parameters
    ----------
    data
        Bytes that all keys and values lie in.
    key_begins, key_ends, value_begins, value_ends
        (records,) where; a begin is -1 where the key or the value is null.
    sensors, names, streams
        The known sensors, pipelines and streams.
    """
    size = min(len(data), int(np.maximum(value_ends - value_begins, 0).sum()))
    plain = np.zeros(len(value_begins), dtype=np.bool_)
    # Room for what most batches are, blocks of 256 samples; there is more where that is too little.
    room = _room(len(plain) + size // 1024, size // 4)
    record = block = 0
    while True:
        places = key_begins, key_ends, value_begins, value_ends
        record, block = decoding.decode(data, places, tuple(room), plain, record, block)
        if record == len(plain):
            break
        more = _room(2 * room.heads.shape[1] + 1, 2 * len(room.values) + 1)
        for old, new in zip(room, more, strict=True):
            new[..., : old.shape[-1]] = old
        room = more
    heads, rates, bounds, values = room
    is_sound = np.empty(block, dtype=np.bool_)
    numbers.take_in(data, heads[decoding.LIST_BEGIN :], rates, bounds, values, is_sound)
    heads, rates, bounds, values = heads[:, :block], rates[:block], bounds[: block + 1], values[: bounds[block]]
    if not is_sound.all():
        # JSON has one block a record.
        plain[heads[decoding.RECORD, ~is_sound]] = False
        lengths = np.diff(bounds)
        values = values[np.repeat(is_sound, lengths)]
        bounds = np.concatenate([bounds[:1], np.cumsum(lengths[is_sound])])
        heads, rates = np.compress(is_sound, heads, axis=1), rates[is_sound]
    return PlainBlocks(
        plain=plain,
        record=heads[decoding.RECORD],
        sensor=sensors.find_all(data, heads[decoding.ID_BEGIN], heads[decoding.ID_END]),
        id_begins=heads[decoding.ID_BEGIN],
        id_ends=heads[decoding.ID_END],
        timestamp=heads[decoding.TIMESTAMP],
        seq=heads[decoding.SEQ],
        rate=rates,
        channels=heads[decoding.CHANNELS],
        pipeline=names.find_all(data, heads[decoding.NAME_BEGIN], heads[decoding.NAME_END]),
        stream=streams.find_all(data, heads[decoding.STREAM_BEGIN], heads[decoding.STREAM_END]),
        stream_begins=heads[decoding.STREAM_BEGIN],
        stream_ends=heads[decoding.STREAM_END],
        bounds=bounds,
        values=values,
    )


def _room(blocks: int, values: int) -> _Room:
    bounds = np.zeros(blocks + 1, dtype=np.int64)
    return _Room(np.empty((decoding.HEADS, blocks), dtype=np.int64), np.empty(blocks), bounds, np.empty(values))
