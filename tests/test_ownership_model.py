"""Tiers that claim, save and release at random, against a model of what Redis must then hold."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from pydantic import SecretStr

from app.chaos.redis_cluster import RedisCluster
from app.mirror.keys import sensor_key
from app.mirror.ownership import Ownership
from app.mirror.states import Claim, Claimed
from app.redis_client import redis_client
from app.services import Endpoints
from app.settings import Settings
from tests.mirroring import state

TIERS = ("rt", "nrt", "batch")
SENSORS = ("a", "b", "{c}")
LAST = "the last owner"
A_TIER, A_SENSOR = st.sampled_from(TIERS), st.sampled_from(SENSORS)
#: Mostly one whose saves are not refused at once.
SOMEBODY = st.sampled_from([LAST, LAST, LAST, *TIERS])
SOME_SENSORS = st.sets(A_SENSOR, min_size=1)
_examples = itertools.count(1)


@dataclass
class Copy:
    """What a tier has in memory of a sensor."""

    epoch: int = 0
    age: tuple[int, int] = (0, -1)


@dataclass
class Truth:
    """What Redis should have of a sensor."""

    epoch: int = 0
    owner: str = ""
    age: tuple[int, int] = (0, -1)
    wanted: str | None = None


class Tiers(RuleBasedStateMachine):
    """Tiers with memories that may be old, wrong or gone."""

    url: str

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.prefix = f"model{next(_examples)}-"
        self.redis = redis_client(Settings(redis_url=SecretStr(self.url)))
        self.tiers = {tier: Ownership(self.redis, self.prefix, tier, handoff_wait=60) for tier in TIERS}
        self.copies = {(tier, sensor): Copy() for tier in TIERS for sensor in SENSORS}
        self.truth = {sensor: Truth() for sensor in SENSORS}
        #: Who was given each epoch of a sensor.
        self.owners: dict[tuple[str, int], str] = {}
        self.ages = dict.fromkeys(SENSORS, (0, -1))

    def run(self, coroutine: Any) -> Any:
        return self.runner.run(coroutine)

    def resolve(self, who: str, sensor: str) -> str:
        return self.owners.get((sensor, self.truth[sensor].epoch), TIERS[0]) if who == LAST else who

    def teardown(self) -> None:
        self.run(self.redis.aclose())
        self.runner.close()

    @rule(
        tier=A_TIER,
        ahead=st.dictionaries(A_SENSOR, st.sampled_from([None, -1, 0, 1, 3]), min_size=1),
        force=st.booleans(),
    )
    def claim(self, tier: str, ahead: dict[str, int | None], force: bool) -> None:
        """Claim some sensors; the block in hand is so far ahead of the tier's own copy, or any state will do."""
        claims, expected = [], []
        for sensor, distance in ahead.items():
            copy, truth = self.copies[tier, sensor], self.truth[sensor]
            first = -1 if distance is None else max(copy.age[1], 0) + distance
            claims.append(Claim(sensor, first, copy.epoch, *copy.age))
            owner, newest = truth.owner, max(truth.age, copy.age)
            if owner not in ("", tier) and newest[1] < first and not force:
                truth.wanted = f"{tier}:{first}"
                expected.append(Claimed(sensor, False, truth.epoch, *truth.age, None, owner))
                continue
            if owner != tier or truth.epoch != copy.epoch:
                truth.epoch, truth.owner = max(truth.epoch, copy.epoch) + 1, tier
                if truth.wanted and truth.wanted.startswith(f"{tier}:"):
                    truth.wanted = None
                assert (sensor, truth.epoch) not in self.owners, "an epoch is given once"
                self.owners[sensor, truth.epoch] = tier
            snapshot = state(sensor, restarts=truth.age[0], next_index=truth.age[1]).snapshot
            given = snapshot if truth.age > copy.age else None
            expected.append(Claimed(sensor, True, truth.epoch, *truth.age, given, owner))
            copy.epoch, copy.age = truth.epoch, newest
        assert self.run(self.tiers[tier].claim(claims, force=force)) == expected
        told = {outcome.owner for outcome in expected} - {"", tier}
        for other in told:
            wanted = self.run(self.tiers[other].wanted())
            mine = [claim for claim, outcome in zip(claims, expected, strict=True) if outcome.owner == other]
            assert {(claim.sensor_id, claim.first) for claim in mine} <= {
                (want.sensor_id, want.first) for want in wanted
            }

    @rule(
        tier=st.sampled_from(TIERS), sensor=st.sampled_from(SENSORS), samples=st.integers(1, 3), restart=st.booleans()
    )
    def process(self, tier: str, sensor: str, samples: int, restart: bool) -> None:
        """Go on, whether or not the sensor is still the tier's."""
        copy = self.copies[tier, sensor]
        restarts, next_index = copy.age
        copy.age = (restarts + 1, samples) if restart else (restarts, max(next_index, 0) + samples)

    @rule(
        tier=st.sampled_from(TIERS),
        sensors=st.sets(st.sampled_from(SENSORS), min_size=1),
        back=st.sampled_from([0, 0, 1]),
        release=st.booleans(),
    )
    def save(self, tier: str, sensors: set[str], back: int, release: bool) -> None:
        """Save what the tier has, or what it had before; and give it up, unless somebody waits for a later state."""
        states, refused = [], []
        for sensor in sorted(sensors):
            copy, truth = self.copies[tier, sensor], self.truth[sensor]
            if copy.epoch == 0:
                continue
            age = (copy.age[0], copy.age[1] - back)
            states.append(state(sensor, epoch=copy.epoch, restarts=age[0], next_index=age[1]))
            if (copy.epoch, tier) != (truth.epoch, truth.owner) or age < truth.age:
                refused.append(states[-1])
            else:
                truth.age = age
                if release and not (truth.wanted and int(truth.wanted.partition(":")[2]) > age[1]):
                    truth.owner, truth.wanted = "", None
        assert self.run(self.tiers[tier].save(states, release=release)) == refused

    @rule(who=SOMEBODY, sensors=SOME_SENSORS)
    def release(self, who: str, sensors: set[str]) -> None:
        """Release sensors, some perhaps of others; what is released, anyone can claim at once."""
        tier = self.resolve(who, min(sensors))
        pairs = [(sensor, self.copies[tier, sensor].epoch) for sensor in sorted(sensors)]
        refused = []
        for sensor, epoch in pairs:
            truth = self.truth[sensor]
            if truth.epoch and (epoch != truth.epoch or truth.owner not in (tier, "")):
                refused.append(sensor)
            elif truth.epoch:
                truth.owner, truth.wanted = "", None
        assert self.run(self.tiers[tier].release(pairs)) == refused

    @rule(tier=A_TIER, sensor=A_SENSOR)
    def forget(self, tier: str, sensor: str) -> None:
        """A worker has crashed, and its disk is gone."""
        self.copies[tier, sensor] = Copy()

    @invariant()
    def redis_holds_what_it_should(self) -> None:
        for sensor, truth in self.truth.items():
            found = self.run(self.redis.hgetall(sensor_key(self.prefix, sensor, "state")))
            assert int(found.get(b"epoch", 0)) == truth.epoch
            assert found.get(b"owner", b"").decode() == truth.owner
            assert found.get(b"wanted") == (truth.wanted.encode() if truth.wanted else None)
            age = (int(found.get(b"restarts", 0)), int(found.get(b"next", -1)))
            assert age == truth.age
            assert age >= self.ages[sensor], "a state never goes back"
            self.ages[sensor] = age
            if truth.owner:
                assert self.owners[sensor, truth.epoch] == truth.owner


@pytest.mark.parametrize("kind", ["single", "cluster"])
def test_tiers_and_redis_agree(kind: str, services: Endpoints, redis_cluster: RedisCluster) -> None:
    url = services.redis_url if kind == "single" else redis_cluster.url
    machine = type("Machine", (Tiers,), {"url": url})
    run_state_machine_as_test(machine, settings=hypothesis_settings(max_examples=60, stateful_step_count=40))
