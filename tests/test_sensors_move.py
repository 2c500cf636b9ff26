"""Controlled moves: with the owner's worker running, and with nobody there."""

from __future__ import annotations

from app.redis_client import redis_client
from app.sensors.registry import read_set
from app.topics import sensor_topic
from app.wire.blocks import encode_frame, packed
from tests.command import continuum
from tests.sensor_streams import BLOCK, Streams, features, records, tiers_of, timestamp_of
from tests.system import System

OLD_STATE = {"checkpoint_seconds": 60.0}
"""Redis has nothing of a sensor until somebody asks for it."""


async def test_there_and_back_in_mid_stream(system: System) -> None:
    streams = Streams(system, 10)
    worker = await system.worker(**OLD_STATE)
    await streams.send("rt", 1, pipeline="ecg-branched")
    await features(worker, "rt", 10)
    count = {"rt": 10, "nrt": 0}
    now, then = "rt", "nrt"
    for _ in range(3):
        await streams.send(now, 4)  # all of it on the topic, and little of it processed, when the move begins
        count[now] += 40
        done = await continuum(system.settings, "sensors", "move", *streams.ids, "--to", then, "--json")
        assert done.code == 0, done
        assert (done.json["tier"], done.json["topic"]) == (then, sensor_topic(system.settings, then))
        for own in done.json["sensors"]:
            assert (own["outcome"], own["tierBefore"], own["left"]) == ("moved", now, 0)
            assert own["next"] == streams.sent * BLOCK, "everything has been processed, and is in the state"
        async with redis_client(system.settings) as redis:
            assert await tiers_of(redis, system.settings.topic_prefix, streams.ids) == dict.fromkeys(streams.ids, then)
        now, then = then, now
    await streams.send(now, 4)
    await features(worker, now, count[now] + 40)
    done = await continuum(system.settings, "sensors", "move", "s0", "stranger", "--to", now, "--json")
    assert [own["outcome"] for own in done.json["sensors"]] == ["there", "new"]
    verdict = await system.verify(streams.verifier(pipeline="ecg-branched"), pipeline="ecg-branched", quiet=0.5)
    assert verdict.passed, (verdict, verdict.examples)
    assert await records(system, "ecg-branched") == streams.unmoved("ecg-branched"), "to the last bit"
    for tier in ("rt", "nrt"):
        status = (await worker.status()).tiers[tier]
        assert (status.gaps, status.late, status.dead_letters) == (0, 0, {})
    assert await worker.stop() == 0


async def test_the_owner_s_worker_is_down(system: System) -> None:
    """What Redis has is taken if it is the newest there can be; else the move says what is left behind."""
    streams = Streams(system, 3)
    worker = await system.worker()
    await streams.send("rt", 3)
    await features(worker, "rt", 9)
    assert await worker.stop() == 0
    begin, own = 3 * BLOCK, streams.signals[1]
    frame = [packed("s1", own[begin : begin + BLOCK], timestamp_of(begin)), packed("other", own[:5], 0)]
    await system.send([(b"s1", streams.message(1, 3, None)), (b"gateway", encode_frame(frame))])
    done = await continuum(system.settings, "sensors", "move", "s0", "s1", "--to", "nrt", "--json")
    assert done.code == 1
    taken, refused = done.json["sensors"]
    assert (taken["outcome"], taken["next"], taken["left"]) == ("taken", begin, 0)
    assert (refused["outcome"], refused["left"]) == ("refused", 1), "the frame lies in its gateway's partition"
    assert "nobody reads" in refused["detail"]
    assert {id_: meta.tier for id_, meta in (await read_set(system.settings)).items()} == {"s0": "nrt"}
    done = await continuum(system.settings, "sensors", "move", "s1", "--to", "nrt", "--force", "--timeout", "0")
    assert done.code == 0
    assert "taken" in done.out.decode()
    assert "1 blocks on the old topic are not in its state" in done.out.decode()
    done = await continuum(system.settings, "sensors", "list", "--tier", "nrt", "--json")
    assert [(own["sensorId"], own["owner"]) for own in done.json] == [("s0", "nrt"), ("s1", "nrt")]
    # Its state goes on there, and the tier takes it at once.
    worker = await system.worker(tiers=("nrt",), handoff_wait=60.0)
    await system.send([(b"s0", streams.message(0, 3, None))], tier="nrt")
    await features(worker, "nrt", 1)
    status = (await worker.status()).tiers["nrt"]
    assert (status.gaps, status.late, status.dead_letters) == (0, 0, {})
    assert await worker.stop() == 0
