"""A sensor in memory, and the blocks that come for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from app.dsp.heads import Heads
from app.dsp.snapshot import Behind, Header, Position
from app.dsp.stage import Floats, Indices


class Sensor:
    """One sensor in memory: its row in the arrays, and where its stream stands.

    What changes with every block lies in columns (`app.dsp.heads`), and can be read and set here.

    Parameters
    ----------
    id
        Name of the sensor.
    row
        Its own in the engine's arrays, and in the columns.
    heads
        The engine's columns; a sensor of no engine has one row for itself.
    """

    __slots__ = ("behind", "epoch", "heads", "id", "previous", "restarts", "row", "stream")

    def __init__(self, id: str, row: int, heads: Heads | None = None) -> None:  # noqa: A002 - its name everywhere
        self.id = id
        self.row = row
        self.heads = Heads(1) if heads is None else heads
        #: Raised by whoever claims the sensor; the engine carries it along.
        self.epoch = 0
        #: How often its stream began anew, so that a lower index is not taken for an older state.
        self.restarts = 0
        #: The device's id of the stream; empty where it sends none.
        self.stream = ""
        #: Id of the stream before.
        self.previous = ""
        #: Blocks dropped since the last one consumed, if the device may have begun anew with them.
        self.behind: Behind | None = None

    @property
    def next_index(self) -> int:
        """Index of the next sample; -1 before the first block."""
        return self.heads.next_index[self.row]

    @next_index.setter
    def next_index(self, index: int) -> None:
        self.heads.next_index[self.row] = index

    @property
    def next_time(self) -> float:
        """Time expected of the next sample, ms; NaN where it is unknown."""
        return float(self.heads.next_time[self.row])

    @next_time.setter
    def next_time(self, time: float) -> None:
        self.heads.next_time[self.row] = time

    @property
    def since(self) -> int:
        """Index from which on no sample is missing."""
        return self.heads.since[self.row]

    @since.setter
    def since(self, index: int) -> None:
        self.heads.since[self.row] = index

    @property
    def blocks(self) -> int:
        """Blocks since its last snapshot."""
        return self.heads.blocks[self.row]

    @blocks.setter
    def blocks(self, count: int) -> None:
        self.heads.blocks[self.row] = count

    @property
    def position(self) -> Position | None:
        """How far its source has been consumed."""
        return self.heads.position(self.row)

    @position.setter
    def position(self, position: Position | None) -> None:
        self.heads.set_position(self.row, position)

    @property
    def age(self) -> tuple[int, int]:
        """Of two states of one sensor the one with the greater age is the newer, whoever made it."""
        return self.restarts, self.next_index

    def go_on_from(self, header: Header) -> None:
        """Stand in the stream where a snapshot stood."""
        self.epoch = header.epoch
        self.restarts = header.restarts
        self.stream = header.stream
        self.previous = header.previous
        self.since = header.since
        self.next_index = header.next
        self.next_time = header.time
        self.behind = header.behind
        self.position = header.position

    def take_place_of(self, other: Sensor) -> None:
        """Stand in the stream where another sensor stands."""
        self.epoch = other.epoch
        self.restarts = other.restarts
        self.stream = other.stream
        self.previous = other.previous
        self.since = other.since
        self.next_index = other.next_index
        self.next_time = other.next_time
        self.behind = other.behind
        self.position = other.position


class Blocks(NamedTuple):
    """Blocks of one pipeline from one partition, in the partition's order."""

    sensors: Sequence[Sensor]
    timestamps: Sequence[float]
    """Time of each block's first sample, ms."""
    seqs: Sequence[int | None]
    """Index of each block's first sample, where the message says."""
    streams: Sequence[str | None]
    """The device's id of the stream, where the message says."""
    offsets: Sequence[int]
    """Offset of the message that each block came in."""
    values: Floats
    """Samples of all blocks, one block after another, channels interleaved."""
    bounds: Sequence[int]
    """Where each block begins in ``values``, and where the last ends."""


class Samples(NamedTuple):
    """Samples of blocks, those made up among them."""

    values: Floats
    """Of all blocks, channels interleaved."""
    begins: Indices
    """(blocks,) where each begins."""
    ends: Indices
    """(blocks,) where each ends."""

    def of(self, numbers: Indices) -> Floats:
        """Give the samples of some blocks, one after another; a view, where they lie so."""
        begins, ends = self.begins[numbers], self.ends[numbers]
        if (begins[1:] == ends[:-1]).all():
            return self.values[begins[0] : ends[-1]]
        return np.concatenate([self.values[begin:end] for begin, end in zip(begins, ends, strict=True)])


class Deferral(NamedTuple):
    """Blocks of a sensor given back, because samples are missing before the first of them."""

    first: int
    """Index of the first block's first sample."""
    blocks: list[int]
    """Numbers of the blocks, in order."""
