"""Ownership in Redis: what a claim, a save and a release do, and that of several owners exactly one is one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from redis.exceptions import ResponseError

from app.chaos.redis_cluster import RedisCluster
from app.mirror.keys import sensor_key, sensor_keys, wanted_key
from app.mirror.ownership import Ownership
from app.mirror.states import Claimed, Wanted
from app.redis_client import RedisClient, redis_client
from app.settings import Settings
from tests.mirroring import claim, state

FIELDS = {b"snapshot", b"epoch", b"owner", b"restarts", b"next", b"position", b"updated", b"source"}


@pytest.fixture(params=["single", "cluster"])
async def redis(request: pytest.FixtureRequest, settings: Callable[..., Settings]) -> AsyncIterator[RedisClient]:
    """Give a client of either kind of Redis."""
    url = {"redis_url": request.getfixturevalue("redis_cluster").url} if request.param == "cluster" else {}
    async with redis_client(settings(**url)) as client:
        yield client


@pytest.fixture
def prefix(settings: Callable[..., Settings]) -> str:
    return settings().topic_prefix


@pytest.fixture
def rt(redis: RedisClient, prefix: str) -> Ownership:
    return Ownership(redis, prefix, "rt")


@pytest.fixture
def nrt(redis: RedisClient, prefix: str) -> Ownership:
    return Ownership(redis, prefix, "nrt")


async def hash_of(redis: RedisClient, prefix: str, sensor_id: str = "s1") -> dict[bytes, bytes]:
    return await redis.hgetall(sensor_key(prefix, sensor_id, "state"))


async def test_a_save_leaves_what_the_contract_says(redis: RedisClient, prefix: str, rt: Ownership) -> None:
    assert await rt.claim([claim()]) == [Claimed("s1", True, 1, 0, -1, None, "")]
    assert await rt.save([state()]) == []
    saved = await hash_of(redis, prefix)
    assert set(saved) == FIELDS
    assert saved[b"snapshot"] == state().snapshot
    assert (saved[b"epoch"], saved[b"owner"], saved[b"restarts"], saved[b"next"]) == (b"1", b"rt", b"0", b"256")
    assert saved[b"position"] == b"rt-sensors-3-256"
    assert await redis.get(sensor_key(prefix, "s1", "features")) == b"{}"
    meta = await redis.hgetall(sensor_key(prefix, "s1", "meta"))
    assert meta == {b"pipeline": b"ecg", b"tier": b"rt", b"rate": b"250.0"}
    assert await rt.save([state(next_index=512, features=b"")]) == []
    assert await redis.get(sensor_key(prefix, "s1", "features")) == b"{}", "no record at hand: the old one stays"


async def test_a_tier_that_needs_nothing_newer_takes_over_at_once(rt: Ownership, nrt: Ownership) -> None:
    await rt.claim([claim()])
    await rt.save([state(next_index=512)])
    (taken,) = await nrt.claim([claim(first=512)])
    assert taken == Claimed("s1", True, 2, 0, 512, b"s1 0 512", "rt")
    assert await rt.wanted() == [Wanted("s1", 512, 1)], "the old owner is told"
    late = state(next_index=768)
    assert await rt.save([late]) == [late]
    assert await rt.release([("s1", 1)]) == ["s1"]
    assert await nrt.save([state(epoch=2, next_index=768)]) == []


async def test_a_handoff_waits_for_the_owner(redis: RedisClient, prefix: str, rt: Ownership, nrt: Ownership) -> None:
    await rt.claim([claim()])
    await rt.save([state(next_index=256)])
    (waits,) = await nrt.claim([claim(first=512)])
    assert waits == Claimed("s1", False, 1, 0, 256, None, "rt")
    assert (await hash_of(redis, prefix))[b"wanted"] == b"nrt:512"
    assert await rt.wanted() == [Wanted("s1", 512, 1)]
    assert await nrt.wanted() == []
    assert await rt.save([state(next_index=512)]) == []
    assert await rt.release([("s1", 1)]) == []
    assert await rt.wanted() == []
    assert set(await hash_of(redis, prefix)) == FIELDS
    (taken,) = await nrt.claim([claim(first=512)])
    assert taken == Claimed("s1", True, 2, 0, 512, b"s1 0 512", "")


async def test_a_save_that_gives_up_lets_anyone_claim(
    redis: RedisClient, prefix: str, rt: Ownership, nrt: Ownership
) -> None:
    await rt.claim([claim()])
    assert await rt.save([state()], release=True) == []
    found = await hash_of(redis, prefix)
    assert (found[b"owner"], found[b"epoch"], found[b"next"]) == (b"", b"1", b"256")
    assert await rt.save([state(next_index=512)]) == [state(next_index=512)], "it is not the owner any more"
    (taken,) = await nrt.claim([claim(first=512)])
    assert taken == Claimed("s1", True, 2, 0, 256, b"s1 0 256", "")


async def test_a_save_does_not_give_up_what_is_waited_for(
    redis: RedisClient, prefix: str, rt: Ownership, nrt: Ownership
) -> None:
    await rt.claim([claim()])
    assert not (await nrt.claim([claim(first=512)]))[0].taken
    assert await rt.save([state()], release=True) == []
    assert (await hash_of(redis, prefix))[b"owner"] == b"rt"
    assert not (await nrt.claim([claim(first=512)]))[0].taken, "it would be given an earlier state"
    # Another claim of the owner's own does not forget who waits.
    await rt.claim([claim()])
    assert await rt.save([state(epoch=2, next_index=300)], release=True) == []
    assert (await hash_of(redis, prefix))[b"owner"] == b"rt"
    assert await rt.save([state(epoch=2, next_index=512)], release=True) == []
    assert set(await hash_of(redis, prefix)) == FIELDS
    assert (await hash_of(redis, prefix))[b"owner"] == b""
    assert (await nrt.claim([claim(first=512)]))[0].taken


async def test_the_epochs_of_sensors(rt: Ownership, nrt: Ownership) -> None:
    await rt.claim([claim("a"), claim("b")])
    await nrt.claim([claim("b")])
    assert await rt.epochs(["a", "none", "b"]) == [1, None, 2]
    assert await rt.epochs([]) == []


async def test_force_takes_what_the_owner_does_not_give(
    redis: RedisClient, prefix: str, rt: Ownership, nrt: Ownership
) -> None:
    await rt.claim([claim()])
    await rt.save([state(next_index=256)])
    (taken,) = await nrt.claim([claim(first=512)], force=True)
    assert taken == Claimed("s1", True, 2, 0, 256, b"s1 0 256", "rt")
    assert b"wanted" not in await hash_of(redis, prefix)


async def test_a_wish_expires(redis: RedisClient, prefix: str, rt: Ownership) -> None:
    batch = Ownership(redis, prefix, "batch", handoff_wait=0.05)
    nrt = Ownership(redis, prefix, "nrt", handoff_wait=60)
    await rt.claim([claim("a"), claim("b")])
    await batch.claim([claim("a", first=1)])
    await nrt.claim([claim("b", first=2)])
    await asyncio.sleep(0.1)
    assert await rt.wanted() == [Wanted("b", 2, 1)]
    assert 0 < await redis.pttl(wanted_key(prefix, "rt")) <= 60_000


async def test_a_claim_of_ones_own_changes_nothing(rt: Ownership) -> None:
    await rt.claim([claim()])
    await rt.save([state()])
    assert await rt.claim([claim(first=512, known=(1, 0, 256))]) == [Claimed("s1", True, 1, 0, 256, None, "rt")]
    # A worker that has lost its memory is another owner than the one it was.
    assert await rt.claim([claim(first=512)]) == [Claimed("s1", True, 2, 0, 256, b"s1 0 256", "rt")]


async def test_the_greater_age_is_the_newer_whatever_the_epoch(rt: Ownership, nrt: Ownership) -> None:
    await rt.claim([claim()])
    await rt.save([state(restarts=1, next_index=256)])
    # A copy of before the restart is behind, though its index is ahead.
    (taken,) = await nrt.claim([claim(first=256, known=(7, 0, 9_999))])
    assert taken == Claimed("s1", True, 8, 1, 256, b"s1 1 256", "rt")
    # A copy that is newer than Redis's needs none of it.
    (taken,) = await rt.claim([claim(first=512, known=(1, 1, 512))])
    assert taken == Claimed("s1", True, 9, 1, 256, None, "nrt")
    older = state(epoch=9, restarts=0, next_index=9_999)
    assert await rt.save([state(epoch=9, restarts=1, next_index=512), older]) == [older]


async def test_two_owners_of_one_epoch_are_one(redis: RedisClient, prefix: str, rt: Ownership, nrt: Ownership) -> None:
    """A claim that a failover loses is made twice."""
    await rt.claim([claim()])
    await redis.delete(sensor_key(prefix, "s1", "state"))
    await nrt.claim([claim()])
    assert await rt.save([state(next_index=512)]) == [state(next_index=512)]
    assert await nrt.save([state()]) == []


async def test_what_redis_has_lost_is_written_by_its_owner(redis: RedisClient, prefix: str, rt: Ownership) -> None:
    await rt.claim([claim()])
    await redis.delete(sensor_key(prefix, "s1", "state"))
    assert await rt.release([("s1", 1)]) == []
    assert await rt.save([state(epoch=5)]) == []
    assert (await hash_of(redis, prefix))[b"epoch"] == b"5"


async def test_a_save_after_the_release_does_not_own_again(redis: RedisClient, prefix: str, rt: Ownership) -> None:
    await rt.claim([claim()])
    await rt.save([state()])
    assert await rt.release([("s1", 1)]) == []
    assert await rt.release([("s1", 1)]) == [], "as after an answer that got lost"
    assert await rt.save([state()]) == [state()]
    assert (await hash_of(redis, prefix))[b"owner"] == b""


async def test_many_sensors_some_of_them_lost(rt: Ownership, nrt: Ownership) -> None:
    """More than one script call, and answers in order."""
    names = [f"s{number}" for number in range(450)]
    assert [claimed.sensor_id for claimed in await rt.claim([claim(name) for name in names])] == names
    stolen = set(names[3::7])
    await nrt.claim([claim(name) for name in sorted(stolen)], force=True)
    states = [state(name, next_index=number) for number, name in enumerate(names)]
    assert [refused.sensor_id for refused in await rt.save(states)] == [name for name in names if name in stolen]
    assert await rt.release([(name, 1) for name in names]) == [name for name in names if name in stolen]
    kept = [name for name in names if name not in stolen]
    claims = await nrt.claim([claim(name, first=names.index(name)) for name in kept])
    assert all(claimed.taken for claimed in claims)
    assert [claimed.snapshot for claimed in claims] == [state(n, next_index=names.index(n)).snapshot for n in kept]


async def everything_of(redis: RedisClient, prefix: str, names: list[str]) -> list[object]:
    """All that Redis holds of sensors, but for when it was written."""
    found: list[object] = []
    for name in names:
        state_key, features_key, meta_key = sensor_keys(prefix, name)
        fields = await redis.hgetall(state_key)
        fields.pop(b"updated", None)
        found += [fields, await redis.get(features_key), await redis.hgetall(meta_key)]
    return found


async def test_many_together_are_saved_as_each_alone(redis: RedisClient, prefix: str) -> None:
    """Those that are refused, restarted, released and without features among them."""
    names = [f"s{number}" for number in range(230)]
    epochs = [number % 3 for number in range(230)]
    saved = [
        state(name, epoch=epoch, restarts=epoch, next_index=number * 256, features=b"{}" * (number % 2))
        for number, (name, epoch) in enumerate(zip(names, epochs, strict=True))
    ]
    refused, held = [], []
    for way in ("together", "alone"):
        own = Ownership(redis, f"{prefix}{way}-", "rt")
        other = Ownership(redis, own.prefix, "nrt")
        await own.claim([claim(name) for name in names])
        await other.claim([claim(name, first=9 * 256) for name in names[::7]])
        for release in (False, True):
            parts = [saved] if way == "together" else [[one] for one in saved]
            refused.append([one for part in parts for one in await own.save(part, release=release)])
        held.append(await everything_of(redis, own.prefix, names))
    assert held[0] == held[1]
    assert refused[:2] == refused[2:]
    assert len(refused[0]) == len(epochs[::3])


async def test_slots_that_have_moved_are_followed(
    settings: Callable[..., Settings], prefix: str, redis_cluster: RedisCluster
) -> None:
    async with redis_client(settings(redis_url=redis_cluster.url)) as client:
        await client.initialize()
        nodes = client.nodes_manager.slots_cache
        wrong = {slot: nodes[(slot + 8192) % 16384] for slot in nodes}
        nodes.update(wrong)
        own = Ownership(client, prefix, "rt")
        names = [f"s{number}" for number in range(30)]
        claimed = await own.claim([claim(name) for name in names])
        assert [(one.sensor_id, one.taken) for one in claimed] == [(name, True) for name in names]
        nodes.update(wrong)
        assert await own.save([state(name) for name in names]) == []
        assert await own.epochs(names) == [1] * 30


async def test_a_flushed_script_is_loaded_again(redis: RedisClient, rt: Ownership) -> None:
    await rt.claim([claim()])
    await redis.script_flush()
    assert await rt.save([state()]) == []


async def test_a_key_of_somebody_else_spoils_only_its_sensor(redis: RedisClient, prefix: str, rt: Ownership) -> None:
    await redis.set(sensor_key(prefix, "bad", "state"), "not a hash")
    claims = await rt.claim([claim("a"), claim("bad"), claim("b")])
    assert [(claimed.sensor_id, claimed.taken) for claimed in claims] == [("a", True), ("b", True)]
    states = [state(name, epoch=claims[0].epoch) for name in ("a", "bad", "b")]
    attempt = await rt.try_save(states)
    assert (attempt.refused, attempt.failed) == ([], [states[1]])
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await rt.save(states)


@pytest.mark.parametrize("sensor_id", ["a:b", "{a}", "}", "}x", "%7Dx", "%", "Ü 7", "a}b{c"])
async def test_any_sensor_id_keeps_its_keys_together(rt: Ownership, nrt: Ownership, sensor_id: str) -> None:
    from redis.crc import key_slot

    parts = ("state", "features", "meta")
    assert len({key_slot(sensor_key(rt.prefix, sensor_id, part).encode()) for part in parts}) == 1
    await rt.claim([claim(sensor_id)])
    await rt.save([state(sensor_id)])
    await nrt.claim([claim(sensor_id, first=300)])
    assert await rt.wanted() == [Wanted(sensor_id, 300, 1)]


def test_different_sensors_have_different_keys() -> None:
    names = ["}", "%7D", "%", "%25", "%257D", "a", "}a", "%7Da"]
    assert len({sensor_key("", name, "state") for name in names}) == len(names)
