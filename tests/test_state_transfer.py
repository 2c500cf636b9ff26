"""States moved as files: the bytes exactly, into Redis for whoever claims the sensor next, never over a newer one."""

from __future__ import annotations

import asyncio
import re
import stat
from pathlib import Path

import numpy as np
import pytest
from pydantic import SecretStr

from app.chaos.redis_cluster import RedisCluster
from app.dsp.engine import Engine
from app.dsp.snapshot import decode, read_header
from app.mirror.keys import sensor_key
from app.mirror.ownership import Ownership
from app.mirror.states import Claim, Saved, Wanted
from app.pipelines import shipped_pipelines
from app.redis_client import redis_client
from app.sources import builtin_ecg
from app.state_copies.errors import StateError
from app.state_copies.transfer import NO_POSITION, write_file
from app.state_copies.verify import content
from app.topics import features_topic
from app.verify import FeatureVerifier
from app.wire.blocks import encode_json
from tests.command import continuum
from tests.feeding import TOPIC, Block, Partition, two_channels
from tests.stored_states import (
    EPOCH_2026,
    put_everywhere,
    put_in_redis,
    put_in_table,
    put_on_changelog,
    source_of,
    state_of,
)
from tests.system import System, ecg_blocks, noise

GOLDEN = Path(__file__).parent / "golden" / "snapshot-v1-ecg.bin"
SENSOR = "ward7-bed3"


async def claimed(system: System, sensor_id: str, tier: str = "nrt"):
    """Claim a sensor as a tier does that has nothing of it."""
    async with redis_client(system.settings) as redis:
        (claim,) = await Ownership(redis, system.settings.topic_prefix, tier).claim([Claim(sensor_id, -1, 0, 0, -1)])
        return claim


async def imported(system: System, file: Path, sensor_id: str = SENSOR, *options: str):
    return await continuum(system.settings, "state", "import", str(file), sensor_id, *options, "--json")


def features_after(snapshot: bytes, signal) -> list:
    """Go on from a state with a signal's rest, in blocks."""
    engine = Engine(shipped_pipelines()["ecg"])
    engine.restore({"s": snapshot})
    (start,) = (sensor.next_index for sensor in engine.sensors.values())
    partition = Partition(engine, 5)
    rows = []
    for first in range(start, len(signal), 256):
        samples = signal[first : first + 256]
        rows += partition.feed(Block("s", samples, first, EPOCH_2026 + first * 4)).values.tolist()
    return rows


async def test_out_and_in_again_it_goes_on_bit_for_bit(system: System, tmp_path: Path) -> None:
    signal = noise(3000, 3)
    snapshot = state_of(signal[:1000], **source_of(system, SENSOR))
    await put_everywhere(system, SENSOR, snapshot)
    for place in ("redis", "table", "changelog"):
        file = tmp_path / place
        done = await continuum(system.settings, "state", "export", SENSOR, str(file), "--from", place)
        assert (done.code, file.read_bytes()) == (0, snapshot), done.notes
    done = await continuum(system.settings, "state", "export", SENSOR, "-")
    assert done.out == snapshot

    # Under its own name, where all copies stay as they are, and the owner loses it.
    done = await imported(system, file)
    assert done.code == 0, done.notes
    assert (done.json["changed"], done.json["owner"], done.json["next"]) == ([], "rt", 1000)
    claim = await claimed(system, SENSOR)
    assert (claim.taken, claim.snapshot, claim.owner) == (True, snapshot, "")
    assert claim.epoch > done.json["epoch"] > 1

    # Under another, of which nothing is known: its index alone says what it has counted.
    done = await imported(system, file, "another")
    assert done.json["changed"] == ["source position, which no state of the sensor here shares"]
    claim = await claimed(system, "another")
    header = read_header(claim.snapshot)
    assert header.position == NO_POSITION
    assert content(claim.snapshot) == content(snapshot)
    expected = features_after(snapshot, signal)
    assert len(expected) == 8
    assert expected == features_after(claim.snapshot, signal)
    # And that is what it would have been without ever stopping.
    engine = Engine(shipped_pipelines()["ecg"])
    partition = Partition(engine)
    partition.feed(Block("s", signal[:1000], 0, EPOCH_2026))
    unbroken = []
    for first in range(1000, 3000, 256):
        block = Block("s", signal[first : first + 256], first, EPOCH_2026 + first * 4)
        unbroken += partition.feed(block).values.tolist()
    assert unbroken == expected


async def test_offsets_of_another_kafka_do_not_hide_new_messages(system: System, tmp_path: Path) -> None:
    signal = noise(3000, 3)
    snapshot = state_of(signal[:1000], topic=TOPIC, partition=5)
    assert features_after(snapshot, signal) == [], "its next 1000 messages are taken for those that it has consumed"
    (tmp_path / "file").write_bytes(snapshot)
    assert (await imported(system, tmp_path / "file")).code == 0
    assert len(features_after((await claimed(system, SENSOR)).snapshot, signal)) == 8


async def test_the_owner_is_told_and_its_save_refused(system: System, tmp_path: Path) -> None:
    settings = system.settings
    snapshot = state_of(noise(500, 1))
    await put_in_redis(system, SENSOR, snapshot, tier="rt")
    (tmp_path / "file").write_bytes(snapshot)
    async with redis_client(settings) as redis:
        owner = Ownership(redis, settings.topic_prefix, "rt")
        assert await owner.wanted() == []
        done = await imported(system, tmp_path / "file")
        assert done.code == 0
        assert await owner.wanted() == [Wanted(SENSOR, -1, 1)], "whatever it has of the claim that is over"
        header = read_header(snapshot)
        later = Saved(SENSOR, snapshot, 1, 0, 600, header.position, "ecg", 250.0, b"{}")
        assert await owner.save([later]) == [later]
        fields = await redis.hgetall(sensor_key(settings.topic_prefix, SENSOR, "state"))
        assert (fields[b"snapshot"], fields[b"owner"], fields[b"next"]) == (snapshot, b"", b"500")
        assert b"wanted" not in fields


@pytest.mark.parametrize("where", ["redis", "table", "changelog"])
async def test_an_older_state_is_refused_and_made_the_newest_by_force(
    system: System, tmp_path: Path, where: str
) -> None:
    signal = noise(1000, 3)
    source = source_of(system, SENSOR)
    old, new = state_of(signal[:400], **source), state_of(signal, **source, restarts=2)
    if where == "redis":
        await put_in_redis(system, SENSOR, new)
    elif where == "table":
        put_in_table(system, SENSOR, new)
    else:
        await put_on_changelog(system, SENSOR, new)
    (tmp_path / "file").write_bytes(old)
    done = await imported(system, tmp_path / "file")
    assert done.code == 1
    assert f"has a newer state in {where}" in done.notes
    assert "restarts 2, next 1000, and the file has 0, 400; --force" in done.notes

    done = await imported(system, tmp_path / "file", SENSOR, "--force")
    assert done.code == 0, done.notes
    assert done.json["changed"] == ["restarts, from 0 to 3"]
    claim = await claimed(system, SENSOR)
    assert read_header(claim.snapshot).age == (3, 400)
    assert read_header(claim.snapshot).position == read_header(old).position
    _, before = decode(old)
    _, after = decode(claim.snapshot)
    assert all(np.array_equal(before[n][k], after[n][k]) for n in before for k in before[n])
    # The newest of all copies, so that a worker's table does not win over it.
    found = (await continuum(system.settings, "state", "show", SENSOR, "--json")).json
    assert (found["place"], found["restarts"], found["next"]) == ("redis", 3, 400)
    assert (await continuum(system.settings, "state", "verify", SENSOR)).code == 0


async def test_another_state_of_the_same_age_is_refused(system: System, tmp_path: Path) -> None:
    await put_in_redis(system, SENSOR, state_of(noise(400, 1)))
    (tmp_path / "file").write_bytes(state_of(noise(400, 2)))
    done = await imported(system, tmp_path / "file")
    assert done.code == 1
    assert "another state of the same age" in done.notes
    assert (await imported(system, tmp_path / "file", SENSOR, "--force")).json["restarts"] == 1


async def test_a_newer_one_takes_the_place_of_what_is_known(system: System, tmp_path: Path) -> None:
    signal = noise(1000, 3)
    await put_everywhere(system, SENSOR, state_of(signal[:400], **source_of(system, SENSOR)))
    newer = state_of(signal, **source_of(system, SENSOR))
    (tmp_path / "file").write_bytes(newer)
    done = await imported(system, tmp_path / "file")
    assert (done.code, done.json["changed"], done.json["before"]["next"]) == (0, [], 400)
    assert (await claimed(system, SENSOR)).snapshot == newer


async def test_what_is_no_usable_snapshot_is_refused(system: System, tmp_path: Path) -> None:
    good = state_of(noise(300, 1))
    engine = Engine(two_channels())
    (sensor,) = engine.admit(["s"])
    Partition(engine).feed(Block("s", noise(20, 1), 0))
    foreign = engine.snapshots([sensor])[0]
    for content_, says in (
        (b"", "not a snapshot: 0 bytes"),
        (b"PK" + good[2:], "not a snapshot"),
        (good[:4] + b"\x63" + good[5:], "format version 99"),
        (good[:-1], "CRC-32"),
        (good[:200] + bytes([good[200] ^ 1]) + good[201:], "CRC-32"),
        (foreign, f"pipeline {read_header(foreign).fingerprint.hex()}, which is none of those known"),
    ):
        (tmp_path / "file").write_bytes(content_)
        done = await imported(system, tmp_path / "file")
        assert done.code == 1
        assert says in done.notes
    (tmp_path / "file").write_bytes(good)
    assert "an id of 1 to 256 bytes" in (await imported(system, tmp_path / "file", "x" * 257)).notes
    assert "cannot be read" in (await imported(system, tmp_path / "none")).notes
    async with redis_client(system.settings) as redis:
        assert await redis.keys(f"{system.settings.topic_prefix}sensor:*") == []


async def test_a_file_of_the_first_format_version(system: System) -> None:
    done = await imported(system, GOLDEN)
    assert done.code == 0, done.notes
    claim = await claimed(system, SENSOR)
    assert content(claim.snapshot) == content(GOLDEN.read_bytes())


async def test_import_from_a_pipe(system: System) -> None:
    snapshot = state_of(noise(300, 1))
    done = await continuum(system.settings, "state", "import", "-", SENSOR, stdin=snapshot)
    assert done.code == 0, done.notes
    assert re.search(r"at restarts 0, next 300 \(pipeline ecg\), owned by no tier, epoch 1\b", done.out.decode())


async def test_without_redis_nothing_is_imported(system: System, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(state_of(noise(300, 1)))
    nowhere = type(system.settings.redis_url)("redis://127.0.0.1:9/0")
    system.settings = system.settings.model_copy(update={"redis_url": nowhere})
    done = await imported(system, tmp_path / "file")
    assert done.code == 1
    assert "the state goes into Redis" in done.notes


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    file = tmp_path / "state.bin"
    write_file(file, b"one")
    write_file(file, b"two")
    assert file.read_bytes() == b"two"
    assert stat.S_IMODE(file.stat().st_mode) & 0o600 == 0o600
    assert list(tmp_path.iterdir()) == [file]
    (tmp_path / "folder").mkdir()
    for unwritable in (tmp_path / "folder", tmp_path / "none" / "state.bin"):
        with pytest.raises(StateError, match="cannot be written"):
            write_file(unwritable, b"three")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "state.bin"]


async def test_on_a_cluster(system: System, tmp_path: Path, redis_cluster: RedisCluster) -> None:
    system.settings = system.settings.model_copy(update={"redis_url": SecretStr(redis_cluster.url)})
    states = {f"s{number}": state_of(noise(300, number)) for number in range(12)}
    for sensor_id, snapshot in states.items():
        (tmp_path / "file").write_bytes(snapshot)
        done = await imported(system, tmp_path / "file", sensor_id)
        assert done.code == 0, done.notes
    for sensor_id, snapshot in states.items():
        done = await continuum(system.settings, "state", "export", sensor_id, "-")
        assert content(done.out) == content(snapshot)
        put_in_table(system, sensor_id, done.out)
    done = await continuum(system.settings, "state", "verify", "--all", "--json")
    assert (done.code, done.json["statuses"], done.json["places"]) == (0, {"equal": 12}, {"redis": 12, "table": 12})
    await put_in_redis(system, "s1", states["s1"])
    older = state_of(noise(200, 1))
    (tmp_path / "file").write_bytes(older)
    assert (await imported(system, tmp_path / "file", "s1")).code == 1
    assert (await imported(system, tmp_path / "file", "s1", "--force")).json["owner"] == "rt"


# -- with workers

BLOCKS = 40


async def send_blocks(system: System, sensor_id: str, signal, numbers: range, tier: str = "rt") -> None:
    messages = [
        (
            sensor_id.encode(),
            encode_json(sensor_id, signal[n * 256 :][:256], EPOCH_2026 + n * 1024, seq=n * 256, pipeline="ecg"),
        )
        for n in numbers
    ]
    await system.send(messages, tier)


async def verified(system: System, sensor_id: str, signal, numbers: range) -> None:
    """Wait for the features of some blocks, and compare them with those of the signal whole."""
    verifier = FeatureVerifier()
    verifier.expect(sensor_id, signal, ecg_blocks(BLOCKS))
    records = []
    async with asyncio.timeout(60):
        while len(records) < len(numbers):
            found = await system.read(features_topic(system.settings, "ecg"), until=1_000_000, seconds=2)
            records = [record.value for record in found if record.key == sensor_id.encode()]
    for record in records:
        verifier.add(record)
    verdict = verifier.verdict
    assert (verdict.verified, verdict.wrong, verdict.unexpected) == (len(numbers), 0, 0), verdict


async def test_a_file_carries_a_sensor_to_another_tier(system: System, tmp_path: Path) -> None:
    """All that Redis has of the sensor is deleted between: without the file the other tier would begin anew."""
    signal = builtin_ecg().channel(0)
    half, rest = range(BLOCKS // 2), range(BLOCKS // 2, BLOCKS)
    worker = await system.worker(tiers=("rt",), instance="rt")
    await send_blocks(system, SENSOR, signal, half)
    await verified(system, SENSOR, signal, half)
    assert await worker.stop() == 0
    file = tmp_path / "state"
    assert (await continuum(system.settings, "state", "export", SENSOR, str(file))).code == 0
    async with redis_client(system.settings) as redis:
        for part in ("state", "features", "meta"):
            assert await redis.delete(sensor_key(system.settings.topic_prefix, SENSOR, part))
    assert (await imported(system, file)).code == 0
    worker = await system.worker(tiers=("nrt",), instance="nrt")
    await send_blocks(system, SENSOR, signal, rest, tier="nrt")
    await verified(system, SENSOR, signal, range(BLOCKS))
    assert await worker.stop() == 0
    assert (await continuum(system.settings, "state", "verify", SENSOR)).code == 0


async def test_under_another_id_and_back_in_time_beside_a_worker(system: System, tmp_path: Path) -> None:
    signal = builtin_ecg().channel(0)
    half, rest = range(BLOCKS // 2), range(BLOCKS // 2, BLOCKS)
    worker = await system.worker()
    await send_blocks(system, SENSOR, signal, half)
    await verified(system, SENSOR, signal, half)
    file = tmp_path / "state"
    while True:  # until its checkpoint
        await continuum(system.settings, "state", "export", SENSOR, str(file))
        if file.exists() and read_header(file.read_bytes()).next == len(half) * 256:
            break
        await asyncio.sleep(0.2)
    assert (await imported(system, file, "renamed")).code == 0
    await send_blocks(system, "renamed", signal, rest)
    await verified(system, "renamed", signal, rest)

    # The worker has the sensor in memory, further on; forced back, it goes on from the file.
    await send_blocks(system, SENSOR, signal, rest)
    await verified(system, SENSOR, signal, range(BLOCKS))
    await asyncio.sleep(2 * system.settings.checkpoint_seconds)
    assert (await imported(system, file)).code == 1
    done = await imported(system, file, SENSOR, "--force")
    assert (done.code, done.json["owner"]) == (0, "rt")
    async with asyncio.timeout(20):
        while (await worker.status()).tiers["rt"].sensors > 1:  # noqa: ASYNC110 - until the worker has dropped it
            await asyncio.sleep(0.1)
    await send_blocks(system, SENSOR, signal, rest)
    verifier = FeatureVerifier()
    verifier.expect(SENSOR, signal, ecg_blocks(BLOCKS))
    async with asyncio.timeout(60):
        while verifier.verdict.repeated < len(rest):
            verifier = FeatureVerifier()
            verifier.expect(SENSOR, signal, ecg_blocks(BLOCKS))
            for record in await system.read(features_topic(system.settings, "ecg"), until=1_000_000, seconds=2):
                verifier.add(record.value)
    assert verifier.verdict.passed, verifier.verdict
    assert await worker.stop() == 0
