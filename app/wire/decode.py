"""From a partition batch of messages to columns of blocks, one set of columns a pipeline.

Whatever is wrong with a message concerns that message alone (in a frame: that block alone); the others of the
batch are decoded as if it were not there.
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain, pairwise
from operator import itemgetter
from typing import NamedTuple, NoReturn, Protocol, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from app.dsp.pipeline import Pipeline
from app.wire.blocks import MAX_SAMPLES, MAX_SENSOR_ID, Block, Frame, JsonBlock, PackedBlock
from app.wire.reasons import Reason, Rejected

#: Squares and their sums over any window stay finite below this.
LARGEST_SAMPLE = 1e150

_json_block = msgspec.json.Decoder(JsonBlock)
_packed_block = msgspec.msgpack.Decoder(PackedBlock)
_frame = msgspec.msgpack.Decoder(Frame)


class _RawFrame(msgspec.Struct):
    """A frame whose blocks are looked at one by one, because not all of them are sound."""

    blocks: list[msgspec.Raw]


_raw_frame = msgspec.msgpack.Decoder(_RawFrame)

#: What msgspec raises on bytes that are not JSON or MessagePack: a string that is not UTF-8, or nesting without
#: end, is none of its own errors.
_MALFORMED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Record(Protocol):
    """The part of a consumed message that matters here."""

    offset: int
    key: bytes | None
    value: bytes | None


class BadInput(NamedTuple):
    """A message, or blocks of a frame, that cannot be processed for one reason."""

    record: int
    """Its index in the batch."""
    reason: Reason
    detail: str


@dataclass(slots=True)
class BlockColumns:
    """Blocks of one pipeline, in the partition's order."""

    pipeline: Pipeline
    sensor_ids: list[str] = field(default_factory=list)
    timestamps: list[int] = field(default_factory=list)
    seqs: list[int | None] = field(default_factory=list)
    records: list[int] = field(default_factory=list)
    """Index of the record that each block came in."""
    samples: list[list[float] | memoryview] = field(default_factory=list)
    bounds: list[int] = field(default_factory=lambda: [0])
    """Where each block begins among all values, and where the last ends."""
    values: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    """All values, one block after another."""

    def without(self, refused: Container[int]) -> BlockColumns:
        """Give the same columns without some blocks, named by their numbers."""
        kept = BlockColumns(self.pipeline)
        pieces = []
        for number, (start, end) in enumerate(pairwise(self.bounds)):
            if number in refused:
                continue
            kept.sensor_ids.append(self.sensor_ids[number])
            kept.timestamps.append(self.timestamps[number])
            kept.seqs.append(self.seqs[number])
            kept.records.append(self.records[number])
            kept.samples.append(self.samples[number])
            kept.bounds.append(kept.bounds[-1] + end - start)
            pieces.append(self.values[start:end])
        kept.values = np.concatenate(pieces) if pieces else np.empty(0)
        return kept


class Decoded(NamedTuple):
    """A partition batch, decoded."""

    columns: list[BlockColumns]
    bad: list[BadInput]


def decode(records: Sequence[Record], pipelines: Mapping[str, Pipeline], default: str) -> Decoded:
    """Decode a batch.

    Parameters
    ----------
    records
        Messages of one partition, in order.
    pipelines
        Known pipelines by name.
    default
        Name of the pipeline of blocks that name none.
    """
    batch = _Batch(pipelines, default)
    for index, record in enumerate(records):
        try:
            message = _parse(record.value)
            if isinstance(message, JsonBlock | PackedBlock):
                batch.add(index, message, record.key)
            else:
                batch.add_frame(index, message.blocks, record.key)
        except Rejected as rejected:
            batch.bad.append(BadInput(index, rejected.reason, rejected.detail))
    columns = [_with_values(own, batch.bad) for own in batch.columns.values()]
    return Decoded([own for own in columns if own.sensor_ids], merged(batch.bad))


def merged(bad: Iterable[BadInput]) -> list[BadInput]:
    """Give one bad input for each message and reason, in the messages' order.

    A dead letter holds its whole message: one for each of a frame's bad blocks could be thousands of times the frame.
    """
    found: dict[tuple[int, Reason], list[str]] = {}
    for record, reason, detail in sorted(bad, key=itemgetter(0)):
        found.setdefault((record, reason), []).append(detail)
    return [
        BadInput(record, reason, details[0] if len(details) == 1 else f"{details[0]} (and {len(details) - 1} more)")
        for (record, reason), details in found.items()
    ]


class _Batch:
    """The columns of a batch as they fill."""

    def __init__(self, pipelines: Mapping[str, Pipeline], default: str) -> None:
        self.pipelines = pipelines
        self.default = default
        self.columns: dict[str, BlockColumns] = {}
        self.bad: list[BadInput] = []

    def add_frame(self, index: int, blocks: Sequence[PackedBlock | msgspec.Raw], key: bytes | None) -> None:
        if not key:
            raise Rejected(Reason.KEY_MISMATCH, "frame without a key: expected the gateway's id")
        for number, item in enumerate(blocks, 1):
            try:
                block = item if isinstance(item, PackedBlock) else _parse_packed(item)
                self.add(index, block, block.sensor_id.encode())
            except Rejected as rejected:
                detail = f"block {number} of {len(blocks)} in the frame: {rejected.detail}"
                self.bad.append(BadInput(index, rejected.reason, detail))

    def add(self, index: int, block: Block, key: bytes | None) -> None:
        """Append a block to its pipeline's columns, or reject it."""
        sensor_id = block.sensor_id
        encoded = sensor_id.encode()
        if not 0 < len(encoded) <= MAX_SENSOR_ID:
            raise Rejected(Reason.BAD_SENSOR_ID, f"sensorId of {len(encoded)} bytes: expected 1 to {MAX_SENSOR_ID}")
        if key != encoded:
            raise Rejected(Reason.KEY_MISMATCH, f"key {key!r}: expected the sensorId, {sensor_id!r}")
        name = block.pipeline or self.default
        columns = self.columns.get(name)
        if columns is None:
            pipeline = self.pipelines.get(name)
            if pipeline is None:
                known = ", ".join(sorted(self.pipelines))
                raise Rejected(Reason.UNKNOWN_PIPELINE, f"pipeline {name!r}: expected one of {known}")
            columns = self.columns[name] = BlockColumns(pipeline)
        count = _checked_count(block, columns.pipeline)
        columns.sensor_ids.append(sensor_id)
        columns.timestamps.append(block.timestamp)
        columns.seqs.append(block.seq)
        columns.records.append(index)
        columns.samples.append(block.samples)
        columns.bounds.append(columns.bounds[-1] + count)


def _parse(value: bytes | None) -> Block | Frame | _RawFrame:
    if not value:
        raise Rejected(Reason.MALFORMED, "empty message: expected a JSON or MessagePack block")
    first = value[0]
    if first in b"{ \t\r\n":
        return _parse_json(value)
    if 0x80 <= first <= 0x8F or first in {0xDE, 0xDF}:
        if value.startswith(b"\x81\xa6blocks"):
            return _parse_frame(value)
        try:
            return _parse_packed(value)
        except Rejected as rejected:
            if rejected.reason is Reason.MISSING_FIELD:
                with suppress(Rejected):
                    return _parse_frame(value)
            raise
    raise Rejected(Reason.MALFORMED, f"first byte 0x{first:02x}: expected a JSON object or a MessagePack map")


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


def _parse_packed(value: bytes | msgspec.Raw) -> PackedBlock:
    try:
        return _packed_block.decode(value)
    except msgspec.ValidationError as error:
        raise _rejection(error) from None
    except _MALFORMED as error:
        raise Rejected(Reason.MALFORMED, f"not MessagePack: {error}") from None


def _parse_frame(value: bytes) -> Frame | _RawFrame:
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


def _checked_count(block: Block, pipeline: Pipeline) -> int:
    """Values in a block that fits its pipeline."""
    signal = pipeline.signal
    if block.sample_rate is not None and block.sample_rate != signal.sample_rate:
        raise Rejected(
            Reason.WRONG_RATE, f"sampleRate {block.sample_rate}: pipeline {pipeline.name} takes {signal.sample_rate} Hz"
        )
    if block.channels is not None and block.channels != signal.channels:
        raise Rejected(
            Reason.WRONG_CHANNELS, f"channels {block.channels}: pipeline {pipeline.name} takes {signal.channels}"
        )
    samples = block.samples
    if isinstance(samples, memoryview):
        if samples.nbytes % 4:
            raise Rejected(Reason.WRONG_TYPE, f"samples of {samples.nbytes} bytes: expected float32, 4 bytes each")
        count = samples.nbytes // 4
    else:
        count = len(samples)
    if not count:
        raise Rejected(Reason.EMPTY_SAMPLES, "samples is empty: expected at least one")
    if count > MAX_SAMPLES:
        raise Rejected(Reason.TOO_MANY_SAMPLES, f"{count} samples: expected at most {MAX_SAMPLES}")
    if count % signal.channels:
        raise Rejected(Reason.WRONG_CHANNELS, f"{count} values: expected a multiple of {signal.channels} channels")
    return count


def _with_values(columns: BlockColumns, bad: list[BadInput]) -> BlockColumns:
    """Turn the samples of all blocks into one array, without the blocks that hold what cannot be computed with."""
    columns.values = values = _as_array(columns.samples, columns.bounds[-1])
    # NaN makes both comparisons false.
    if len(values) and values.max() < LARGEST_SAMPLE and values.min() > -LARGEST_SAMPLE:
        return columns
    refused = set()
    for number, (start, end) in enumerate(pairwise(columns.bounds)):
        faults = np.flatnonzero(~(np.abs(values[start:end]) < LARGEST_SAMPLE))
        if len(faults):
            at, value = int(faults[0]), float(values[start + faults[0]])
            reason = Reason.OUT_OF_RANGE if np.isfinite(value) else Reason.NON_FINITE
            detail = f"samples[{at}] = {value}: expected a finite number within ±{LARGEST_SAMPLE:g}"
            bad.append(BadInput(columns.records[number], reason, f"sensor {columns.sensor_ids[number]!r}: {detail}"))
            refused.add(number)
    return columns.without(refused)


def _as_array(samples: Sequence[list[float] | memoryview], count: int) -> NDArray[np.float64]:
    packed = [values for values in samples if isinstance(values, memoryview)]
    if not packed:
        lists = cast("Sequence[list[float]]", samples)
        return np.fromiter(chain.from_iterable(lists), dtype=np.float64, count=count)
    if len(packed) == len(samples):
        return np.frombuffer(b"".join(packed), dtype="<f4").astype(np.float64)
    return np.concatenate(
        [
            np.frombuffer(values, dtype="<f4") if isinstance(values, memoryview) else np.array(values)
            for values in samples
        ],
        dtype=np.float64,
    )
