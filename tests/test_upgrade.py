"""A changed pipeline under running sensors: its features are right from the first block after the upgrade."""

from __future__ import annotations

import asyncio
import math
import shutil
import signal
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import aiohttp
import numpy as np
import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.records_to_delete import RecordsToDelete
from numpy.typing import NDArray

from app.dsp.pipeline_file import parse_pipeline
from app.kafka_client import client_options
from app.offline import FEATURES, SHIPPED, Parameters, ecg_features
from app.pipelines import shipped_pipelines
from app.redis_client import redis_client
from app.sources import builtin_ecg
from app.topics import features_topic, sensor_topic
from app.wire.blocks import encode_frame, encode_json, encode_msgpack, packed
from app.worker_process import WorkerProcess
from tests.system import System, decoded

BLOCK, SENSORS = 256, 12
BEFORE, AFTER = 40, 30
CHANGED = Parameters(cutoff=(0.5, 40.0), rms_window=60)
TEXT = shipped_pipelines()["ecg"].text.replace("cutoff = [0.5, 100.0]", "cutoff = [0.5, 40.0]").replace("= 50", "= 60")
SETTLE = parse_pipeline(TEXT, "changed").settle_samples

SIGNALS = [builtin_ecg().channel(0)[number * 500 :].astype("f4").astype(float) for number in range(SENSORS)]


def test_the_stream_before_is_long_enough_to_settle():
    assert 10 * BLOCK < SETTLE < (BEFORE - 10) * BLOCK
    assert SETTLE < (AFTER - 5) * BLOCK


@pytest.fixture
def changed(tmp_path: Path) -> Path:
    folder = tmp_path / "pipelines"
    folder.mkdir()
    (folder / "ecg.toml").write_text(TEXT)
    return folder


def messages(blocks: Iterable[int]) -> list[tuple[bytes, bytes]]:
    """Blocks of all sensors: as JSON, MessagePack without an index, and in a gateway's frames."""
    sent = []
    for number in blocks:
        begin, time = number * BLOCK, 1_700_000_000_000 + number * BLOCK * 4
        frame = []
        for sensor in range(SENSORS):
            id_, samples = f"s{sensor}", SIGNALS[sensor][begin : begin + BLOCK]
            if sensor < 5:
                sent.append((id_.encode(), encode_json(id_, samples, time, seq=begin)))
            elif sensor < 8:
                sent.append((id_.encode(), encode_msgpack(packed(id_, samples.astype("f4"), time))))
            else:
                frame.append(packed(id_, samples, time, seq=begin))
        sent.append((b"gateway", encode_frame(frame)))
        sent.append((b"nobody", b'{"sensorId": "nobody", "samples": "bad"}'))
    return sent


def expected(parameters: Parameters, begin: int = 0) -> list[NDArray[np.float64]]:
    """Features of each sensor's blocks; of a pipeline that began with a block, NaN before it."""
    total = BEFORE + AFTER
    found = []
    for signal_ in SIGNALS:
        values = np.full((total, len(FEATURES)), np.nan)
        ends = np.arange(1, total - begin + 1) * BLOCK
        values[begin:] = ecg_features(signal_[begin * BLOCK : total * BLOCK], ends, parameters=parameters)
        found.append(values)
    return found


async def records(system: System, count: int = SENSORS * (BEFORE + AFTER)) -> dict[int, dict[int, list[float]]]:
    """Values of each sensor's records by block; a record that came again is the same, and none is missing."""
    values: defaultdict[int, dict[int, list[float]]] = defaultdict(dict)
    first: dict[tuple[str, int], bytes] = {}
    until = count
    while True:
        own = await system.read(features_topic(system.settings, "ecg"), until, seconds=40)
        for record in own:
            fields = decoded(record)
            assert first.setdefault((fields["sensorId"], fields["seq"]), record.value) == record.value
            assert fields["gap"] == 0
            values[int(fields["sensorId"][1:])][fields["seq"] // BLOCK] = [
                math.nan if fields[name] is None else fields[name] for name in FEATURES
            ]
        if len(first) >= count or len(own) < until:
            break
        until += count - len(first)
    assert {sensor: sorted(by_block) for sensor, by_block in values.items()} == {
        sensor: list(range(BEFORE + AFTER)) for sensor in range(SENSORS)
    }
    return values


def is_right(values: Sequence[float], wanted: NDArray[np.float64]) -> bool:
    return bool(np.allclose(values, wanted, rtol=1e-6, atol=0, equal_nan=True))


async def metric(worker: WorkerProcess, kind: str) -> float:
    async with aiohttp.ClientSession() as session, session.get(f"{worker.url}/metrics") as response:
        text = await response.text()
    name = f'continuum_upgraded_sensors_total{{kind="{kind}",tier="rt"}} '
    return next((float(line.removeprefix(name)) for line in text.splitlines() if line.startswith(name)), 0.0)


async def features_of(worker: WorkerProcess, count: int) -> None:
    async with asyncio.timeout(60):
        while (await worker.status()).tiers["rt"].features < count:  # noqa: ASYNC110 - it is another process
            await asyncio.sleep(0.1)


async def before(system: System) -> None:
    """Run the shipped pipeline for a while, and stop."""
    worker = await system.worker()
    await system.send(messages(range(BEFORE)))
    await features_of(worker, BEFORE * SENSORS)
    assert await worker.stop() == 0
    assert await system.lag() == 0


async def test_the_changed_pipeline_goes_on_as_if_it_had_always_run(system: System, changed: Path) -> None:
    await before(system)
    worker = await system.worker(pipelines=changed)
    await system.send(messages(range(BEFORE, BEFORE + AFTER)))
    found = await records(system)
    old, new = expected(SHIPPED), expected(CHANGED)
    for sensor, by_block in found.items():
        for block, values in by_block.items():
            assert is_right(values, (old if block < BEFORE else new)[sensor][block]), (sensor, block)
    assert await metric(worker, "warm") == SENSORS
    assert await metric(worker, "cold") == 0
    assert await worker.stop() == 0
    assert await system.lag() == 0


async def delete_records(system: System) -> None:
    admin = AIOKafkaAdminClient(**client_options(system.settings))
    await admin.start()
    try:
        topic = sensor_topic(system.settings, "rt")
        await admin.delete_records({TopicPartition(topic, number): RecordsToDelete(-1) for number in range(50)})
    finally:
        await admin.close()


async def test_where_nothing_is_retained_features_are_null_until_their_windows_are_full(
    system: System, changed: Path
) -> None:
    await before(system)
    await delete_records(system)
    worker = await system.worker(pipelines=changed)
    await system.send(messages(range(BEFORE, BEFORE + AFTER)))
    found = await records(system)
    old, new = expected(SHIPPED), expected(CHANGED, begin=BEFORE)
    for sensor, by_block in found.items():
        for block, values in by_block.items():
            assert is_right(values, (old if block < BEFORE else new)[sensor][block]), (sensor, block)
    assert await metric(worker, "cold") == SENSORS
    assert "before it has settled" in worker.log.read_text()
    assert await worker.stop() == 0


@pytest.mark.slow
async def test_a_kill_amid_the_upgrade_only_repeats_it(system: System, changed: Path) -> None:
    await before(system)
    amid = 0
    await system.send(messages(range(BEFORE, BEFORE + 10)))
    for _ in range(4):
        number = len(system.workers) + 1
        settings = system.settings.model_copy(update={"pipelines": changed})
        worker = WorkerProcess(settings, system.settings.datadir / f"worker-{number}.log")
        system.workers.append(worker)
        await worker.ready()
        held = 0
        async with asyncio.timeout(30):
            while not held and not await metric(worker, "warm"):
                held = (await worker.status()).tiers["rt"].held
        worker.signal(signal.SIGKILL)
        worker.kill()
        amid += bool(held)
        if amid == 2:
            break
    assert amid, "no worker was killed amid its upgrades"
    worker = await system.worker(pipelines=changed)
    await system.send(messages(range(BEFORE + 10, BEFORE + AFTER)))
    found = await records(system)
    old, new = expected(SHIPPED), expected(CHANGED)
    for sensor, by_block in found.items():
        for block, values in by_block.items():
            assert is_right(values, (old if block < BEFORE else new)[sensor][block]), (sensor, block)
    assert await worker.stop() == 0
    assert await system.lag() == 0


@pytest.mark.parametrize(
    "kills", [pytest.param(0, id="undisturbed"), pytest.param(2, id="killed", marks=pytest.mark.slow)]
)
async def test_in_the_shadow_of_the_old_pipeline_the_new_one_settles(system: System, changed: Path, kills: int) -> None:
    await before(system)
    worker = await system.worker(pipelines=changed, shadow=True)
    since = BEFORE
    for number in range(BEFORE, BEFORE + AFTER):
        await system.send(messages([number]))
        # The switch is where a stretch of blocks ends, so each is one of its own.
        await features_of(worker, (number + 1 - since) * SENSORS)
        if kills and number in {BEFORE + 2, BEFORE + 24}:
            worker.kill()
            worker, since = await system.worker(pipelines=changed, shadow=True), number + 1
    found = await records(system)
    old, new = expected(SHIPPED), expected(CHANGED)
    for sensor, by_block in found.items():
        kinds = []
        for block, values in sorted(by_block.items()):
            kind = "new" if is_right(values, new[sensor][block]) else "wrong"
            kinds.append("old" if is_right(values, old[sensor][block]) else kind)
        switch = kinds.count("old")
        assert kinds == ["old"] * switch + ["new"] * (BEFORE + AFTER - switch), (sensor, kinds)
        assert switch >= (BEFORE * BLOCK + SETTLE) / BLOCK, "not before it has settled"
        if not kills:
            assert switch <= math.ceil((BEFORE * BLOCK + SETTLE) / BLOCK)
    if not kills:
        assert await metric(worker, "shadow") == SENSORS
    assert await worker.stop() == 0
    assert await system.lag() == 0


async def test_without_its_definition_there_is_no_shadow_and_two_pipelines_at_once_are_refused(
    system: System, changed: Path
) -> None:
    await before(system)
    shutil.rmtree(system.settings.datadir / "definitions")
    async with redis_client(system.settings) as redis:
        known = [key async for key in redis.scan_iter(f"{system.settings.topic_prefix}pipeline:*")]
        assert len(known) == len(shipped_pipelines())
        await redis.delete(*known)
    worker = await system.worker(pipelines=changed, shadow=True)
    await system.send(messages(range(BEFORE, BEFORE + AFTER)))
    await records(system)
    assert "nobody has kept the definition" in worker.log.read_text()
    assert await metric(worker, "warm") == SENSORS
    assert await worker.stop() == 0
    worker = await system.worker(pipelines=changed)
    other = encode_json("s0", SIGNALS[0][:BLOCK], 1_800_000_000_000, pipeline="ecg-branched")
    await system.send([(b"s0", other)])
    letters = await system.dead_letters(BEFORE + AFTER + 1)
    refused = [letter.value for letter in letters if ("reason", b"unusable-state") in letter.headers]
    assert refused == [other]
    assert await worker.stop() == 0
