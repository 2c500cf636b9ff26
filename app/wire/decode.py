"""From a partition batch of messages to columns of blocks, one set of columns a pipeline.

Whatever is wrong with a message concerns that message alone (in a frame: that block alone); the others of the
batch are decoded as if it were not there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from operator import itemgetter
from typing import NamedTuple, Protocol, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from app.dsp.pipeline import Pipeline
from app.wire.blocks import MAX_SAMPLES, MAX_SENSOR_ID, MAX_STREAM, Block, Frame, JsonBlock, PackedBlock
from app.wire.parse import RawFrame, parse, parse_packed, parse_with_missing
from app.wire.reasons import Reason, Rejected

#: Squares and their sums over any window stay finite below this.
LARGEST_SAMPLE = 1e150


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
    streams: list[str | None] = field(default_factory=list)
    records: list[int] = field(default_factory=list)
    """Index of the record that each block came in."""
    samples: list[list[float] | memoryview] = field(default_factory=list)
    bounds: list[int] = field(default_factory=lambda: [0])
    """Where each block begins among all values, and where the last ends."""
    values: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    """All values, one block after another."""

    def without(self, refused: Container[int]) -> BlockColumns:
        """Give the same columns without some blocks, named by their numbers."""
        return self.only([number for number in range(len(self.sensor_ids)) if number not in refused])

    def only(self, numbers: Sequence[int]) -> BlockColumns:
        """Give the same columns with just some blocks, named by their numbers, in order."""
        kept = BlockColumns(self.pipeline)
        pieces = []
        for number in numbers:
            start, end = self.bounds[number], self.bounds[number + 1]
            kept.sensor_ids.append(self.sensor_ids[number])
            kept.timestamps.append(self.timestamps[number])
            kept.seqs.append(self.seqs[number])
            kept.streams.append(self.streams[number])
            kept.records.append(self.records[number])
            kept.samples.append(self.samples[number])
            kept.bounds.append(kept.bounds[-1] + end - start)
            pieces.append(self.values[start:end])
        kept.values = np.concatenate(pieces) if pieces else np.empty(0)
        return kept

    @classmethod
    def joined(cls, parts: Sequence[BlockColumns]) -> BlockColumns:
        """Put together columns of one pipeline, one after another."""
        whole = cls(parts[0].pipeline)
        for part in parts:
            whole.sensor_ids += part.sensor_ids
            whole.timestamps += part.timestamps
            whole.seqs += part.seqs
            whole.streams += part.streams
            whole.records += part.records
            whole.samples += part.samples
            whole.bounds += [whole.bounds[-1] + bound for bound in part.bounds[1:]]
        whole.values = np.concatenate([part.values for part in parts])
        return whole


class Decoded(NamedTuple):
    """A partition batch, decoded."""

    columns: list[BlockColumns]
    bad: list[BadInput]


def decode(
    records: Sequence[Record], pipelines: Mapping[str, Pipeline], default: str | Callable[[str], str]
) -> Decoded:
    """Decode a batch.

    Parameters
    ----------
    records
        Messages of one partition, in order.
    pipelines
        Known pipelines by name.
    default
        Name of the pipeline of blocks that name none, or what gives it for a sensor.
    """
    batch = _Batch(pipelines, default if callable(default) else lambda _sensor_id: default)
    for index, record in enumerate(records):
        try:
            message = batch.parsed(record.value)
            if isinstance(message, JsonBlock | PackedBlock):
                batch.add(index, message, record.key)
            else:
                batch.add_frame(index, message.blocks, record.key)
        except Rejected as rejected:
            batch.bad.append(BadInput(index, rejected.reason, rejected.detail))
    columns = [_with_values(own, batch.bad) for own in batch.columns.values()]
    return Decoded([own for own in columns if own.sensor_ids], merged(batch.bad))


def first_pipelines(columns: Iterable[BlockColumns], sensor_ids: Container[str]) -> dict[str, str]:
    """Name the pipeline of the first block of each of some sensors, as a batch's columns have them."""
    firsts: dict[str, tuple[int, str]] = {}
    for own in columns:
        for sensor_id, record in zip(own.sensor_ids, own.records, strict=True):
            if sensor_id in sensor_ids and (sensor_id not in firsts or record < firsts[sensor_id][0]):
                firsts[sensor_id] = record, own.pipeline.name
    return {sensor_id: name for sensor_id, (_, name) in firsts.items()}


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

    def __init__(self, pipelines: Mapping[str, Pipeline], pipeline_of: Callable[[str], str]) -> None:
        self.pipelines = pipelines
        self.pipeline_of = pipeline_of
        self.columns: dict[str, BlockColumns] = {}
        self.bad: list[BadInput] = []

    def parsed(self, value: bytes | None) -> Block | Frame | RawFrame:
        try:
            return parse(value)
        except Rejected as rejected:
            return self._with_missing(value, rejected)

    def parsed_packed(self, value: msgspec.Raw) -> PackedBlock:
        try:
            return parse_packed(value)
        except Rejected as rejected:
            return cast("PackedBlock", self._with_missing(value, rejected))

    def _with_missing(self, value: bytes | msgspec.Raw | None, rejected: Rejected) -> Block:
        """Parse what was rejected anew, if it may be for samples that its pipeline repairs."""
        if value and rejected.reason in {Reason.NON_FINITE, Reason.WRONG_TYPE}:
            block = parse_with_missing(value)
            # Nobody is asked of a sensor that cannot be: its id may be no part of a key.
            if block and 0 < len(block.sensor_id.encode()) <= MAX_SENSOR_ID:
                pipeline = self.pipelines.get(block.pipeline or self.pipeline_of(block.sensor_id))
                if pipeline and pipeline.non_finite != "reject":
                    return block
        raise rejected

    def add_frame(self, index: int, blocks: Sequence[PackedBlock | msgspec.Raw], key: bytes | None) -> None:
        if not key:
            raise Rejected(Reason.KEY_MISMATCH, "frame without a key: expected the gateway's id")
        if not blocks:
            raise Rejected(Reason.EMPTY_SAMPLES, "frame without blocks: expected at least one")
        for number, item in enumerate(blocks, 1):
            try:
                block = item if isinstance(item, PackedBlock) else self.parsed_packed(item)
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
        if block.stream and len(block.stream.encode()) > MAX_STREAM:
            raise Rejected(
                Reason.OUT_OF_RANGE, f"stream of {len(block.stream.encode())} bytes: expected at most {MAX_STREAM}"
            )
        if key != encoded:
            raise Rejected(Reason.KEY_MISMATCH, f"key {key!r}: expected the sensorId, {sensor_id!r}")
        name = block.pipeline or self.pipeline_of(sensor_id)
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
        columns.streams.append(block.stream or None)
        columns.records.append(index)
        columns.samples.append(block.samples)
        columns.bounds.append(columns.bounds[-1] + count)


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
    faulty = ~(np.abs(values) < LARGEST_SAMPLE)
    if columns.pipeline.non_finite != "reject":
        faulty &= np.isfinite(values)
    places = np.flatnonzero(faulty)
    numbers, firsts = np.unique(np.searchsorted(columns.bounds, places, side="right") - 1, return_index=True)
    refused = numbers.tolist()
    for number, place in zip(refused, places[firsts].tolist(), strict=True):
        at, value = place - columns.bounds[number], float(values[place])
        reason = Reason.OUT_OF_RANGE if math.isfinite(value) else Reason.NON_FINITE
        detail = f"samples[{at}] = {value}: expected a finite number within ±{LARGEST_SAMPLE:g}"
        bad.append(BadInput(columns.records[number], reason, f"sensor {columns.sensor_ids[number]!r}: {detail}"))
    return columns.without(set(refused)) if refused else columns


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
