"""The sensors of a tier in memory: their engines, and what changed since it was saved last."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple, cast

import msgspec

from app.dsp.engine import Engine, Features
from app.dsp.pipeline import Pipeline
from app.dsp.snapshot import Position
from app.dsp.stream import Blocks, Deferral, Sensor
from app.mirror.states import Saved
from app.runtime.portion import Portion
from app.wire.features import FeatureEncoder

if TYPE_CHECKING:
    from app.runtime.express import Express


@dataclass(slots=True, eq=False)
class Shadow:
    """A sensor's state in a changed pipeline, which settles while the one before goes on."""

    sensor: Sensor
    engine: Engine
    samples: int = 0
    """Consumed so far, per channel."""


@dataclass(slots=True, eq=False)
class Resident:
    """A sensor in memory."""

    sensor: Sensor
    engine: Engine
    partition: int
    """Of the tier's topic, the one its blocks come from."""
    used: float
    """When its last block came, on the monotonic clock, s."""
    latest: bytes = b""
    """Its last feature record."""
    roams: bool = False
    """Whether its state came from another source than its blocks: its missing blocks may lie there."""
    shadow: Shadow | None = None
    """What is to take over from the engine that it still runs in; None almost always."""


class Output(NamedTuple):
    """What a portion gives."""

    features: list[tuple[bytes, bytes]]
    """Sensor id and record of each feature, in order."""
    deferred: dict[str, Deferral]
    """Blocks that were left alone, because samples before them are missing, by sensor."""
    events: Counter[str]
    """What happened to blocks, by the engine's reasons."""
    samples: int
    most_blocks: int
    """Most blocks that one of the portion's sensors has had since its last snapshot."""
    settled: list[str]
    """Sensors whose shadow has settled."""


class _Engines(dict[str, Engine]):
    """Engines by their pipelines' names, each made when it is first asked for."""

    def __init__(self, pipelines: Mapping[str, Pipeline], *, fuse: bool) -> None:
        super().__init__()
        self._pipelines = pipelines
        self._fuse = fuse

    def __missing__(self, name: str) -> Engine:
        engine = self[name] = Engine(self._pipelines[name], fuse=self._fuse)
        return engine


class _Encoders(dict[Engine, FeatureEncoder]):
    """Encoders of engines' features, each made when it is first asked for."""

    def __init__(self, tier: str) -> None:
        super().__init__()
        self._tier = tier

    def __missing__(self, engine: Engine) -> FeatureEncoder:
        encoder = self[engine] = FeatureEncoder(engine.pipeline, self._tier)
        return encoder


class Processor:
    """The engines of a tier, and which sensor's state changed in which partition.

    Parameters
    ----------
    tier
        Its name, for the feature records.
    pipelines
        Known pipelines by name.
    cold
        Whether to make only the engines that are used, and without numba, which takes longer to load than it saves
        over a few events; else all at once, so that no batch waits for it.
    """

    def __init__(self, tier: str, pipelines: Mapping[str, Pipeline], *, cold: bool = False) -> None:
        self.engines = _Engines(pipelines, fuse=not cold)
        if not cold:
            for name in pipelines:
                self.engines[name]
        self.residents: dict[str, Resident] = {}
        self._pipelines = pipelines
        self._encoders = _Encoders(tier)
        #: Engines of pipelines that have changed since, by the engine that replaces each and its fingerprint.
        self._former: dict[tuple[Engine, bytes], Engine] = {}
        self._shadowed = 0
        self._changed: defaultdict[int, dict[Resident, None]] = defaultdict(dict)
        #: Set by a tier that has one.
        self.express: Express | None = None

    def mark_changed(self, residents: Iterable[Resident]) -> None:
        """Note that sensors have changed since their states were taken last."""
        for resident in residents:
            self._changed[resident.partition][resident] = None

    def strangers(self, portion: Portion) -> set[str]:
        """Sensors of a portion that are not in memory for its pipeline and partition; the others count as used."""
        engine, partition = self.engines[portion.columns.pipeline.name], portion.partition
        now, residents = time.monotonic(), self.residents
        strangers = set()
        for sensor_id in set(portion.columns.sensor_ids):
            resident = residents.get(sensor_id)
            if (
                resident is None
                or resident.partition != partition
                or (resident.engine is not engine and (resident.shadow is None or resident.shadow.engine is not engine))
            ):
                strangers.add(sensor_id)
            else:
                resident.used = now
        return strangers

    def is_changed(self, pipeline: str, fingerprint: bytes | None) -> bool:
        """Whether a fingerprint is that of no pipeline there is, so that the one of this name may come after it."""
        # Most are its own.
        return fingerprint not in {None, self.engines[pipeline].pipeline.fingerprint} and all(
            pipeline.fingerprint != fingerprint for pipeline in self._pipelines.values()
        )

    def take_in(self, pipeline: str, partition: int, snapshots: Mapping[str, bytes | None]) -> list[Sensor]:
        """Take sensors into memory, each from its snapshot or, without one, as one that has seen nothing.

        Raises
        ------
        SnapshotError
            A snapshot is damaged or of another pipeline; nobody has been taken in then.
        """
        engine = self.engines[pipeline]
        known = {sensor_id: snapshot for sensor_id, snapshot in snapshots.items() if snapshot is not None}
        sensors = engine.restore(known) if known else []
        sensors += engine.admit([sensor_id for sensor_id in snapshots if sensor_id not in known])
        now = time.monotonic()
        for sensor in sensors:
            self.residents[sensor.id] = Resident(sensor, engine, partition, now)
        return sensors

    def take_in_shadowed(
        self, former: Pipeline, pipeline: str, partition: int, snapshots: Mapping[str, bytes]
    ) -> list[Sensor]:
        """Take in sensors that go on with a former pipeline while the present one settles beside it, from nothing.

        Parameters
        ----------
        former
            That made the snapshots; of the same rate and channels as the present one.
        pipeline
            Name of the present one.
        partition
            Of the sensors' blocks.
        snapshots
            By sensor.
        """
        engine = self.engines[pipeline]
        key = engine, former.fingerprint
        if key not in self._former:
            now = engine.pipeline
            # The input is decoded as the present one says, and missing samples are no part of a state's identity.
            former = replace(former, name=now.name, gap=now.gap, max_gap=now.max_gap, non_finite=now.non_finite)
            self._former[key] = Engine(former)
        old = self._former[key]
        sensors = old.restore(snapshots)
        moment = time.monotonic()
        for sensor, shadow in zip(sensors, engine.admit(list(snapshots)), strict=True):
            shadow.take_place_of(sensor)
            self.residents[sensor.id] = Resident(sensor, old, partition, moment, shadow=Shadow(shadow, engine))
        self._shadowed += len(sensors)
        return sensors

    def is_shadowed(self, sensor_id: str) -> bool:
        """Whether a sensor is in memory, in a former pipeline."""
        resident = self.residents.get(sensor_id)
        return resident is not None and resident.shadow is not None

    def take_over(self, sensor_ids: Iterable[str]) -> None:
        """Let the shadows of sensors take their places."""
        for sensor_id in sensor_ids:
            resident = self.residents[sensor_id]
            if self.express is not None:
                self.express.forget(resident)
            shadow = cast("Shadow", resident.shadow)
            shadow.sensor.take_place_of(resident.sensor)
            resident.engine.evict([resident.sensor])
            resident.sensor, resident.engine, resident.shadow = shadow.sensor, shadow.engine, None
            self._shadowed -= 1

    def parts(self, portion: Portion) -> list[Portion]:
        """Split a portion so that the sensors of each part are in one engine; hardly ever anything is to be split."""
        if not self._shadowed:
            return [portion]
        numbers: defaultdict[Engine, list[int]] = defaultdict(list)
        for number, sensor_id in enumerate(portion.columns.sensor_ids):
            numbers[self.residents[sensor_id].engine].append(number)
        return [portion.only(own) for own in numbers.values()]

    def run(self, portion: Portion, *, confirmed: bool) -> Output:
        """Consume blocks of sensors that are in memory, all in one engine.

        Parameters
        ----------
        portion
            The blocks.
        confirmed
            Whether missing samples before a block are known to be missing for good; blocks after them are
            left alone otherwise.
        """
        columns, residents = portion.columns, self.residents
        engine = residents[columns.sensor_ids[0]].engine
        sensors = [residents[sensor_id].sensor for sensor_id in columns.sensor_ids]
        blocks = _blocks(sensors, portion)
        features = engine.process(blocks, portion.position, confirmed=confirmed)
        if portion.partial:
            for sensor, message in zip(sensors, portion.records, strict=True):
                sensor.position = msgspec.structs.replace(portion.position, offset=message.offset)
        encoded = self._encoders[engine].encode(columns, features)
        is_former = engine is not self.engines[columns.pipeline.name]
        changed = [residents[sensor.id] for sensor in features.changed]
        self.mark_changed(changed)
        records = []
        for block, record in zip(features.block.tolist(), encoded, strict=True):
            sensor_id = columns.sensor_ids[block]
            residents[sensor_id].latest = record
            records.append((sensor_id.encode(), record))
        if self.express is not None:
            self.express.forget_newest(residents[columns.sensor_ids[block]] for block in features.block.tolist())
            for resident in changed:
                self.express.follow(resident)
        return Output(
            records,
            {sensor.id: deferral for sensor, deferral in features.deferred.items()},
            Counter(features.events),
            len(columns.values)
            - sum(
                columns.bounds[block + 1] - columns.bounds[block]
                for deferral in features.deferred.values()
                for block in deferral.blocks
            ),
            max((sensor.blocks for sensor in sensors), default=0),
            self._run_shadows(portion, features) if is_former else [],
        )

    def _run_shadows(self, portion: Portion, features: Features) -> list[str]:
        """Run what the former pipeline was given through the present one; gives the sensors that have settled."""
        deferred = {number for deferral in features.deferred.values() for number in deferral.blocks}
        consumed = portion.without(deferred)
        columns = consumed.columns
        residents = {sensor_id: self.residents[sensor_id] for sensor_id in portion.columns.sensor_ids}
        shadows = {id_: resident.shadow for id_, resident in residents.items() if resident.shadow is not None}
        engine = self.engines[columns.pipeline.name]
        if consumed.records:
            sensors = [shadows[sensor_id].sensor for sensor_id in columns.sensor_ids]
            blocks = _blocks(sensors, consumed)
            for block in engine.process(blocks, consumed.position, confirmed=True).block.tolist():
                count = columns.bounds[block + 1] - columns.bounds[block]
                shadows[columns.sensor_ids[block]].samples += count // engine.pipeline.signal.channels
        for sensor_id, shadow in shadows.items():
            # It has placed the same blocks; but its position lies before those that were deferred.
            shadow.sensor.take_place_of(residents[sensor_id].sensor)
        return [id_ for id_, shadow in shadows.items() if shadow.samples >= engine.pipeline.settle_samples]

    def has_come_to(self, position: Position, sensor_ids: Iterable[str]) -> None:
        """Note that sensors have no more blocks before a place in the partition than they have consumed."""
        for sensor_id in sensor_ids:
            resident = self.residents.get(sensor_id)
            if resident is not None and resident.partition == position.partition:
                resident.sensor.position = position

    @property
    def sensor_count(self) -> int:
        """Sensors in memory."""
        return len(self.residents)

    def changed(self, partition: int) -> int:
        """How many of a partition's sensors changed since their states were taken last."""
        return len(self._changed.get(partition, ()))

    def take_states(self, partition: int, most: int | None = None) -> list[Saved]:
        """States of a partition's sensors that changed since they were taken last: those first that wait longest.

        Parameters
        ----------
        partition
            Whose sensors.
        most
            How many at the most; None for all.
        """
        changed = self._changed.get(partition, {})
        taken = list(islice(changed, most))
        for resident in taken:
            del changed[resident]
        return self._saved(taken)

    def states_of(self, sensor_ids: Iterable[str]) -> list[Saved]:
        """States of sensors in memory, changed or not; they count as taken."""
        residents = [self.residents[id_] for id_ in sensor_ids if id_ in self.residents]
        for resident in residents:
            self._changed[resident.partition].pop(resident, None)
        return self._saved([resident for resident in residents if resident.sensor.position is not None])

    def idle(self, since: float) -> list[Resident]:
        """Sensors that have had no block since a time on the monotonic clock, and whose state is saved."""
        return [
            resident
            for resident in self.residents.values()
            if self.last_used(resident) < since and resident not in self._changed.get(resident.partition, {})
        ]

    def last_used(self, resident: Resident) -> float:
        """When a sensor's last block came, on the monotonic clock, s."""
        return resident.used if self.express is None else max(resident.used, self.express.used(resident))

    def evict(self, sensor_ids: Iterable[str]) -> None:
        """Forget sensors, as far as they are in memory."""
        by_engine: defaultdict[Engine, list[Sensor]] = defaultdict(list)
        for sensor_id in sensor_ids:
            resident = self.residents.pop(sensor_id, None)
            if resident is not None:
                if self.express is not None:
                    self.express.forget(resident)
                by_engine[resident.engine].append(resident.sensor)
                if resident.shadow is not None:
                    by_engine[resident.shadow.engine].append(resident.shadow.sensor)
                    self._shadowed -= 1
                self._changed.get(resident.partition, {}).pop(resident, None)
        for engine, sensors in by_engine.items():
            engine.evict(sensors)

    def release(self, partitions: Container[int]) -> None:
        """Forget all sensors of partitions that this worker gives up."""
        self.evict([id_ for id_, resident in self.residents.items() if resident.partition in partitions])

    def _saved(self, residents: Sequence[Resident]) -> list[Saved]:
        by_engine: defaultdict[Engine, list[Resident]] = defaultdict(list)
        for resident in residents:
            by_engine[resident.engine].append(resident)
        if self.express is not None:
            self.express.take_changes(residents)
        states = []
        for engine, own in by_engine.items():
            name, rate = engine.pipeline.name, engine.pipeline.signal.sample_rate
            snapshots = engine.snapshots([each.sensor for each in own])
            newest = self.express.newest(engine, own) if self.express is not None else [None] * len(own)
            for resident, snapshot, latest in zip(own, snapshots, newest, strict=True):
                sensor = resident.sensor
                position = cast("Position", sensor.position)
                states.append(
                    Saved(
                        sensor.id,
                        snapshot,
                        sensor.epoch,
                        sensor.restarts,
                        sensor.next_index,
                        position,
                        name,
                        rate,
                        latest or resident.latest,
                    )
                )
        return states


def _blocks(sensors: Sequence[Sensor], portion: Portion) -> Blocks:
    """Give a portion's blocks as an engine takes them, each for its sensor."""
    columns = portion.columns
    offsets = [record.offset for record in portion.records]
    return Blocks(
        sensors,
        columns.timestamps,
        columns.seqs,
        columns.streams,
        offsets,
        columns.values,
        columns.bounds,
    )
