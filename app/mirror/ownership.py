"""Which tier owns a sensor: claims, and writes that only the owner of the moment can make."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from app.mirror.keys import sensor_key, sensor_keys, wanted_key
from app.mirror.script import Call, Script
from app.mirror.states import Claim, Claimed, Saved, Wanted
from app.mirror.wire import encoded
from app.redis_client import REDIS_ERRORS, RedisClient


class Attempt(NamedTuple):
    """What became of states that were to be saved; those in neither list are in Redis."""

    refused: list[Saved]
    failed: list[Saved]
    """Redis did not take them."""
    error: Exception | None
    """Why, for the first of them."""


class Ownership:
    """Claims, saves and releases sensors for a tier.

    Each sensor has an epoch, which every claim raises. Only the owner saves and releases, under the epoch of its
    claim, so of several tiers that believe they own a sensor exactly one succeeds.

    Parameters
    ----------
    redis
        Client that gives bytes.
    prefix
        Goes before every key.
    tier
        Whose claims these are. All workers of a tier are one owner: Kafka shares its sensors out among them.
    handoff_wait
        How long another tier is told that its sensor is wanted, s.
    """

    def __init__(self, redis: RedisClient, prefix: str, tier: str, handoff_wait: float = 2.0) -> None:
        self.redis = redis
        self.prefix = prefix
        self.tier = tier
        self._tier = tier.encode()
        self._wish_ms = round(handoff_wait * 1000)
        self._save = Script(redis, "save")
        self._claim = Script(redis, "claim")
        self._release = Script(redis, "release")
        self._want = Script(redis, "want")
        self._wanted = Script(redis, "wanted")

    async def save(self, states: Sequence[Saved], *, release: bool = False) -> list[Saved]:
        """Save states; gives those refused: claimed by another since, or older than what Redis has.

        Parameters
        ----------
        states
            At most one a sensor.
        release
            Give the sensors up with it, in one step, but for those of which somebody waits for a later state.

        Raises
        ------
        REDIS_ERRORS
            Redis did not take all of them. To save one again does no harm.
        """
        attempt = await self.try_save(states, release=release)
        if attempt.error:
            raise attempt.error
        return attempt.refused

    async def try_save(self, states: Sequence[Saved], *, release: bool = False) -> Attempt:
        """Save as many states as Redis takes, as `save` does; raises nothing where it does not."""
        updated = b"%d" % (time.time() * 1000)
        results = await self._save([self._save_call(state, updated, release=release) for state in states])
        failed = [state for state, result in zip(states, results, strict=True) if isinstance(result, Exception)]
        return Attempt(
            [state for state, result in zip(states, results, strict=True) if result == 0], failed, _first_error(results)
        )

    def _save_call(self, state: Saved, updated: bytes, *, release: bool) -> Call:
        topic, partition, offset = state.position.topic, state.position.partition, state.position.offset
        return Call(
            sensor_keys(self.prefix, state.sensor_id),
            (
                state.snapshot,
                b"%d" % state.epoch,
                self._tier,
                b"%d" % state.restarts,
                b"%d" % state.next,
                f"{topic}-{partition}-{offset}".encode(),
                updated,
                state.features,
                state.pipeline.encode(),
                str(state.rate).encode(),
                b"1" if release else b"0",
            ),
        )

    async def claim(self, claims: Sequence[Claim], *, force: bool = False) -> list[Claimed]:
        """Claim sensors.

        A claim is taken at once where no other tier owns the sensor, or where the newest state, in Redis or at hand,
        is not behind the sample in hand. Else its owner is told; ask again until it has released the sensor.

        Parameters
        ----------
        claims
            At most one a sensor.
        force
            Take them in any case, as after a wait that was too long.

        Returns
        -------
        list of Claimed
            In the order of the claims, without those that Redis did not answer.

        Raises
        ------
        REDIS_ERRORS
            Redis answered none of them.
        """
        results = await self._claim([self._claim_call(claim, force=force) for claim in claims])
        answered = [(claim, result) for claim, result in zip(claims, results, strict=True) if _is_answer(result)]
        if not answered and (error := _first_error(results)):
            raise error
        claimed = [_claimed(claim.sensor_id, *result[:6]) for claim, result in answered]
        # A wish also tells an owner that its sensor is gone: it need not wait until a save is refused.
        wishes = [
            Call(
                [wanted_key(self.prefix, owner.decode())],
                encoded(wish(claim.first, before, claim.sensor_id), self._wish_ms),
            )
            for claim, (*_, owner, before, others) in answered
            if others
        ]
        await self._want(wishes)
        return claimed

    def _claim_call(self, claim: Claim, *, force: bool) -> Call:
        state, _, meta = sensor_keys(self.prefix, claim.sensor_id)
        return Call(
            (state, meta),
            (
                self._tier,
                claim.source.encode(),
                b"%d" % claim.first,
                b"%d" % claim.epoch,
                b"%d" % claim.restarts,
                b"%d" % claim.next,
                b"1" if force else b"0",
                claim.pipeline.encode(),
            ),
        )

    async def release(self, sensors: Sequence[tuple[str, int]]) -> list[str]:
        """Give sensors up, by id and the epoch of their claim; save first. Gives the ids of those refused: not ours.

        Raises
        ------
        REDIS_ERRORS
            Redis did not take all of them. To release one again does no harm.
        """
        results = await self._release(
            [Call(sensor_keys(self.prefix, sensor_id)[:1], encoded(self.tier, epoch)) for sensor_id, epoch in sensors]
        )
        answered = [(*sensor, *result) for sensor, result in zip(sensors, results, strict=True) if _is_answer(result)]
        fulfilled = [
            wish(waiting.decode().rpartition(":")[2], epoch, sensor_id)
            for sensor_id, epoch, _, waiting in answered
            if waiting
        ]
        if fulfilled:
            with suppress(*REDIS_ERRORS):  # it expires by itself
                await self.redis.zrem(wanted_key(self.prefix, self.tier), *fulfilled)
        if error := _first_error(results):
            raise error
        return [sensor_id for sensor_id, _, released, _ in answered if not released]

    async def epochs(self, sensor_ids: Sequence[str]) -> list[int | None]:
        """Give the epoch of each sensor's last claim; None where Redis has none.

        Raises
        ------
        REDIS_ERRORS
            Redis does not answer.
        """
        pipeline = self.redis.pipeline(transaction=False)
        for sensor_id in sensor_ids:
            pipeline.hget(sensor_key(self.prefix, sensor_id, "state"), "epoch")
        return [None if epoch is None else int(epoch) for epoch in await pipeline.execute()]

    async def wanted(self) -> list[Wanted]:
        """Give the sensors of this tier that others want or have taken; a tier's workers all get the same list.

        Raises
        ------
        REDIS_ERRORS
            Redis does not answer.
        """
        (result,) = await self._wanted([Call([wanted_key(self.prefix, self.tier)], [])])
        if isinstance(result, Exception):
            raise result
        split = (member.decode().split(":", 2) for member in result)
        return [Wanted(sensor_id, int(first), int(epoch)) for first, epoch, sensor_id in split]


def _is_answer(result: Any) -> bool:
    return not isinstance(result, Exception)


def _first_error(results: Iterable[Any]) -> Exception | None:
    return next((result for result in results if isinstance(result, Exception)), None)


def wish(first: int | str, epoch: int, sensor_id: str) -> str:
    """Write what is wanted of a tier: a sensor at an index, claimed under no later epoch than this."""
    return f"{first}:{epoch}:{sensor_id}"


def _claimed(
    sensor_id: str, taken: int, epoch: int, restarts: int, next_index: int, snapshot: bytes | None, owner: bytes
) -> Claimed:
    return Claimed(sensor_id, bool(taken), epoch, restarts, next_index, snapshot, owner.decode())
