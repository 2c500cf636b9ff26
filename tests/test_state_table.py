"""The state table: what is on disk is what the changelog holds, and never an older state than before."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.dsp.engine import Engine
from app.dsp.snapshot import decode
from app.faust_app import ContinuumApp
from app.pipelines import shipped_pipelines
from app.replay import plan_replay
from app.runtime.outbox import SentBatch
from app.runtime.snapshot_store import SnapshotStore
from app.runtime.state_table import StateTable
from app.settings import load_settings
from app.sources import builtin_ecg
from app.topics import changelog_topic
from tests.changelogs import changelog_records, stale_records
from tests.feeding import Block, Partition
from tests.replaying import replay, verifier_of
from tests.system import System, noise

SENSORS = ("a", "b", "c")
AGES = 5


def snapshots_of(sensor_id: str) -> list[bytes]:
    """A sensor's snapshots after one block, after two, ..."""
    engine = Engine(shipped_pipelines()["ecg"])
    partition, signal = Partition(engine), noise(64 * AGES, seed=SENSORS.index(sensor_id))
    snapshots = []
    for number in range(AGES):
        partition.feed(Block(sensor_id, signal[64 * number : 64 * (number + 1)], 64 * number))
        snapshots += engine.snapshots([engine.sensors[sensor_id]])
    return snapshots


SNAPSHOTS = {sensor_id: snapshots_of(sensor_id) for sensor_id in SENSORS}
DAMAGED = b"CTNM damaged"


class Broker:
    """A changelog partition whose appends others' may come between; stands in for the outbox."""

    def __init__(self, batch_size: int) -> None:
        self.records: list[tuple[bytes, bytes]] = []
        self.batch_size = batch_size
        self.before: dict[int, list[tuple[bytes, bytes]]] = {}
        self.batches = 0

    async def send_to(self, topic: str, partition: int, records: Sequence[Any]) -> list[SentBatch]:
        sent = []
        for start in range(0, len(records), self.batch_size):
            self.records += self.before.pop(self.batches, [])
            self.batches += 1
            done = asyncio.get_running_loop().create_future()
            done.set_result(SimpleNamespace(offset=len(self.records)))
            own = records[start : start + self.batch_size]
            self.records += [(record.key, record.value) for record in own]
            sent.append(SentBatch(done, len(own)))
        return sent


MakeTable = Callable[[], StateTable]


@pytest.fixture(scope="module")
def new_table(tmp_path_factory: pytest.TempPathFactory) -> MakeTable:
    """Give a function that makes a table with an empty disk."""

    def make() -> StateTable:
        folder = tmp_path_factory.mktemp("table")
        app = ContinuumApp(
            load_settings(kafka_bootstrap="127.0.0.1:1", redis_url="redis://127.0.0.1:1", datadir=folder)
        )
        app.conf.datadir = folder
        return StateTable.for_tier(app, "rt")

    return make


def recover(table: StateTable, records: Sequence[tuple[bytes, bytes | None]], first: int = 0) -> None:
    """Apply records of the changelog from an offset on, as a recovery does."""
    numbered: list[Any] = [
        SimpleNamespace(offset=first + number, key=key, value=value) for number, (key, value) in enumerate(records)
    ]
    if numbered:  # an empty fetch is none
        table.apply(0, numbered)


def on_disk(table: StateTable) -> dict[str, bytes | None]:
    return dict(zip(SENSORS, table.read(0, [sensor_id.encode() for sensor_id in SENSORS]), strict=True))


def store_of(table: StateTable) -> SnapshotStore:
    store = table.data
    assert isinstance(store, SnapshotStore)
    return store


@settings(max_examples=40)
@given(
    log=st.lists(st.tuples(st.sampled_from(SENSORS), st.one_of(st.integers(0, AGES - 1), st.none())), max_size=30),
    cuts=st.lists(st.integers(0, 30), max_size=4),
)
def test_recovery_keeps_the_newest_since_the_last_deletion(
    new_table: MakeTable, log: list[tuple[str, int | None]], cuts: list[int]
) -> None:
    table = new_table()
    records = [(sensor_id.encode(), None if age is None else SNAPSHOTS[sensor_id][age]) for sensor_id, age in log]
    bounds = sorted({0, len(records), *(cut for cut in cuts if cut < len(records))})
    for start, stop in pairwise(bounds):
        recover(table, records[start:stop], start)
    expected: dict[str, bytes | None] = {}
    for sensor_id in SENSORS:
        ages = [age for own, age in log if own == sensor_id]
        since = ages[len(ages) - ages[::-1].index(None) :] if None in ages else ages
        kept = [age for age in since if age is not None]
        expected[sensor_id] = SNAPSHOTS[sensor_id][max(kept)] if kept else None
    assert on_disk(table) == expected
    assert store_of(table).reached(0) == len(records) - 1


def test_a_record_that_cannot_be_read_stands_where_it_came_last(new_table: MakeTable) -> None:
    table = new_table()
    recover(table, [(b"a", SNAPSHOTS["a"][3]), (b"a", DAMAGED), (b"b", DAMAGED), (b"b", SNAPSHOTS["b"][0])])
    assert on_disk(table) == {"a": DAMAGED, "b": SNAPSHOTS["b"][0], "c": None}


@pytest.mark.parametrize("batch_size", [1, 2, 3])
@pytest.mark.parametrize("position", [0, 1, 2, 3])
async def test_what_others_write_between_ours_is_looked_at_in_the_next_recovery(
    new_table: MakeTable, batch_size: int, position: int
) -> None:
    """Else a worker that wakes too late marks as read, on its own disk, what the new owner wrote meanwhile."""
    table, broker = new_table(), Broker(batch_size)
    table.app.outbox = broker  # type: ignore[assignment]
    broker.before[position] = [(b"c", SNAPSHOTS["c"][4]), (b"a", SNAPSHOTS["a"][4])]
    for age in range(3):
        await table.write(0, {sensor_id.encode(): SNAPSHOTS[sensor_id][age] for sensor_id in SENSORS})
    assert on_disk(table) == {sensor_id: SNAPSHOTS[sensor_id][2] for sensor_id in SENSORS}
    reached = store_of(table).reached(0)
    interrupted = not broker.before
    assert interrupted == (len(broker.records) > 9)
    assert (reached < 8) == interrupted
    recover(table, broker.records[reached + 1 :], reached + 1)
    newest = {sensor_id: SNAPSHOTS[sensor_id][2] for sensor_id in SENSORS}
    if interrupted:
        newest |= {"a": SNAPSHOTS["a"][4], "c": SNAPSHOTS["c"][4]}
    assert on_disk(table) == newest
    assert store_of(table).reached(0) == len(broker.records) - 1


@pytest.mark.slow
@pytest.mark.parametrize("keep_disk", [False, True])
async def test_a_stale_record_behind_a_newer_one_undoes_nothing(system: System, keep_disk: bool) -> None:
    """As a worker that was paused past its session may leave one in the changelog."""
    plan = plan_replay(builtin_ecg(), sensors=20, seconds=60)
    worker = await system.worker()
    sending = asyncio.create_task(replay(system, plan, speed=10))
    await asyncio.sleep(3)
    assert await worker.stop() == 0
    assert not sending.done()
    records = await changelog_records(system)
    assert stale_records(records) == []
    first = {record.key: record for record in reversed(records)}
    last = {record.key: record for record in records}
    older = [first[key] for key in first if first[key].offset < last[key].offset]
    assert len(older) >= 10
    async with system.producer() as producer:
        topic = changelog_topic(system.settings, "rt")
        for record in older:
            await producer.send_and_wait(topic, record.value, key=record.key, partition=record.partition)
    if not keep_disk:
        shutil.rmtree(Path(system.settings.datadir) / "workers")
    worker = await system.worker()
    await sending
    verdict = await system.verify(verifier_of(plan))
    assert verdict.passed, verdict
    assert verdict.repeated == 0
    assert await worker.stop() == 0
    ends = {record.key: decode(record.value).header.next for record in await changelog_records(system)}
    assert set(ends.values()) == {plan.blocks_per_sensor * 256}


def test_snapshots_differ() -> None:
    """The tests above tell a sensor's snapshots apart by their bytes."""
    values = [snapshot for own in SNAPSHOTS.values() for snapshot in own]
    assert len(set(values)) == len(SENSORS) * AGES
