"""Which pipeline the blocks run that name none: what was set of their sensor, else what ran last, else the tier's.

What ran last is known of a sensor in memory. Of one that is met Redis is asked, for all of a batch at once, and the
table's snapshot; nothing of the answer is kept, as the sensor is in memory from then on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from app.dsp.pipeline import Pipeline
from app.runtime.claims import Claims
from app.runtime.copies import Copy, ReadSnapshots, read_copies
from app.runtime.processor import Resident
from app.runtime.waiting import Waiting
from app.sensors.described import UNKNOWN
from app.sensors.metadata import SensorMeta
from app.wire.decode import Decoded, Record, decode, first_pipelines


class Resolver:
    """Decodes a tier's batches, each block for its pipeline.

    Parameters
    ----------
    default
        The tier's pipeline.
    pipelines
        Known ones by name.
    metas
        What has been set, by sensor; others change it.
    residents, waiting
        Sensors in memory, and those whose blocks are held.
    claims
        Redis.
    read_snapshots
        Reads the tier's table.
    former_name
        Gives the name of the pipeline of a fingerprint that is none of the known ones'; empty where nobody knows.
    """

    def __init__(
        self,
        default: str,
        pipelines: Mapping[str, Pipeline],
        metas: Mapping[str, SensorMeta],
        residents: Mapping[str, Resident],
        waiting: Mapping[str, Waiting],
        claims: Claims,
        read_snapshots: ReadSnapshots,
        former_name: Callable[[bytes], str],
    ) -> None:
        self._default = default
        self._pipelines = pipelines
        self._metas = metas
        self._residents = residents
        self._waiting = waiting
        self._claims = claims
        self._read_snapshots = read_snapshots
        self._former_name = former_name
        self._names = {pipeline.fingerprint: name for name, pipeline in pipelines.items()}
        #: Of the batch in hand only.
        self._learnt: dict[str, str] = {}
        self._unknown: set[str] = set()

    def set_pipeline(self, sensor_id: str) -> str:
        """Name of the pipeline that has been set of a sensor; empty if none has."""
        meta = self._metas.get(sensor_id)
        return "" if meta is None else meta.pipeline

    async def decode(self, records: Sequence[Record], partition: int) -> Decoded:
        """Decode messages of a partition of the tier's topic."""
        self._learnt.clear()
        while True:
            # All of it again: a sensor's blocks must stay in order, those that name their pipeline among them. And
            # more than once, should another sensor leave memory while we ask.
            decoded = decode(records, self._pipelines, self._pipeline_of)
            if not self._unknown:
                return decoded
            unknown = sorted(self._unknown)
            # One whose first block here names its pipeline goes on in that, as if the others came a batch later.
            begun = first_pipelines(decoded.columns, self._unknown)
            self._unknown.clear()
            self._learnt |= await self._learn(unknown, begun, partition)

    def _pipeline_of(self, sensor_id: str) -> str:
        # Called for each block that names none, so it takes the shortest way.
        meta = self._metas.get(sensor_id)
        if meta is not None and meta.pipeline:
            return meta.pipeline
        resident = self._residents.get(sensor_id)
        if resident is not None:
            return resident.engine.pipeline.name
        waiting = self._waiting.get(sensor_id)
        if waiting is not None and waiting.portions:
            return waiting.portions[-1].columns.pipeline.name
        name = self._learnt.get(sensor_id, "")
        if not name:
            self._unknown.add(sensor_id)
        return name or self._default

    async def _learn(self, sensor_ids: Sequence[str], begun: Mapping[str, str], partition: int) -> dict[str, str]:
        """Tell what sensors ran last that are met, as far as anybody knows, else what they begin with."""
        answers = await self._claims.described(sensor_ids) or {}
        copies = read_copies(self._read_snapshots, partition, sensor_ids)
        names = {}
        for sensor_id, copy in copies.items():
            own = answers.get(sensor_id, UNKNOWN)
            mirrored = own.pipeline if copy is None or copy.age <= (own.restarts, own.next) else ""
            names[sensor_id] = mirrored or self._made(copy) or own.pipeline or begun.get(sensor_id, self._default)
        return names

    def _made(self, copy: Copy | None) -> str:
        """Name of the pipeline that made a copy."""
        if copy is None or copy.fingerprint is None:
            return ""
        return self._names.get(copy.fingerprint) or self._former_name(copy.fingerprint)
