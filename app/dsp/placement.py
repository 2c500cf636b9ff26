"""Placing blocks in their sensors' streams: which follow, which are dropped, what is missing before them.

The rules, for a block whose sensor has consumed some already:

- Its first sample has the expected index: it follows. An index (`seq`) goes before a timestamp; that the device's
  clock has jumped is counted, and changes nothing.
- It has a later index: samples are missing. The pipeline says whether they are filled in or state begins anew.
- It has an earlier index: it is dropped, as a duplicate where all of its samples have been consumed, as late
  otherwise. A block of which a part has been consumed is dropped whole.
- It has another stream id than the block before, or index 0 and a later time: the device has begun anew, and so does
  state. A block of the stream before it is late.
- Blocks behind their stream that keep coming, each following the one before, are a device that counts or keeps time
  anew without saying so: state begins anew, once `BEHIND_MESSAGES` of them spanning `BEHIND_SECONDS` were dropped.
  Where they have an index or the stream id before, they must also be later than all that was consumed, or they are
  resent.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from app.dsp.pipeline import Pipeline
from app.dsp.snapshot import Behind, Position
from app.dsp.stream import Blocks, Deferral, Sensor
from app.dsp.stream_time import CLOCK_RESOLUTION, first_index, is_on_time

BEHIND_MESSAGES = 3
BEHIND_SECONDS = 10.0
"""How much is dropped before a device is believed to have begun anew: more than one resends after a lost reply."""

MAX_RUN = 1 << 18
"""Samples of a run, beyond which another begins; its temporaries are what memory must hold."""


@dataclass(slots=True)
class Run:
    """Blocks of one sensor that follow one another, worked on as one stretch of samples."""

    sensor: Sensor
    reset: bool
    blocks: list[int] = field(default_factory=list)
    samples: int = 0


class _Placed(NamedTuple):
    """Where a block lies that does not follow the one before."""

    first: int
    gap: int
    reset: bool


_NONE_YET: tuple[int, Run | None] = (-1, None)


class Placement:
    """Places blocks in their sensors' streams, and gathers those that follow one another into runs.

    A run is reset where state begins anew before it. A round holds at most one run a sensor, so that rounds worked
    on one after another keep each sensor's order.

    Parameters
    ----------
    pipeline
        What the blocks' sensors run.
    blocks
        To place, all at once.
    position
        Where the stretch of the partition ends.
    confirmed
        Whether samples that are missing are believed to be lost; else blocks that come after them are deferred.
    """

    def __init__(self, pipeline: Pipeline, blocks: Blocks, position: Position, *, confirmed: bool) -> None:
        self._blocks = blocks
        self._confirmed = confirmed
        self._sample_rate = pipeline.signal.sample_rate
        self._sample_ms = 1000.0 / self._sample_rate
        self._channels = pipeline.signal.channels
        self._most_filled = pipeline.most_filled
        self._source = (position.topic, position.partition)
        self._last_dropped: dict[Sensor, int] = {}
        self._latest: dict[Sensor, tuple[int, Run]] = {}
        self.accepted: list[int] = []
        self.seqs: list[int] = []
        self.gaps: list[int] = []
        self.fills: dict[int, int] = {}
        """Samples to fill in before a block, by its number."""
        self.events: Counter[str] = Counter()
        self.deferred: dict[Sensor, Deferral] = {}
        self.rounds: list[list[Run]] = []
        if blocks.sensors:
            # All of one engine.
            self._heads = blocks.sensors[0].heads
            self._source_number = self._heads.number_of(*self._source)
        for index, sensor in enumerate(blocks.sensors):
            self._place(index, sensor)
        self.changed = list(self._latest | dict.fromkeys(self._last_dropped))
        for sensor in self.changed:
            sensor.position = position
        for sensor, deferral in self.deferred.items():
            sensor.position = Position(*self._source, blocks.offsets[deferral.blocks[0]])

    def _place(self, index: int, sensor: Sensor) -> None:
        blocks = self._blocks
        if self.deferred and (deferral := self.deferred.get(sensor)):
            deferral.blocks.append(index)
            return
        heads, row = self._heads, sensor.row
        if blocks.offsets[index] < heads.offset[row] and heads.source[row] == self._source_number:
            self.events["replayed"] += 1
            return
        length = (blocks.bounds[index + 1] - blocks.bounds[index]) // self._channels
        timestamp, seq, stream = blocks.timestamps[index], blocks.seqs[index], blocks.streams[index]
        expected = heads.next_index[row]
        gap, reset = 0, False
        if seq is not None or expected < 0:
            first = seq or 0
        else:
            first = first_index(expected, heads.next_time[row], timestamp, length, self._sample_rate)
        if first != expected or (stream and stream != sensor.stream):
            placed = self._out_of_line(index, sensor, first, length)
            if placed is None:
                return
            first, gap, reset = placed
        duration = length * self._sample_ms
        if seq is not None:
            # Not so where the time is unknown, NaN.
            off = abs(timestamp - heads.next_time[row] - gap * self._sample_ms)
            if off > CLOCK_RESOLUTION and off > 0.5 * duration:
                self.events["clock_jump"] += 1
        heads.next_index[row] = first + length
        heads.next_time[row] = timestamp + duration
        heads.blocks[row] += 1
        sensor.behind = None
        self.accepted.append(index)
        self.seqs.append(first)
        self.gaps.append(gap)
        samples = length + self.fills[index] if index in self.fills else length
        number, run = self._latest.get(sensor, _NONE_YET)
        if run is None or reset or run.samples + samples > MAX_RUN:
            run = self._new_run(sensor, number + 1, reset=reset)
        run.blocks.append(index)
        run.samples += samples

    def _out_of_line(self, index: int, sensor: Sensor, first: int, length: int) -> _Placed | None:
        """Place a block that does not follow; None if it is dropped or deferred."""
        blocks = self._blocks
        stream = blocks.streams[index]
        expected = sensor.next_index
        if expected < 0:
            sensor.stream = stream or ""
            sensor.since = first
            return _Placed(first, 0, reset=False)
        if stream and stream != sensor.stream:
            if stream == sensor.previous:
                return self._behind(index, sensor, length, "late")
            return self._begin_anew(sensor, blocks.seqs[index] or 0, 0, stream)
        if first > expected:
            return self._after_gap(index, sensor, first)
        if blocks.seqs[index] == 0 and self._is_later(index, sensor, length):
            return self._begin_anew(sensor, 0, 0, sensor.stream)
        consumed = first >= sensor.since and first + length <= expected
        return self._behind(index, sensor, length, "duplicate" if consumed else "late")

    def _after_gap(self, index: int, sensor: Sensor, first: int) -> _Placed | None:
        if not self._confirmed:
            self.deferred[sensor] = Deferral(first, [index])
            return None
        gap = first - sensor.next_index
        sensor.since = first
        if gap > self._most_filled:
            self.events["gap_reset"] += 1
            return _Placed(first, gap, reset=True)
        self.events["gap_filled"] += 1
        self.fills[index] = gap
        return _Placed(first, gap, reset=False)

    def _behind(self, index: int, sensor: Sensor, length: int, kind: str) -> _Placed | None:
        """Drop a block that is behind, unless the stream is to begin anew with it."""
        blocks = self._blocks
        timestamp, seq, offset = blocks.timestamps[index], blocks.seqs[index], blocks.offsets[index]
        stream = blocks.streams[index] or sensor.stream
        if (seq is not None or stream != sensor.stream) and not self._is_later(index, sensor, length):
            self.events[kind] += 1
            return None
        run = sensor.behind
        if run is None or not (
            seq == run.next
            if seq is not None
            else run.next < 0 and is_on_time(run.time, timestamp, length, self._sample_rate)
        ):
            run = Behind(0, 0, -1, math.nan)
        if run.messages >= BEHIND_MESSAGES and run.samples >= BEHIND_SECONDS * self._sample_rate:
            after = sensor.next_index if stream == sensor.stream else 0
            return self._begin_anew(sensor, after + run.samples if seq is None else seq, run.samples, stream)
        sensor.behind = Behind(
            # Not each of a message's blocks: those of one that is read again prove nothing.
            run.messages + (self._last_dropped.get(sensor) != offset),
            run.samples + length,
            -1 if seq is None else seq + length,
            timestamp + length * self._sample_ms,
        )
        self._last_dropped[sensor] = offset
        self.events[kind] += 1
        return None

    def _begin_anew(self, sensor: Sensor, first: int, gap: int, stream: str) -> _Placed:
        if stream != sensor.stream:
            sensor.previous, sensor.stream = sensor.stream, stream
        sensor.restarts += 1
        sensor.since = first
        sensor.next_time = math.nan
        self.events["restart"] += 1
        return _Placed(first, gap, reset=True)

    def _is_later(self, index: int, sensor: Sensor, length: int) -> bool:
        """Whether a block is later in time than all that was consumed."""
        timestamp = self._blocks.timestamps[index]
        return timestamp > sensor.next_time or is_on_time(sensor.next_time, timestamp, length, self._sample_rate)

    def _new_run(self, sensor: Sensor, number: int, *, reset: bool) -> Run:
        """Begin a run of a sensor in the round of a number."""
        if number == len(self.rounds):
            self.rounds.append([])
        run = Run(sensor, reset)
        self.rounds[number].append(run)
        self._latest[sensor] = (number, run)
        return run
