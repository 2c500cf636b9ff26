"""States shown and compared, from Redis, tables and changelogs, also beside a worker that is writing them."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
import rocksdict
from hypothesis import given
from hypothesis import strategies as st

from app.dsp.snapshot import decode
from app.mirror.keys import sensor_id_of, sensor_key
from app.redis_client import redis_client
from app.replay import plan_replay
from app.settings import Settings
from app.sources import builtin_ecg
from app.state_copies.copies import NOT_MIRRORED, StateCopy, newest, supersedes
from app.state_copies.tables import read_whole_table, table_partitions
from app.state_copies.verify import Digest, content, judge
from app.topics import changelog_topic
from app.wire.blocks import encode_frame, packed
from tests.command import continuum
from tests.pages import until
from tests.replaying import replay, verifier_of
from tests.stored_states import (
    put_everywhere,
    put_in_redis,
    put_in_table,
    put_on_changelog,
    source_of,
    state_of,
)
from tests.system import System, noise


def digest(place: str = "table", age: tuple[int, int] | None = (0, 1), inner: bytes = b"a", **changes) -> Digest:
    own = Digest(place, "rt", "somewhere", age, 1, inner, inner, "ecg", "00", None if age else "damaged")
    return own._replace(**changes)


# -- judging


ages = st.tuples(st.integers(0, 2), st.integers(0, 3))


@given(st.lists(st.tuples(ages, st.sampled_from([b"a", b"b"])), min_size=1, max_size=6))
def test_copies_are_sound_where_each_age_has_one_state(found) -> None:
    verdict = judge("s", [digest(age=age, inner=inner) for age, inner in found])
    of_age: dict = {}
    for age, inner in found:
        of_age.setdefault(age, set()).add(inner)
    contradict = any(len(states) > 1 for states in of_age.values())
    assert (verdict.status == "contradictory") == contradict
    if not contradict:
        assert verdict.status == ("equal" if len(of_age) == 1 else "behind")
    best = max(of_age)
    for (age, _), copy in zip(found, verdict.copies, strict=True):
        assert copy.behind == (best[1] - age[1] if age[0] == best[0] else None)


def test_damage_and_unknown_pipelines_are_faults():
    assert judge("s", [digest(), digest(age=None)]).status == "damaged"
    assert judge("s", [digest(age=None)]).status == "damaged"
    unknown = digest(age=(0, 2), pipeline=None)
    assert judge("s", [digest(), unknown]).status == "unknown pipeline", "no worker can go on from the newest"
    assert judge("s", [digest(age=(0, 3)), unknown]).status == "behind"


@given(st.lists(ages, min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_the_newest_is_the_one_of_the_greatest_age(found, chance) -> None:
    copies = [
        StateCopy.of("table", "rt", str(number), state_of(noise(64 * (next_index + 1), 1), restarts=restarts))
        for number, (restarts, next_index) in enumerate(found)
    ]
    chance.shuffle(copies)
    best = newest([*copies, StateCopy.of("redis", "rt", "", b"damaged")])
    assert best is not None
    assert best.header.age == max(copy.header.age for copy in copies)


def test_what_supersedes_what():
    old, new = (StateCopy.of("changelog", "rt", "", state_of(noise(n, 1))) for n in (64, 128))
    bad = StateCopy.of("changelog", "rt", "", state_of(noise(64, 1))[:-1])
    assert supersedes(new, old)
    assert not supersedes(old, new), "what was written later is not newer for that"
    assert supersedes(bad, new)
    assert supersedes(new, bad)
    assert supersedes(old, None)


def test_content_is_what_the_stream_makes_of_a_state():
    one = state_of(noise(300, 1), topic="a", partition=1)
    assert content(one) == content(state_of(noise(300, 1), topic="b", partition=2))
    for other in (noise(301, 1), noise(300, 2)):
        assert content(one) != content(state_of(other))
    assert content(one) != content(state_of(noise(300, 1), restarts=1))


@pytest.mark.parametrize("sensor_id", ["s1", "}x", "%41", "a}b", "ward 7/bed{3}", "é" * 9])
def test_a_redis_key_tells_its_sensor(sensor_id: str) -> None:
    assert sensor_id_of("t-", sensor_key("t-", sensor_id, "state").encode()) == sensor_id


# -- show


async def shown(settings: Settings, *arguments: str):
    done = await continuum(settings, "state", "show", *arguments, "--json")
    assert done.code == 0, done.notes
    return done.json


async def test_show_takes_the_newest_and_says_all(system: System) -> None:
    sensor_id, signal = "ward [7]", noise(1000, 4)
    source = source_of(system, sensor_id)
    states = [state_of(signal[:length], **source) for length in (400, 700, 1000)]
    put_in_table(system, sensor_id, states[0])
    await put_on_changelog(system, sensor_id, states[0], states[1])
    await put_in_redis(system, sensor_id, states[2])
    found = await shown(system.settings, sensor_id)
    assert found["place"] == "redis"
    assert {(copy["place"], copy["next"]) for copy in found["copies"]} == {
        ("redis", 1000),
        ("table", 400),
        ("changelog", 700),
    }
    header, arrays = decode(states[2])
    assert found["pipeline"] == "ecg"
    assert (found["next"], found["restarts"], found["epoch"]) == (1000, 0, header.epoch)
    assert found["time"] == "2026-01-01T00:00:04.000+00:00"
    assert found["position"] == f"{source['topic']}-{source['partition']}-1000"
    assert (found["size"], found["crcOk"], found["owner"], found["ownerEpoch"]) == (len(states[2]), True, "rt", 1)
    assert found["updated"].startswith("20")
    assert len(found["arrays"]) == sum(map(len, arrays.values()))
    for array in found["arrays"]:
        values = arrays[array["node"]][array["name"]]
        assert (tuple(array["shape"]), array["dtype"]) == (values.shape, values.dtype.str)
        assert array["values"] == values.ravel()[:4].tolist()
        assert (array["min"], array["max"], array["finite"]) == (values.min(), values.max(), True)
    whole = (await shown(system.settings, sensor_id, "--arrays"))["arrays"]
    for array in whole:
        assert np.array_equal(array["values"], arrays[array["node"]][array["name"]])

    for place, length in (("table", 400), ("changelog", 700), ("redis", 1000)):
        found = await shown(system.settings, sensor_id, "--from", place)
        assert (found["place"], found["next"], len(found["copies"])) == (place, length, 1)
    done = await continuum(system.settings, "state", "show", sensor_id)
    assert done.code == 0
    assert "[7]" in done.out.decode()
    assert "taken redis" in done.notes


async def test_a_restarted_stream_is_newer_at_a_lower_index(system: System) -> None:
    put_in_table(system, "s", state_of(noise(900, 1)))
    put_in_table(system, "s", state_of(noise(300, 2), restarts=1), worker="2", partition=49)
    found = await shown(system.settings, "s")
    assert (found["restarts"], found["next"]) == (1, 300)
    assert "/2/v1/tables/rt-state-49.db" in found["where"]


async def test_a_gateway_s_partition_is_found_and_a_deleted_state_is_not(system: System) -> None:
    await put_on_changelog(system, "framed", state_of(noise(300, 1)), partition=33)
    assert "-33-" in (await shown(system.settings, "framed", "--from", "changelog"))["where"]
    await put_on_changelog(system, "deleted", state_of(noise(300, 1)), None)
    assert (await continuum(system.settings, "state", "show", "deleted")).code == 1


async def test_nowhere(system: System, settings) -> None:
    done = await continuum(system.settings, "state", "show", "nobody")
    assert done.code == 1
    prefix = system.settings.topic_prefix
    assert done.notes.startswith("error: sensor 'nobody' has no state: looked in Redis, 0 partitions of table rt-state")
    assert f"changelog {prefix}{system.settings.app_id}-rt-state-changelog" in done.notes
    assert (await continuum(system.settings, "state", "verify", "nobody")).code == 2
    assert (await continuum(system.settings, "state", "verify", "--all")).code == 2
    for arguments in ([], ["nobody", "--all"]):
        assert (await continuum(system.settings, "state", "verify", *arguments)).code == 1


async def test_places_that_cannot_be_reached_are_said(system: System) -> None:
    nowhere = {
        "redis_url": type(system.settings.redis_url)("redis://127.0.0.1:9/0"),
        "kafka_bootstrap": "127.0.0.1:9",
    }
    settings = system.settings.model_copy(update=nowhere)
    done = await continuum(settings, "state", "show", "s")
    assert done.code == 1
    assert "not in redis: Redis does not answer" in done.notes
    assert "not in changelog: no Kafka answers" in done.notes
    put_in_table(system, "s", state_of(noise(300, 1)))
    found = await shown(settings, "s")
    assert found["place"] == "table"
    assert set(found["unreachable"]) == {"redis", "changelog"}
    done = await continuum(settings, "state", "verify", "--all", "--json")
    assert (done.code, done.json["sensors"], set(done.json["unreachable"])) == (0, 1, {"redis", "changelog"})


# -- verify


async def verified(system: System, *arguments: str):
    done = await continuum(system.settings, "state", "verify", *arguments, "--json")
    return done.code, done.json


async def test_verify_tells_equal_behind_damaged_and_contradictory(system: System) -> None:
    signal = noise(1000, 4)
    old, new = state_of(signal[:400]), state_of(signal)
    await put_everywhere(system, "equal", new)
    put_in_table(system, "behind", old)
    await put_on_changelog(system, "behind", old, new)
    await put_in_redis(system, "behind", old)
    await put_everywhere(system, "damaged", new)
    await put_everywhere(system, "differs", new)
    await put_everywhere(system, "lies", new)
    other = state_of(noise(1000, 5))
    async with redis_client(system.settings) as redis:

        async def put(sensor_id: str, **fields) -> None:
            await redis.hset(sensor_key(system.settings.topic_prefix, sensor_id, "state"), mapping=fields)

        await put("damaged", snapshot=new[:100] + bytes([new[100] ^ 1]) + new[101:])
        await put("differs", snapshot=other)
        await put("lies", next=999)

    code, verdict = await verified(system, "equal")
    assert (code, verdict["status"]) == (0, "equal")
    assert all(copy["identical"] for copy in verdict["copies"])
    code, verdict = await verified(system, "behind")
    assert (code, verdict["status"]) == (0, "behind")
    assert {(copy["place"], copy["behind"]) for copy in verdict["copies"]} == {
        ("redis", 600),
        ("table", 600),
        ("changelog", 0),
    }
    for sensor_id, status, says in (
        ("damaged", "damaged", "CRC-32"),
        ("differs", "contradictory", "different states of restarts 0, next 1000"),
        ("lies", "damaged", "Redis says restarts 0, next 999"),
    ):
        code, verdict = await verified(system, sensor_id)
        assert (code, verdict["status"]) == (1, status)
        assert says in " ".join(verdict["faults"])
        assert says in (await continuum(system.settings, "state", "verify", sensor_id)).out.decode().replace("\n", " ")
    # A damaged copy is passed over, where there is another.
    assert (await shown(system.settings, "damaged"))["place"] == "table"
    done = await continuum(system.settings, "state", "show", "damaged", "--from", "redis")
    assert done.code == 1
    assert "every copy of its state is damaged" in done.notes

    code, report = await verified(system, "--all")
    assert code == 1
    assert report["statuses"] == {"equal": 1, "behind": 1, "damaged": 2, "contradictory": 1}
    assert report["places"] == {"redis": 5, "table": 5, "changelog": 5}
    assert report["furthestBehind"] == {"redis": 600, "table": 600, "changelog": 0}
    assert {own["sensorId"] for own in report["faulty"]} == {"damaged", "differs", "lies"}


async def test_a_broken_database_is_a_fault(system: System) -> None:
    path = put_in_table(system, "s", state_of(noise(300, 1)))
    put_in_table(system, "t", state_of(noise(300, 1)))
    (path / "CURRENT").write_text("MANIFEST-999999\n")
    code, report = await verified(system, "--all")
    assert code == 1
    assert report["statuses"] == {"equal": 1}
    assert str(path) in report["unreadable"][0]


# -- beside a worker


async def test_beside_a_worker_that_writes(system: System) -> None:
    """The worker's database is locked, and its last writes are in its log only; nothing of it is disturbed."""
    settings = system.settings
    plan = plan_replay(builtin_ecg(), sensors=20, seconds=60)
    worker = await system.worker()
    sending = asyncio.create_task(replay(system, plan, speed=6))
    while not sending.done():
        code, verdict = await verified(system, plan.sensors[0])
        assert code in {0, 2}, verdict  # 2 before its first checkpoint
        code, report = await verified(system, "--all")
        assert code in {0, 2}, report
    verdict = await system.verify(verifier_of(plan))
    assert verdict.passed, verdict
    await asyncio.sleep(2 * settings.checkpoint_seconds)

    code, report = await verified(system, "--all")
    assert (code, report["statuses"]) == (0, {"equal": 20})
    assert report["places"] == {"redis": 20, "table": 20, "changelog": 20}
    tables = {}
    for table in table_partitions(settings, "rt"):
        tables |= dict(read_whole_table(table))
    assert sorted(tables) == sorted(plan.sensors)
    for copy in tables.values():
        assert copy.header.next == plan.blocks_per_sensor * 256
        assert copy.mirrored is NOT_MIRRORED
    assert await worker.stop() == 0

    # What the worker itself left, read by hand.
    for path in (settings.datadir / "workers" / "1" / "v1" / "tables").glob("rt-state-*.db"):
        with rocksdict.Rdict(str(path), rocksdict.Options(raw_mode=True)) as database:
            for key, snapshot in database.items():
                if not key.startswith(b"__faust"):
                    assert tables[key.decode()].snapshot == snapshot
    records = await system.read(changelog_topic(settings, "rt"), until=1_000_000, seconds=2)
    last = {record.key.decode(): record.value for record in sorted(records, key=lambda record: record.offset)}
    assert last == {sensor_id: copy.snapshot for sensor_id, copy in tables.items()}


async def test_sensors_of_a_gateway_beside_a_worker(system: System) -> None:
    worker = await system.worker()
    blocks = [packed(f"bed-{number}", noise(256, number), 1_700_000_000_000, seq=0) for number in range(5)]
    await system.send([(b"gateway", encode_frame(blocks))])

    async def processed() -> bool:
        return (await worker.status()).tiers["rt"].blocks == len(blocks)

    await until(processed, "all blocks are in the states")
    assert await worker.stop() == 0
    for number in range(5):
        code, verdict = await verified(system, f"bed-{number}")
        assert (code, verdict["status"]) == (0, "equal"), (number, verdict, worker.log.read_text()[-3000:])
        assert {copy["place"] for copy in verdict["copies"]} == {"redis", "table", "changelog"}
