"""The engine: all sensors of one pipeline, their state in arrays with one row a sensor."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.dsp.chain import fresh_state, run_chain
from app.dsp.fused import fused
from app.dsp.heads import Heads
from app.dsp.missing import filling, repaired
from app.dsp.pipeline import RAW_INPUT, Pipeline
from app.dsp.placement import Placement, Run
from app.dsp.snapshot import ArrayLayout, Codec, Header, Position
from app.dsp.stage import Floats, Indices, Marks, State
from app.dsp.stream import Blocks, Deferral, Samples, Sensor

SLAB_SAMPLES = 32_768
"""Samples worked on at once: their temporaries stay in the processor's cache."""

_FIRST_CAPACITY = 64


EVENTS = ("replayed", "duplicate", "late", "gap_reset", "gap_filled", "restart", "clock_jump", "repaired")
"""What may be out of the ordinary with a block.

Dropped are: ``replayed``, which the state had counted before it was restored; ``duplicate``, whose samples have all
been consumed; ``late``, of whose samples some lie before the next expected one. Consumed are: ``gap_reset`` and
``gap_filled``, before which samples are missing; ``restart``, with which the sensor's stream begins anew;
``clock_jump``, whose timestamp does not agree with its index; ``repaired``, in which samples were replaced.
"""


class Features(NamedTuple):
    """Features of the blocks that advanced their sensors, in the blocks' order."""

    block: Indices
    """(n,) index into the given blocks."""
    seq: list[int]
    """Index of each block's first sample."""
    gap: list[int]
    """Samples missing before each block."""
    values: Floats
    """(n, values) fields of the record one after another, each as wide as `Pipeline.widths` says."""
    full: NDArray[np.bool_]
    """(n, values) whether the window behind a value was full."""
    quality: Floats
    """(n,) share of measured samples among those that the block added to the state."""
    events: dict[str, int]
    """How many blocks were of each kind of `EVENTS`; none is left out."""
    deferred: dict[Sensor, Deferral]
    """Blocks given back, by sensor."""
    changed: list[Sensor]
    """Sensors whose snapshot would be another than before."""


class Engine:
    """State and step of all sensors of one pipeline.

    Parameters
    ----------
    pipeline
        What every sensor here runs.
    fuse
        Whether to run it in one pass, if it is wired so and numba is there.
    """

    def __init__(self, pipeline: Pipeline, *, fuse: bool = True) -> None:
        self.pipeline = pipeline
        self.fused = fused(pipeline) if fuse else None
        self.sensors: dict[str, Sensor] = {}
        self._fresh = self._fresh_state(1)
        layout = tuple(
            ArrayLayout(node, name, values.dtype.newbyteorder("<").str, values.shape[1:])
            for node, state in self._fresh.items()
            for name, values in state.items()
        )
        self._codec = Codec(pipeline.fingerprint, layout)
        self._state = self._fresh_state(_FIRST_CAPACITY)
        self.heads = Heads(_FIRST_CAPACITY)
        self._free = list(range(_FIRST_CAPACITY))[::-1]

    def admit(self, ids: Sequence[str]) -> list[Sensor]:
        """Take in sensors that have seen nothing."""
        sensors = self._new_sensors(ids)
        self._reset(_rows(sensors))
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
            sensor.go_on_from(header)
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
                Header(
                    self.pipeline.fingerprint,
                    sensor.epoch,
                    sensor.next_index,
                    sensor.next_time,
                    sensor.position,
                    sensor.since,
                    sensor.restarts,
                    sensor.stream,
                    sensor.previous,
                    sensor.behind,
                )
            )
            sensor.blocks = 0
        rows = _rows(sensors)
        return self._codec.encode(headers, [self._state[entry.node][entry.name][rows] for entry in self._codec.layout])

    def process(self, blocks: Blocks, position: Position, *, confirmed: bool) -> Features:
        """Consume blocks of one partition.

        Parameters
        ----------
        blocks
            All of this pipeline's blocks in a stretch of the partition.
        position
            Where the stretch ends; the sensors' states have consumed the partition up to there.
        confirmed
            Whether samples that are missing are believed to be lost. If not, the block after them is not consumed:
            it and all later ones of its sensor are given back, and the sensor's position ends before them.

        Returns
        -------
        Features of each block that was neither dropped nor given back.
        """
        place = Placement(self.pipeline, blocks, position, confirmed=confirmed)
        broken = self._non_finite(blocks)
        samples = self._samples(blocks, place, broken)
        count = len(blocks.sensors)
        values = np.empty((count, sum(self.pipeline.widths)))
        full = np.empty(values.shape, dtype=np.bool_)
        for runs in place.rounds:
            if anew := [run.sensor for run in runs if run.reset]:
                self._reset(_rows(anew))
            for group in [runs] if self.fused else _slabs(runs):
                numbers = np.array([number for run in group for number in run.blocks], dtype=np.intp)
                rows, counts = _rows([run.sensor for run in group]), [len(run.blocks) for run in group]
                values[numbers], full[numbers] = self._advance(rows, np.array(counts), numbers, samples)
        accepted = np.array(place.accepted, dtype=np.intp)
        place.events["repaired"] = len(broken.keys() & place.accepted)
        return Features(
            accepted,
            place.seqs,
            place.gaps,
            values[accepted],
            full[accepted],
            self._quality(blocks, place.fills, broken)[accepted],
            {event: place.events[event] for event in EVENTS},
            place.deferred,
            place.changed,
        )

    def step(self, rows: Indices, numbers: Indices, samples: Samples) -> tuple[Floats, NDArray[np.bool_]]:
        """Consume blocks that are known to follow what their sensors have consumed, all of finite samples.

        Parameters
        ----------
        rows
            (blocks,) of each block's sensor; the caller keeps what `heads` say of them.
        numbers
            (blocks,) of the blocks among the samples, in their order.
        samples
            Of all blocks.

        Returns
        -------
        (blocks, values) the features at each block's end, and which are full.
        """
        if self.fused is not None:
            return self.fused.step(self._state, samples, numbers, rows)
        order = np.argsort(rows, kind="stable")
        begins = np.flatnonzero(np.diff(rows[order], prepend=-1))
        counts = np.diff(begins, append=len(order))
        lengths = np.add.reduceat((samples.ends - samples.begins)[numbers[order]], begins)
        values = np.empty((len(rows), sum(self.pipeline.widths)))
        full = np.empty(values.shape, dtype=np.bool_)
        for length in np.unique(lengths).tolist():
            same = np.flatnonzero(lengths == length)
            size = max(1, SLAB_SAMPLES * self.pipeline.signal.channels // length)
            for start in range(0, len(same), size):
                runs = same[start : start + size]
                places = np.concatenate([order[begins[run] : begins[run] + counts[run]] for run in runs.tolist()])
                values[places], full[places] = self._advance(
                    rows[order[begins[runs]]], counts[runs], numbers[places], samples
                )
        return values, full

    def _non_finite(self, blocks: Blocks) -> dict[int, int]:
        """How many values are not finite, by the number of each block that has any."""
        if self.pipeline.non_finite == "reject":
            return {}
        places = np.flatnonzero(~np.isfinite(blocks.values))
        return Counter((np.searchsorted(blocks.bounds, places, side="right") - 1).tolist())

    def _quality(self, blocks: Blocks, fills: Mapping[int, int], broken: Mapping[int, int]) -> Floats:
        quality = np.ones(len(blocks.sensors))
        channels = self.pipeline.signal.channels
        for number in fills.keys() | broken.keys():
            count = blocks.bounds[number + 1] - blocks.bounds[number]
            quality[number] = (count - broken.get(number, 0)) / (count + channels * fills.get(number, 0))
        return quality

    def _samples(self, blocks: Blocks, place: Placement, broken: Mapping[int, int]) -> Samples:
        """Give the samples of the blocks, with those made up that are missing or not finite."""
        fills, bounds, channels = place.fills, np.array(blocks.bounds), self.pipeline.signal.channels
        if not fills and not broken:
            return Samples(blocks.values, bounds[:-1], bounds[1:])
        pieces = np.split(blocks.values, bounds[1:-1])
        latest: dict[Sensor, Floats] = {}
        for run in chain.from_iterable(place.rounds):
            known = self._state[RAW_INPUT]["last"][run.sensor.row]
            last = np.zeros(channels) if run.reset else latest.get(run.sensor, known)
            for number in run.blocks:
                frames = pieces[number].reshape(-1, channels)
                if number in broken:
                    frames = repaired(self.pipeline.non_finite, frames, last)
                if number in fills:
                    frames = np.concatenate([filling(self.pipeline.gap, last, frames[0], fills[number]), frames])
                pieces[number], last = frames.ravel(), frames[-1]
            latest[run.sensor] = last
        ends = np.cumsum([len(piece) for piece in pieces])
        return Samples(np.concatenate(pieces), np.concatenate([[0], ends[:-1]]), ends)

    def _advance(
        self, rows: Indices, counts: Indices, numbers: Indices, samples: Samples
    ) -> tuple[Floats, NDArray[np.bool_]]:
        """Step the states of the sensors of runs; gives the features of the runs' blocks, and which are full.

        Parameters
        ----------
        rows, counts
            (runs,) the sensor's row, and how many blocks the run has; all of one length, unless the pipeline is fused.
        numbers
            (blocks,) of the runs' blocks, run by run.
        samples
            Of all blocks.
        """
        if self.fused is not None:
            return self.fused.step(self._state, samples, numbers, np.repeat(rows, counts))
        channels = self.pipeline.signal.channels
        ends = np.cumsum(samples.ends[numbers] - samples.begins[numbers]) // channels
        length = int(ends[-1]) // len(rows)
        x = np.ascontiguousarray(samples.of(numbers).reshape(len(rows), length, channels).transpose(0, 2, 1))
        of_run = np.repeat(np.arange(len(rows)), counts)
        state = {
            node.name: {name: array[rows] for name, array in self._state[node.name].items()}
            for node in self.pipeline.nodes
        }
        result = run_chain(self.pipeline, state, x, Marks(of_run, ends - of_run * length - 1))
        self._state[RAW_INPUT]["last"][rows] = x[:, :, -1]
        for node, own in result.state.items():
            for name, array in own.items():
                self._state[node][name][rows] = array
        return result.features, result.full

    def _new_sensors(self, ids: Sequence[str]) -> list[Sensor]:
        while len(self._free) < len(ids):
            self._grow()
        sensors = [Sensor(sensor_id, self._free.pop(), self.heads) for sensor_id in ids]
        self.heads.clear(_rows(sensors))
        self.sensors.update(zip(ids, sensors, strict=True))
        return sensors

    def _reset(self, rows: Indices) -> None:
        for node, own in self._fresh.items():
            for name, array in own.items():
                self._state[node][name][rows] = array

    def _fresh_state(self, rows: int) -> dict[str, State]:
        last = {"last": np.zeros((rows, self.pipeline.signal.channels))}
        return fresh_state(self.pipeline, rows) | {RAW_INPUT: last}

    def _grow(self) -> None:
        """Double the rows; the new ones take no memory before they are used, as nobody has written to them."""
        capacity = next(len(array) for own in self._state.values() for array in own.values())
        for own in self._state.values():
            for name, array in own.items():
                own[name] = np.empty((2 * capacity, *array.shape[1:]), array.dtype)
                own[name][:capacity] = array
        self.heads.grow(2 * capacity)
        self._free.extend(range(2 * capacity - 1, capacity - 1, -1))


def _slabs(runs: list[Run]) -> Iterable[list[Run]]:
    """Split a round into groups of one length, each small enough for the cache."""
    by_length: dict[int, list[Run]] = {}
    for run in runs:
        by_length.setdefault(run.samples, []).append(run)
    for length, same in by_length.items():
        size = max(1, SLAB_SAMPLES // length)
        for start in range(0, len(same), size):
            yield same[start : start + size]


def _rows(sensors: Sequence[Sensor]) -> Indices:
    return np.array([sensor.row for sensor in sensors], dtype=np.intp)
