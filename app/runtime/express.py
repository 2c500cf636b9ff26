"""The express lane: blocks that follow what came before go from the broker's bytes to feature records as arrays.

What it does to a sensor's state is what the ordinary way would do. It takes a sensor's blocks of a stretch all or not
at all, so that they stay in order; whatever is not plain is left to the ordinary way (`Taken.rest`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from app.compiled.decode import PlainBlocks, decode_plain
from app.compiled.directory import Directory
from app.compiled.features import FeatureBatches, Rows
from app.compiled.placing import NONE, place
from app.dsp.placement import MAX_RUN
from app.dsp.stage import Floats, Indices
from app.dsp.stream import Samples
from app.runtime.express_columns import Columns, Newest
from app.runtime.feature_queue import Records

if TYPE_CHECKING:
    from app.dsp.engine import Engine
    from app.runtime.processor import Resident
    from app.runtime.stretches import Lot
    from app.transport.raw_records import RawRecords

Bytes = NDArray[np.uint8]
Mask = NDArray[np.bool_]

_UNLIMITED = 1 << 62


class Stretch(NamedTuple):
    """Messages of some partitions, one after another."""

    messages: tuple[Bytes, Indices, Indices, Indices, Indices]
    """Their bytes, and where each one's key begins and ends, and its value; the beginning is -1 where there is none."""
    offsets: Indices
    partitions: Indices
    ends: Indices
    """Offset at which each one's partition ends here."""

    @classmethod
    def of(cls, lots: Sequence[Lot]) -> Stretch:
        """Put together."""
        records = [cast("RawRecords", lot.records) for lot in lots]
        ends = {lot.partition: int(own.offsets[-1]) + 1 for lot, own in zip(lots, records, strict=True)}
        of_lot = np.repeat(np.arange(len(lots)), [len(own) for own in records])
        return cls(
            _messages(records),
            np.concatenate([own.offsets for own in records]),
            np.array([lot.partition for lot in lots], dtype=np.int64)[of_lot],
            np.array([ends[lot.partition] for lot in lots], dtype=np.int64)[of_lot],
        )

    def message(self, number: int) -> tuple[bytes, bytes]:
        """Give key and value of a message; empty where there is none."""
        data, key_begins, key_ends, value_begins, value_ends = self.messages
        return (
            b"" if key_begins[number] < 0 else data[key_begins[number] : key_ends[number]].tobytes(),
            b"" if value_begins[number] < 0 else data[value_begins[number] : value_ends[number]].tobytes(),
        )


def _messages(lots: Sequence[RawRecords]) -> tuple[Bytes, Indices, Indices, Indices, Indices]:
    """Give the messages of lots of records, with the bytes of all of them in one array."""
    pieces, columns, length = [], [], 0
    for own in lots:
        places = (own.key_begins, own.key_ends, own.value_begins, own.value_ends)
        if len(lots) == 1:
            return (own.data, *places)
        begins = np.concatenate(places[::2])
        known = begins[begins >= 0]
        low = int(known.min()) if len(known) else 0
        high = max(low, int(own.key_ends.max()), int(own.value_ends.max()))
        pieces.append(own.data[low:high])
        columns.append([np.where(begin < 0, begin, begin + length - low) for begin in places])
        length += high - low
    key_begins, key_ends, value_begins, value_ends = (np.concatenate(column) for column in zip(*columns, strict=True))
    return np.concatenate(pieces), key_begins, key_ends, value_begins, value_ends


def _may_be_frame(value: bytes) -> bool:
    """Whether a message may hold blocks of others than the sensor that its key names."""
    return value[:1] > b"\x7f" and b"blocks" in value


def _most(partitions: Indices, blocks: Indices) -> dict[int, int]:
    """Give the greatest number by partition."""
    present, places = np.unique(partitions, return_inverse=True)
    most = np.zeros(len(present), dtype=np.int64)
    np.maximum.at(most, places, blocks)
    return dict(zip(present.tolist(), most.tolist(), strict=True))


class Sent(NamedTuple):
    """What an engine's sensors give in a stretch."""

    engine: Engine
    blocks: int
    samples: int
    clock_jumps: int
    records: Records
    most_blocks: dict[int, int]
    """By partition: most blocks that one of its sensors has had since its last snapshot."""


@dataclass
class Taken:
    """What a stretch gives."""

    sent: list[Sent] = field(default_factory=list)
    rest: list[list[int]] = field(default_factory=list)
    """Of each lot, the numbers of the messages that are left, or hold blocks that are."""
    done: list[set[str]] = field(default_factory=list)
    """Of each lot, sensors whose blocks have been consumed, also of messages that are left."""


class Express:
    """The express lane of a tier.

    Parameters
    ----------
    topic
        The tier's.
    tier
        Its name.
    engines
        Of its pipelines, by name.
    set_pipeline
        Gives the name of the pipeline that has been set of a sensor; empty where none has.
    mark_changed
        Called with sensors that have changed since their states were taken.
    """

    def __init__(
        self,
        topic: str,
        tier: str,
        engines: Mapping[str, Engine],
        set_pipeline: Callable[[str], str],
        mark_changed: Callable[[Iterable[Resident]], None],
    ) -> None:
        self._topic = topic
        self._set_pipeline = set_pipeline
        self._mark_changed = mark_changed
        self._sensors, self._names, self._streams = Directory(), Directory(), Directory()
        self._engines = {self._names.add(name): engine for name, engine in engines.items()}
        self._numbers = {engine: number for number, engine in self._engines.items()}
        self._encoders = {engine: FeatureBatches(engine.pipeline, tier) for engine in engines.values()}
        self._newest = {engine: Newest(sum(engine.pipeline.widths)) for engine in engines.values()}
        self._columns = Columns()
        self._by_entry: dict[int, Resident] = {}
        #: How many sensors send each stream id.
        self._users: dict[str, int] = {}
        self._stream_of: dict[int, str] = {}
        self._stamp = 0

    # -- which sensors

    def follow(self, resident: Resident) -> None:
        """Let a sensor's next blocks come this way, if they may, now that a block of its went the ordinary way."""
        sensor, number = resident.sensor, self._numbers.get(resident.engine)
        heads = sensor.heads
        plain = (
            number is not None
            and resident.shadow is None
            and sensor.behind is None
            and sensor.next_index >= 0
            and heads.source[sensor.row] == heads.number_of(self._topic, resident.partition)
            and self._set_pipeline(sensor.id) in {"", resident.engine.pipeline.name}
        )
        if not plain:
            self.refuse([sensor.id])
            return
        entry = self._sensors.add(sensor.id)
        self._columns.reserve(self._sensors.capacity)
        self._by_entry[entry] = resident
        self._columns.set(entry, self._numbers[resident.engine], sensor.row, resident.partition)
        self._columns.stream[entry] = self._stream_entry(entry, sensor.stream)
        self._columns.plain[entry] = 1

    def forget_newest(self, residents: Iterable[Resident]) -> None:
        """Note that sensors' last records were made the ordinary way."""
        for resident in residents:
            if resident.engine in self._newest:
                self._newest[resident.engine].forget(resident.sensor.row)

    def _stream_entry(self, entry: int, stream: str) -> int:
        before = self._stream_of.get(entry, "")
        if stream == before:
            return self._streams.find(stream) if stream else NONE
        self._leave_stream(entry)
        if not stream:
            return NONE
        self._stream_of[entry] = stream
        self._users[stream] = self._users.get(stream, 0) + 1
        return self._streams.add(stream)

    def _leave_stream(self, entry: int) -> None:
        stream = self._stream_of.pop(entry, "")
        if stream:
            self._users[stream] -= 1
            if not self._users[stream]:
                del self._users[stream]
                self._streams.remove(stream)

    def refuse(self, sensor_ids: Iterable[str]) -> None:
        """Let sensors' next blocks go the ordinary way, which says when they may come back."""
        for sensor_id in sensor_ids:
            entry = self._sensors.find(sensor_id)
            if entry >= 0:
                self._columns.plain[entry] = 0

    def forget(self, resident: Resident) -> None:
        """Forget a sensor that leaves memory, or goes on in another engine."""
        self.forget_newest([resident])
        entry = self._sensors.find(resident.sensor.id)
        if entry >= 0:
            self._columns.clear(entry)
            self._leave_stream(entry)
            del self._by_entry[entry]
            self._sensors.remove(resident.sensor.id)

    def used(self, resident: Resident) -> float:
        """Say when a sensor last had a block this way, on the monotonic clock, s; the beginning of time if never."""
        entry = self._sensors.find(resident.sensor.id)
        return float(self._columns.used[entry]) if entry >= 0 else -np.inf

    def take_changes(self, residents: Iterable[Resident]) -> None:
        """Note that states are taken: whoever changes from now on has changed."""
        for resident in residents:
            entry = self._sensors.find(resident.sensor.id)
            if entry >= 0:
                self._columns.changed[entry] = 0

    def newest(self, engine: Engine, residents: Sequence[Resident]) -> list[bytes | None]:
        """Give the last feature records of an engine's sensors; None where the last block went the ordinary way."""
        found: list[bytes | None] = [None] * len(residents)
        newest = self._newest.get(engine)
        known = [] if newest is None else [n for n, own in enumerate(residents) if newest.knows(own.sensor.row)]
        if newest is not None and known:
            entries = np.array([self._sensors.find(residents[number].sensor.id) for number in known])
            rows = np.array([residents[number].sensor.row for number in known])
            records = self._encoders[engine].records(self._rows(entries, *newest.of(rows)))
            for number, record in zip(known, records, strict=True):
                found[number] = record
        return found

    # -- blocks

    def take(self, lots: Sequence[Lot], held: Iterable[str]) -> Taken:
        """Consume what is plain of a stretch.

        Parameters
        ----------
        lots
            The stretch, in order.
        held
            Sensors whose blocks must wait.
        """
        stretch = Stretch.of(lots)
        blocks = decode_plain(*stretch.messages, self._sensors, self._names, self._streams)
        self._stamp += 1
        self._columns.refuse(self._stamp, (self._sensors.find(sensor_id) for sensor_id in held))
        not_plain = [stretch.message(number) for number in np.flatnonzero(~blocks.plain).tolist()]
        if any(_may_be_frame(value) for _, value in not_plain):
            # Whose blocks are in it is not known.
            return Taken([], [list(range(len(lot.records))) for lot in lots], [set() for _ in lots])
        self._columns.refuse(self._stamp, (self._entry_of(key) for key, _ in not_plain))
        taken = Taken()
        left = np.ones(len(blocks.sensor), dtype=np.bool_)
        if len(left):
            present = np.unique(self._columns.engine[blocks.sensor[blocks.sensor >= 0]]).tolist()
            taken.sent = [sent for number in present if (sent := self._advance(number, blocks, stretch, left))]
        rest = ~blocks.plain
        rest[blocks.record[left]] = True
        self._split(taken, lots, blocks, left, rest)
        return taken

    def _entry_of(self, key: bytes) -> int:
        try:
            return self._sensors.find(key.decode())
        except UnicodeDecodeError:
            return -1

    def _advance(self, number: int, blocks: PlainBlocks, stretch: Stretch, left: Mask) -> Sent | None:
        """Consume the blocks of an engine's sensors; those that are consumed are `left` no more."""
        engine, columns = self._engines[number], self._columns
        signal, heads = engine.pipeline.signal, engine.heads.columns
        numbers, rows, firsts, newly = (np.empty(len(blocks.sensor), dtype=np.int64) for _ in range(4))
        partition = stretch.partitions[blocks.record]
        placed, changes, jumps = place(
            (
                blocks.sensor,
                blocks.timestamp,
                blocks.seq,
                blocks.rate,
                blocks.channels,
                blocks.pipeline,
                blocks.stream,
                blocks.bounds,
                stretch.offsets[blocks.record],
                partition,
                stretch.ends[blocks.record],
            ),
            columns.entries,
            (heads.next_index, heads.next_time, heads.blocks, heads.offset),
            columns.scratch,
            (numbers, rows, firsts, newly),
            self._stamp,
            (number, signal.channels, _UNLIMITED if engine.fused else MAX_RUN, float(signal.sample_rate)),
            time.monotonic(),
        )
        if not placed:
            return None
        numbers, rows, firsts = numbers[:placed], rows[:placed], firsts[:placed]
        left[numbers] = False
        self._mark_changed([self._by_entry[entry] for entry in newly[:changes].tolist()])
        values, full = engine.step(rows, numbers, Samples(blocks.values, blocks.bounds[:-1], blocks.bounds[1:]))
        timestamps, entries = blocks.timestamp[numbers], blocks.sensor[numbers]
        self._newest[engine].note(rows, timestamps, firsts, values, full)
        return Sent(
            engine,
            placed,
            int((blocks.bounds[numbers + 1] - blocks.bounds[numbers]).sum()),
            jumps,
            Records(self._encoders[engine], self._rows(entries, timestamps, firsts, values, full)),
            _most(partition[numbers], heads.blocks[rows]),
        )

    def _rows(self, entries: Indices, timestamps: Indices, seqs: Indices, values: Floats, full: Mask) -> Rows:
        """Give what records of entries' sensors are made of."""
        sensors = self._sensors
        begins, ends = sensors.text_begins[entries], sensors.text_ends[entries]
        return Rows(sensors.texts, begins, ends, timestamps, seqs, values, full)

    def _split(self, taken: Taken, lots: Sequence[Lot], blocks: PlainBlocks, left: Mask, rest: Mask) -> None:
        """Say by part which messages are left, and whose blocks in them have been consumed."""
        begin = 0
        mixed = np.flatnonzero(~left & rest[blocks.record]) if len(left) else np.empty(0, dtype=np.intp)
        records, entries = blocks.record[mixed], blocks.sensor[mixed]
        for lot in lots:
            end = begin + len(lot.records)
            taken.rest.append(np.flatnonzero(rest[begin:end]).tolist())
            own = entries[(records >= begin) & (records < end)]
            taken.done.append({self._by_entry[entry].sensor.id for entry in set(own.tolist())})
            begin = end
