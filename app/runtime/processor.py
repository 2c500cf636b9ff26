"""From a partition batch to feature records and dead letters, with the state of all sensors of a tier."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from app.dsp.engine import Blocks, Engine, Sensor
from app.dsp.errors import SnapshotError
from app.dsp.pipeline import Pipeline
from app.dsp.snapshot import Position
from app.runtime.mirror import Saved
from app.wire.decode import BadInput, BlockColumns, decode
from app.wire.features import FeatureEncoder
from app.wire.reasons import Reason

#: Reads the snapshots of sensors (by encoded id) from a partition of the tier's table.
ReadSnapshots = Callable[[int, Sequence[bytes]], Sequence[bytes | None]]


@dataclass(slots=True)
class Counts:
    """What became of the blocks of a batch."""

    blocks: int = 0
    samples: int = 0
    features: int = 0
    replayed: int = 0
    late: int = 0
    gaps: int = 0

    def add(self, other: Counts) -> None:
        """Add another batch's counts."""
        self.blocks += other.blocks
        self.samples += other.samples
        self.features += other.features
        self.replayed += other.replayed
        self.late += other.late
        self.gaps += other.gaps


@dataclass(slots=True)
class Output:
    """What a batch gives."""

    features: dict[str, list[tuple[bytes, bytes]]] = field(default_factory=dict)
    """Sensor id and record of each feature, by pipeline, in order."""
    bad: list[BadInput] = field(default_factory=list)
    counts: Counts = field(default_factory=Counts)
    most_blocks: int = 0
    """Most blocks that one of the batch's sensors has had since its last snapshot."""


class Processor:
    """The engines of a tier, and which sensor's state changed in which partition.

    Parameters
    ----------
    tier
        Its name, for the feature records.
    topic
        Its sensors' topic.
    pipelines
        Known pipelines by name.
    default
        Name of the tier's own pipeline.
    read_snapshots
        Gives the stored state of sensors that are not in memory.
    """

    def __init__(
        self,
        tier: str,
        topic: str,
        pipelines: Mapping[str, Pipeline],
        default: str,
        read_snapshots: ReadSnapshots,
    ) -> None:
        self.topic = topic
        self._pipelines = pipelines
        self._default = default
        self._read_snapshots = read_snapshots
        self._engines = {name: Engine(pipeline) for name, pipeline in pipelines.items()}
        self._encoders = {name: FeatureEncoder(pipeline, tier) for name, pipeline in pipelines.items()}
        self._partitions: defaultdict[int, dict[Sensor, Engine]] = defaultdict(dict)
        self._changed: defaultdict[int, dict[Sensor, Engine]] = defaultdict(dict)
        self._latest: dict[bytes, bytes] = {}

    def process(self, partition: int, records: Sequence[Any]) -> Output:
        """Consume a batch of a partition's records."""
        decoded = decode(records, self._pipelines, self._default)
        output = Output(bad=decoded.bad)
        position = Position(self.topic, partition, records[-1].offset + 1)
        for columns in decoded.columns:
            self._run(columns, records, position, output)
        return output

    def _run(self, columns: BlockColumns, records: Sequence[Any], position: Position, output: Output) -> None:
        name = columns.pipeline.name
        engine = self._engines[name]
        unusable = self._bring_in(engine, set(columns.sensor_ids), position.partition)
        if unusable:
            refused = {number for number, sensor_id in enumerate(columns.sensor_ids) if sensor_id in unusable}
            output.bad += [
                BadInput(columns.records[number], Reason.UNUSABLE_STATE, unusable[columns.sensor_ids[number]])
                for number in sorted(refused)
            ]
            columns = columns.without(refused)
            if not columns.sensor_ids:
                return
        sensors = [engine.sensors[sensor_id] for sensor_id in columns.sensor_ids]
        offsets = [records[index].offset for index in columns.records]
        features = engine.process(
            Blocks(sensors, columns.timestamps, columns.seqs, offsets, columns.values, columns.bounds), position
        )
        encoded = self._encoders[name].encode(columns, features)
        keys = [columns.sensor_ids[block].encode() for block in features.block.tolist()]
        output.features[name] = list(zip(keys, encoded, strict=True))
        self._latest.update(output.features[name])
        changed = self._changed[position.partition]
        for block in features.block.tolist():
            changed[sensors[block]] = engine
        output.most_blocks = max(output.most_blocks, *(sensor.blocks for sensor in sensors))
        gaps = sum(gap > 0 for gap in features.gap)
        output.counts.add(
            Counts(len(sensors), len(columns.values), len(encoded), features.replayed, features.late, gaps)
        )

    def _bring_in(self, engine: Engine, sensor_ids: set[str], partition: int) -> dict[str, str]:
        """Take sensors in that are not in memory; gives why for each whose state cannot be used."""
        missing = sorted(sensor_ids - engine.sensors.keys())
        if not missing:
            return {}
        unusable = {}
        for other in self._engines.values():
            for sensor_id in other.sensors.keys() & missing:
                unusable[sensor_id] = (
                    f"sensor {sensor_id!r} runs pipeline {other.pipeline.name}, not {engine.pipeline.name}:"
                    " send another pipeline's blocks under another sensorId"
                )
        wanted = [sensor_id for sensor_id in missing if sensor_id not in unusable]
        stored = self._read_snapshots(partition, [sensor_id.encode() for sensor_id in wanted])
        snapshots = {sensor_id: value for sensor_id, value in zip(wanted, stored, strict=True) if value is not None}
        try:
            sensors = engine.restore(snapshots) if snapshots else []
        except SnapshotError:
            sensors = []
            for sensor_id, snapshot in snapshots.items():
                try:
                    sensors += engine.restore({sensor_id: snapshot})
                except SnapshotError as error:
                    unusable[sensor_id] = f"sensor {sensor_id!r}: {error}"
        sensors += engine.admit([sensor_id for sensor_id in wanted if sensor_id not in snapshots])
        self._partitions[partition].update(dict.fromkeys(sensors, engine))
        return unusable

    @property
    def sensor_count(self) -> int:
        """Sensors in memory."""
        return sum(len(engine.sensors) for engine in self._engines.values())

    def take_states(self, partition: int) -> list[Saved]:
        """States of a partition's sensors that changed since they were taken last."""
        by_engine: defaultdict[Engine, list[Sensor]] = defaultdict(list)
        for sensor, engine in self._changed.pop(partition, {}).items():
            by_engine[engine].append(sensor)
        states = []
        for engine, sensors in by_engine.items():
            pipeline = engine.pipeline
            for sensor, snapshot in zip(sensors, engine.snapshots(sensors), strict=True):
                features = self._latest.pop(sensor.id.encode())
                states.append(
                    Saved(
                        sensor.id,
                        snapshot,
                        sensor.epoch,
                        sensor.next_index,
                        cast("Position", sensor.position),
                        pipeline.name,
                        pipeline.signal.sample_rate,
                        features,
                    )
                )
        return states

    def release(self, partitions: Iterable[int]) -> None:
        """Forget all sensors of partitions that this worker gives up."""
        for partition in partitions:
            by_engine: defaultdict[Engine, list[Sensor]] = defaultdict(list)
            for sensor, engine in self._partitions.pop(partition, {}).items():
                by_engine[engine].append(sensor)
            for engine, sensors in by_engine.items():
                engine.evict(sensors)
            for sensor in self._changed.pop(partition, {}):
                self._latest.pop(sensor.id.encode(), None)
