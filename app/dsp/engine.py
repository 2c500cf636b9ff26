"""The engine: all sensors of one pipeline, their state in arrays with one row a sensor."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.dsp.chain import fresh_state, run_chain
from app.dsp.pipeline import Pipeline
from app.dsp.snapshot import ArrayLayout, Codec, Header, Position
from app.dsp.stage import Floats, Indices, Marks
from app.dsp.stream_time import first_index, is_on_time

SLAB_SAMPLES = 32_768
"""Samples worked on at once: their temporaries stay in the processor's cache."""

_FIRST_CAPACITY = 64


@dataclass(slots=True, eq=False)
class Sensor:
    """One sensor in memory: its row in the arrays, and where its stream stands."""

    id: str
    row: int
    epoch: int = 0
    """Raised whenever its stream begins anew, so that a lower index is not taken for an older state."""
    next_index: int = -1
    """Index of the next sample; -1 before the first block."""
    next_time: float = math.nan
    """Time expected of the next sample, ms."""
    position: Position | None = None
    """How far its source has been consumed."""
    blocks: int = 0
    """Blocks since its last snapshot."""


class Blocks(NamedTuple):
    """Blocks of one pipeline from one partition, in the partition's order."""

    sensors: Sequence[Sensor]
    timestamps: Sequence[int]
    """Time of each block's first sample, ms."""
    seqs: Sequence[int | None]
    """Index of each block's first sample, where the message says."""
    offsets: Sequence[int]
    """Offset of the message that each block came in."""
    values: Floats
    """Samples of all blocks, one block after another, channels interleaved."""
    bounds: Sequence[int]
    """Where each block begins in ``values``, and where the last ends."""


class Features(NamedTuple):
    """Features of the blocks that advanced their sensors, in the blocks' order."""

    block: Indices
    """(n,) index into the given blocks."""
    seq: list[int]
    """Index of each block's first sample."""
    gap: list[int]
    """Samples missing before each block."""
    values: Floats
    """(n, features)."""
    full: NDArray[np.bool_]
    """(n, features) whether the window behind a value was full."""
    replayed: int
    """Blocks skipped, because the state had counted them before it was restored."""
    late: int
    """Blocks dropped, because they begin before the next expected sample."""


@dataclass(slots=True)
class _Run:
    """Blocks of one sensor that follow one another, worked on as one stretch of samples."""

    sensor: Sensor
    reset: bool
    blocks: list[int] = field(default_factory=list)
    samples: int = 0


class Engine:
    """State and step of all sensors of one pipeline.

    Parameters
    ----------
    pipeline
        What every sensor here runs.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.sensors: dict[str, Sensor] = {}
        self._fresh = fresh_state(pipeline, 1)
        layout = tuple(
            ArrayLayout(node, name, values.dtype.newbyteorder("<").str, values.shape[1:])
            for node, state in self._fresh.items()
            for name, values in state.items()
        )
        self._codec = Codec(pipeline.fingerprint, layout)
        self._state = fresh_state(pipeline, _FIRST_CAPACITY)
        self._free = list(range(_FIRST_CAPACITY))[::-1]

    def admit(self, ids: Sequence[str]) -> list[Sensor]:
        """Take in sensors that have seen nothing."""
        sensors = self._new_sensors(ids)
        self._reset(sensors)
        return sensors

    def restore(self, snapshots: Mapping[str, bytes]) -> list[Sensor]:
        """Take in sensors from their snapshots, by id.

        Raises
        ------
        SnapshotError
            One is damaged or of another pipeline; none has been taken in then.
        """
        headers, arrays = self._codec.decode(list(snapshots.values()))
        sensors = self._new_sensors(list(snapshots))
        for sensor, header in zip(sensors, headers, strict=True):
            sensor.epoch = header.epoch
            sensor.next_index = header.next
            sensor.next_time = header.time
            sensor.position = header.position
        rows = _rows(sensors)
        for entry, values in zip(self._codec.layout, arrays, strict=True):
            self._state[entry.node][entry.name][rows] = values
        return sensors

    def evict(self, sensors: Iterable[Sensor]) -> None:
        """Forget sensors; their rows are used again."""
        for sensor in sensors:
            del self.sensors[sensor.id]
            self._free.append(sensor.row)

    def snapshots(self, sensors: Sequence[Sensor]) -> list[bytes]:
        """Encode the state of sensors that have consumed at least one block, and count their blocks anew."""
        headers = []
        for sensor in sensors:
            if sensor.position is None:
                raise ValueError(f"sensor {sensor.id!r} has consumed nothing: expected one with a position")
            headers.append(
                Header(self.pipeline.fingerprint, sensor.epoch, sensor.next_index, sensor.next_time, sensor.position)
            )
            sensor.blocks = 0
        rows = _rows(sensors)
        return self._codec.encode(headers, [self._state[entry.node][entry.name][rows] for entry in self._codec.layout])

    def process(self, blocks: Blocks, position: Position) -> Features:
        """Consume blocks of one partition.

        Parameters
        ----------
        blocks
            All of this pipeline's blocks in a stretch of the partition.
        position
            Where the stretch ends; the sensors' states have consumed the partition up to there.

        Returns
        -------
        Features of each block that was neither counted before nor late.
        """
        place = _Placement(self.pipeline.signal.sample_rate, self.pipeline.signal.channels, position)
        for index, sensor in enumerate(blocks.sensors):
            place.block(index, sensor, blocks)
        for sensor in place.touched:
            sensor.position = position
        values = np.empty((len(blocks.sensors), len(self.pipeline.feature_names)))
        full = np.empty(values.shape, dtype=np.bool_)
        for runs in place.rounds:
            self._reset([run.sensor for run in runs if run.reset])
            for group in _slabs(runs):
                self._advance(group, blocks, values, full)
        accepted = np.array(place.accepted, dtype=np.intp)
        return Features(accepted, place.seqs, place.gaps, values[accepted], full[accepted], place.replayed, place.late)

    def _advance(self, runs: list[_Run], blocks: Blocks, values: Floats, full: NDArray[np.bool_]) -> None:
        """Step runs of one length together, and write the features of their blocks."""
        channels = self.pipeline.signal.channels
        bounds = blocks.bounds
        pieces, mark_rows, mark_last, mark_blocks = [], [], [], []
        for row, run in enumerate(runs):
            end = 0
            for index in run.blocks:
                pieces.append(blocks.values[bounds[index] : bounds[index + 1]])
                end += (bounds[index + 1] - bounds[index]) // channels
                mark_rows.append(row)
                mark_last.append(end - 1)
                mark_blocks.append(index)
        frames = np.concatenate(pieces).reshape(len(runs), runs[0].samples, channels)
        x = np.ascontiguousarray(frames.transpose(0, 2, 1))
        rows = _rows([run.sensor for run in runs])
        state = {node: {name: array[rows] for name, array in own.items()} for node, own in self._state.items()}
        marks = Marks(np.array(mark_rows, dtype=np.intp), np.array(mark_last, dtype=np.intp))
        result = run_chain(self.pipeline, state, x, marks)
        for node, own in result.state.items():
            for name, array in own.items():
                self._state[node][name][rows] = array
        values[mark_blocks] = result.features
        full[mark_blocks] = result.full

    def _new_sensors(self, ids: Sequence[str]) -> list[Sensor]:
        while len(self._free) < len(ids):
            self._grow()
        sensors = [Sensor(sensor_id, self._free.pop()) for sensor_id in ids]
        self.sensors.update(zip(ids, sensors, strict=True))
        return sensors

    def _reset(self, sensors: Sequence[Sensor]) -> None:
        rows = _rows(sensors)
        for node, own in self._fresh.items():
            for name, array in own.items():
                self._state[node][name][rows] = array

    def _grow(self) -> None:
        capacity = next(len(array) for own in self._state.values() for array in own.values())
        for node, own in fresh_state(self.pipeline, capacity).items():
            for name, array in own.items():
                self._state[node][name] = np.concatenate([self._state[node][name], array])
        self._free.extend(range(2 * capacity - 1, capacity - 1, -1))


class _Placement:
    """Places blocks in their sensors' streams, and gathers those that follow one another into runs.

    A run is reset where samples are missing before it. A round holds at most one run a sensor, so that rounds
    worked on one after another keep each sensor's order.
    """

    def __init__(self, sample_rate: float, channels: int, position: Position) -> None:
        self.sample_rate = sample_rate
        self.channels = channels
        self.source = (position.topic, position.partition)
        self.accepted: list[int] = []
        self.seqs: list[int] = []
        self.gaps: list[int] = []
        self.replayed = 0
        self.late = 0
        self.rounds: list[list[_Run]] = []
        self.touched: dict[Sensor, tuple[int, _Run]] = {}

    def block(self, index: int, sensor: Sensor, blocks: Blocks) -> None:
        """Place one block."""
        known = sensor.position
        if known is not None and blocks.offsets[index] < known.offset and (known.topic, known.partition) == self.source:
            self.replayed += 1
            return
        length = (blocks.bounds[index + 1] - blocks.bounds[index]) // self.channels
        timestamp, seq = blocks.timestamps[index], blocks.seqs[index]
        gap = 0
        reset = False
        expected = sensor.next_index
        if expected < 0:
            first = seq or 0
        else:
            first = first_index(expected, sensor.next_time, timestamp, length, self.sample_rate) if seq is None else seq
            if first < expected:
                # A device that counts from 0 again, later than all it sent before, has been started anew.
                restarted = seq == 0 and (
                    timestamp > sensor.next_time or is_on_time(sensor.next_time, timestamp, length, self.sample_rate)
                )
                if not restarted:
                    self.late += 1
                    return
                sensor.epoch += 1
                reset = True
            elif first > expected:
                gap, reset = first - expected, True
        sensor.next_index = first + length
        sensor.next_time = timestamp + length * 1000.0 / self.sample_rate
        sensor.blocks += 1
        self.accepted.append(index)
        self.seqs.append(first)
        self.gaps.append(gap)
        run = self._run(sensor, reset=reset)
        run.blocks.append(index)
        run.samples += length

    def _run(self, sensor: Sensor, *, reset: bool) -> _Run:
        """Give the run that the sensor's next block belongs to."""
        current = self.touched.get(sensor)
        if current is not None and not reset:
            return current[1]
        number = 0 if current is None else current[0] + 1
        if number == len(self.rounds):
            self.rounds.append([])
        run = _Run(sensor, reset)
        self.rounds[number].append(run)
        self.touched[sensor] = (number, run)
        return run


def _slabs(runs: list[_Run]) -> Iterable[list[_Run]]:
    """Split a round into groups of one length, each small enough for the cache."""
    by_length: dict[int, list[_Run]] = {}
    for run in runs:
        by_length.setdefault(run.samples, []).append(run)
    for length, same in by_length.items():
        size = max(1, SLAB_SAMPLES // length)
        for start in range(0, len(same), size):
            yield same[start : start + size]


def _rows(sensors: Sequence[Sensor]) -> Indices:
    return np.array([sensor.row for sensor in sensors], dtype=np.intp)
