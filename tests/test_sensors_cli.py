"""`continuum sensors list | show | set` against a real Kafka and a real Redis, without any worker."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from app.redis_client import redis_client
from app.sensors.metadata import MetadataError, SensorMeta, check_meta, decode_meta, encode_meta
from app.sensors.registry import read_set
from app.services.ports import free_ports
from tests.command import continuum
from tests.stored_states import put_in_redis, source_of, state_of
from tests.system import System, noise


def test_metadata_has_one_encoding():
    meta = SensorMeta("ecg", "nrt", {"b": "2", "a": "1"})
    assert encode_meta(meta) == b'{"labels":{"a":"1","b":"2"},"pipeline":"ecg","tier":"nrt"}'
    assert encode_meta(SensorMeta()) == b"{}"
    assert not SensorMeta()
    assert SensorMeta(labels={"a": ""})


@given(st.builds(SensorMeta, st.text(), st.text(), st.dictionaries(st.text(), st.text())))
def test_metadata_survives_its_encoding(meta: SensorMeta):
    assert decode_meta(encode_meta(meta)) == meta


@given(st.binary(max_size=40))
def test_bytes_that_are_no_metadata_are_refused(value: bytes):
    try:
        is_one = isinstance(msgspec.json.decode(value), dict)
    except (msgspec.DecodeError, UnicodeDecodeError):
        is_one = False
    if not is_one:
        with pytest.raises(MetadataError, match="cannot be read"):
            decode_meta(value)


@pytest.mark.parametrize(
    ("meta", "said"),
    [
        (SensorMeta("egc"), "pipeline 'egc': expected one of ecg, wearable"),
        (SensorMeta(tier="fast"), "tier 'fast': expected one of rt, nrt, batch"),
        (SensorMeta(labels={"a b": "1"}), "label 'a b': expected up to 63"),
        (SensorMeta(labels={"a" * 64: "1"}), "label 'aaa.*expected up to 63"),
        (SensorMeta(labels={"a": "ü" * 129}), "label 'a' of 258 bytes: expected at most 256"),
        (SensorMeta(labels={f"l{number}": "" for number in range(33)}), "33 labels: expected at most 32"),
    ],
)
def test_what_no_worker_could_use_is_refused(meta: SensorMeta, said: str):
    with pytest.raises(MetadataError, match=said):
        check_meta(meta, {"ecg", "wearable"})


async def test_set_show_list_and_unset(system: System) -> None:
    settings = system.settings
    for id_ in ("a", "b"):
        await put_in_redis(system, id_, state_of(noise(500, seed=1), **source_of(system, id_)))
    done = await continuum(settings, "sensors", "set", "a", "c", "--pipeline", "ecg-beats", "--label", "ward=7")
    assert (done.code, done.notes) == (0, "")
    assert done.out.decode().splitlines() == [f"{id_}: pipeline ecg-beats; labels ward=7" for id_ in "ac"]
    done = await continuum(settings, "sensors", "set", "a", "--tier", "nrt", "--label", "bed=3=left", "--json")
    assert done.json == [
        {"sensorId": "a", "set": {"pipeline": "ecg-beats", "tier": "nrt", "labels": {"ward": "7", "bed": "3=left"}}}
    ]
    (shown,) = [(await continuum(settings, "sensors", "show", "a", "--json")).json]
    assert (shown["owner"], shown["tier"], shown["pipeline"], shown["ranLast"]) == ("rt", "nrt", "ecg-beats", "ecg")
    assert (shown["next"], shown["rate"], shown["labels"]) == (500, 250.0, {"ward": "7", "bed": "3=left"})
    assert shown["updated"] > 1_700_000_000_000
    assert "ward=7" in (await continuum(settings, "sensors", "show", "a")).out.decode()

    async def listed(*options: str) -> list[str]:
        return [own["sensorId"] for own in (await continuum(settings, "sensors", "list", "--json", *options)).json]

    assert await listed() == ["a", "b", "c"]
    assert await listed("--tier", "rt") == ["a", "b"]
    assert await listed("--pipeline", "ecg-beats") == ["a", "c"]
    assert await listed("--label", "ward=7", "--label", "bed=3=left") == ["a"]
    table = await continuum(settings, "sensors", "list")
    assert "ecg-beats (set)" in table.out.decode()
    assert "3 of 3 sensors" in table.notes
    done = await continuum(settings, "sensors", "set", "a", "c", "--unset", "pipeline", "--unset", "ward", "--json")
    assert [own["set"] for own in done.json] == [{"tier": "nrt", "labels": {"bed": "3=left"}}, {}]
    assert await read_set(settings) == {"a": SensorMeta("", "nrt", {"bed": "3=left"})}
    assert await listed("--pipeline", "ecg") == ["a", "b"]
    done = await continuum(settings, "sensors", "show", "c")
    assert (done.code, done.notes) == (1, "nobody has met sensor 'c', and nothing is set of it")
    for wrong, said in [
        (["set", "a"], "nothing to set"),
        (["set", "a", "--label", "ward"], "label 'ward': expected NAME=VALUE"),
        (["set", "a", "--tier", "rt", "--unset", "tier"], "to be set and to be unset"),
        (["set", "a", "--pipeline", "egc"], "pipeline 'egc': expected one of"),
        (["set", "", "--tier", "rt"], "sensor id of 0 bytes"),
    ]:
        done = await continuum(settings, "sensors", *wrong)
        assert done.code == 2
        assert said in done.notes
    assert await read_set(settings) == {"a": SensorMeta("", "nrt", {"bed": "3=left"})}


async def test_without_redis(system: System) -> None:
    (dead,) = free_ports(1)
    settings = system.settings.model_copy(update={"redis_url": SecretStr(f"redis://127.0.0.1:{dead}")})
    done = await continuum(settings, "sensors", "set", "a", "--tier", "nrt")
    assert done.code == 0
    assert "set, and workers will tell Redis: Redis does not answer" in done.notes
    assert await read_set(settings) == {"a": SensorMeta(tier="nrt")}
    for command in (["list"], ["show", "a"], ["move", "a", "--to", "rt"]):
        done = await continuum(settings, "sensors", *command)
        assert (done.code, "Redis does not answer" in done.notes) == (2, True), done


@pytest.mark.parametrize("kind", ["single", "cluster"])
async def test_thousands_are_listed(kind: str, request: pytest.FixtureRequest, settings) -> None:
    from app.sensors.described import write_set

    url = {"redis_url": request.getfixturevalue("redis_cluster").url} if kind == "cluster" else {}
    own = settings(**url)
    ids = [*(f"m{number}" for number in range(3_000)), "}odd{", "%7D", "Ü 7"]
    async with redis_client(own) as redis:
        await write_set(redis, own.topic_prefix, {id_: SensorMeta(labels={"id": id_}) for id_ in ids})
    done = await continuum(own, "sensors", "list", "--json")
    assert {row["sensorId"]: row["labels"]["id"] for row in done.json} == {id_: id_ for id_ in ids}
    assert len(done.json) == len(ids)
