"""A tier's two lanes without brokers: what goes in is made here, and what comes out is kept."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from aiokafka.structs import TopicPartition

from app.mirror.states import Claim, Saved
from app.pipelines import shipped_pipelines
from app.runtime.arrivals import Arrivals
from app.runtime.emitter import Emitter
from app.runtime.lanes import Lanes
from app.runtime.outbox import Outgoing, partition_of
from app.runtime.portion import Pending
from app.runtime.processor import Processor
from app.runtime.resolver import Resolver
from app.runtime.stretches import Lot
from app.sensors.metadata import SensorMeta
from app.settings import Settings
from app.transport.raw_records import RawRecords

TOPIC = "rt-sensors"
OUT_PARTITIONS = 12


class Kept:
    """Where an outbox would send to."""

    def __init__(self) -> None:
        self.by_key: defaultdict[tuple[str, bytes], list[bytes]] = defaultdict(list)

    async def send(self, topic: str, records: Iterable[Outgoing]) -> list[asyncio.Future[Any]]:
        for record in records:
            if topic != "dead-letters":
                self.by_key[topic, record.key or b""].append(record.value or b"")
            else:
                headers = dict(record.headers)
                self.by_key[topic, headers["source"]].append(headers["reason"] + headers["detail"])
        return []

    async def send_prepared(self, topic: str, batches: Iterable[tuple[int, Any]]) -> list[asyncio.Future[Any]]:
        for partition, batch in batches:
            assert all(partition_of(key, OUT_PARTITIONS) == partition for key, _ in batch.records())
            await self.send(topic, [Outgoing(key, value) for key, value in batch.records()])
        return []

    async def partition_count(self, _topic: str) -> int:
        return OUT_PARTITIONS


class NoRedis:
    """Claims that nobody answers."""

    async def claim(self, _claims: Sequence[Claim], *, force: bool = False) -> None:
        return None

    async def described(self, _sensor_ids: Sequence[str]) -> None:
        return None


class OneTier:
    """A tier's lanes, and what comes out of them."""

    def __init__(self, *, express: bool, metas: Mapping[str, SensorMeta] | None = None, at_once: int = 1000) -> None:
        pipelines = shipped_pipelines()
        self.processor = Processor("rt", pipelines)
        self.kept = Kept()
        claims: Any = NoRedis()
        self.emitter = Emitter(
            self.kept, Settings(kafka_bootstrap="127.0.0.1:1", redis_url="redis://127.0.0.1:1"), "rt"
        )  # type: ignore[arg-type]
        self.arrivals = Arrivals("rt", self.processor, claims, _none, self.emitter, lambda *_: None, 2.0)
        resolver = Resolver(
            "ecg",
            pipelines,
            metas or {},
            self.processor.residents,
            self.arrivals.waiting,
            claims,
            _none,
            lambda _fingerprint: "",
        )
        self.arrivals.set_pipeline = resolver.set_pipeline
        self.lanes = Lanes("rt", TOPIC, self.processor, self.arrivals, resolver, self.emitter, at_once, express=express)

        #: Blocks that have gone the express way.
        self.express_blocks = 0
        if self.processor.express is not None:
            self._count(self.processor.express)

    def _count(self, lane: Any) -> None:
        take = lane.take

        def counted(*args: Any) -> Any:
            taken = take(*args)
            self.express_blocks += sum(sent.blocks for sent in taken.sent)
            return taken

        lane.take = counted

    async def process(self, stretch: Sequence[tuple[int, RawRecords]]) -> None:
        """Process batches, each of a partition."""
        lots = [Lot(Pending(), partition, records) for partition, records in stretch]
        await self.lanes.process(lots)
        for lot in lots:
            await lot.pending.acknowledged()

    def states(self, partition: int) -> dict[str, Saved]:
        """Take what has changed of a partition's sensors."""
        return {state.sensor_id: state for state in self.processor.take_states(partition)}


def _none(_partition: int, keys: Sequence[bytes]) -> list[bytes | None]:
    return [None] * len(keys)


def raw_records(partition: int, first: int, messages: Sequence[tuple[bytes | None, bytes | None]]) -> RawRecords:
    """Make records of keys and values, with offsets one after another."""
    data, rows = bytearray(1), []
    for number, message in enumerate(messages):
        places = []
        for text in message:
            begin = len(data)
            data += text or b""
            places += [-1, -1] if text is None else [begin, len(data)]
        rows.append([first + number, 1_700_000_000_000, 0, *places, 0])
    table = np.array(rows, dtype=np.int64).T.copy()
    return RawRecords(TopicPartition(TOPIC, partition), np.frombuffer(bytes(data), np.uint8), table)
