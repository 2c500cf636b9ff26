"""A controlled move of sensors to another tier: drain, release, claim.

The tier is set first, so that ingest sends to the new one. Then the owner is asked to give each sensor up, in the way
in which another tier asks that has its next block: it processes what lies on its topic, saves, and releases. A sensor
of which nothing is left there is claimed for the new tier, which goes on from its state. Where the owner does not
answer, Redis has the newest state if no block came after it; then the sensor is taken all the same.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition

from app.commits import committed
from app.kafka_reader import Stretch, Stretches, retained, topic_reader
from app.mirror.imports import ANY_INDEX
from app.mirror.keys import wanted_key
from app.mirror.ownership import Ownership, wish
from app.mirror.script import Call, Script
from app.mirror.states import Claim
from app.mirror.wire import encoded
from app.preflight import application_groups, group_subscriptions
from app.redis_client import RedisClient, redis_client
from app.runtime.claims import FIRST_UNKNOWN
from app.runtime.outbox import partition_of
from app.sensors.backlog import blocks_of
from app.sensors.listing import SensorRow, read_rows
from app.sensors.metadata import NOTHING_SET
from app.sensors.registry import change_set, read_set
from app.settings import TIERS, Settings, TierName
from app.topics import sensor_topic

POLL_SECONDS = 0.1
GRACE_SECONDS = 1.0
"""Beyond `handoff_wait`, in which an owner that lives gives up a sensor that it is asked for."""

Outcome = Literal["moved", "taken", "there", "new", "refused", "undrained"]


class Moved(msgspec.Struct, frozen=True, rename="camel"):
    """What became of a sensor that was to be moved.

    Attributes
    ----------
    outcome
        `moved`: its owner has given it up, with everything processed. `taken`: its owner did not answer, and its
        state in Redis was taken: with nothing left behind, or by force. `there`: it was on that tier already.
        `new`: nobody has met it yet. `refused`: nothing was changed. `undrained`: its tier is set, and its
        owner has not processed all yet; the tiers hand it over themselves when its next block comes.
    tier_before
        That had it; empty if none did.
    next, restarts, epoch
        Of its state; None where there is none.
    left
        Blocks of it that are not in its state.
    seconds
        That it took.
    detail
        Why, where it was refused or is undrained.
    """

    sensor_id: str
    outcome: Outcome
    tier_before: str
    next: int | None
    restarts: int
    epoch: int | None
    left: int = 0
    seconds: float = 0.0
    detail: str = ""

    @property
    def done(self) -> bool:
        """Whether the sensor's next block may go to the new tier."""
        return self.outcome not in {"refused", "undrained"}


@dataclass
class _Mover:
    """A sensor on its way."""

    row: SensorRow
    source: TopicPartition
    """Where its blocks have come from so far."""
    stretch: Stretch
    """Of that, what may hold blocks that are not in its state; it ends where the partition did when the move began."""
    left: Sequence[int] = ()
    """Offsets of its blocks there."""
    asked: float | None = None
    """When its owner was asked for it first, s, monotonic."""

    def not_in_state(self, commits: Mapping[TopicPartition, int]) -> int:
        """Count its blocks that are not in the state that Redis has.

        Once its owner has released it, Redis has all that has been committed.
        """
        reached = _reached(self.row, self.source)
        if not self.row.owner:
            reached = max(reached, commits.get(self.source, 0))
        return sum(offset >= reached for offset in self.left)


def _reached(row: SensorRow, source: TopicPartition) -> int:
    """Up to where in a partition a sensor's blocks are in its state."""
    place = row.position
    if place is None or (place.topic, place.partition) != (source.topic, source.partition):
        return 0
    return place.offset


OnProgress = Callable[[int, int], object]


async def move_sensors(
    settings: Settings,
    sensor_ids: Sequence[str],
    tier: TierName,
    *,
    seconds: float = 30.0,
    force: bool = False,
    on_progress: OnProgress = lambda _done, _total: None,
) -> list[Moved]:
    """Move sensors to a tier.

    Parameters
    ----------
    settings
        The system's.
    sensor_ids
        Which.
    tier
        To which.
    seconds
        How long their owners may take.
    force
        Take them after that from owners that have not processed all: what is left comes late, and is dropped.
    on_progress
        Called with how many are done, and of how many.

    Raises
    ------
    REDIS_ERRORS, BrokerError, TopicError
        Redis or Kafka does not answer.
    """
    async with redis_client(settings) as redis, topic_reader(settings) as consumer:
        move = _Move(settings, redis, consumer, tier, force=force)
        return await move.run(list(dict.fromkeys(sensor_ids)), seconds, on_progress)


class _Move:
    """One move of some sensors."""

    def __init__(
        self, settings: Settings, redis: RedisClient, consumer: AIOKafkaConsumer, tier: TierName, *, force: bool
    ) -> None:
        self._settings = settings
        self._redis = redis
        self._prefix = settings.topic_prefix
        self._consumer = consumer
        self._tier = tier
        self._force = force
        self._started = time.monotonic()
        self._patience = settings.handoff_wait + GRACE_SECONDS
        self._ownership = Ownership(redis, self._prefix, tier, settings.handoff_wait)
        self._want = Script(redis, "want")
        self._movers: dict[str, _Mover] = {}
        self._results: dict[str, Moved] = {}
        self._served: Collection[str] = ()

    async def run(self, sensor_ids: Sequence[str], seconds: float, on_progress: OnProgress) -> list[Moved]:
        rows = await read_rows(self._redis, self._prefix, sensor_ids)
        self._served = {topic for topics in (await group_subscriptions(self._settings)).values() for topic in topics}
        self._movers = await self._look_for_left([row for row in rows if _tier_of(row) not in {None, self._tier}])
        commits = await committed(self._settings, application_groups(self._settings))
        for mover in list(self._movers.values()):
            left = mover.not_in_state(commits)
            if left and mover.source.topic not in self._served and not self._force:
                self._end(mover.row, "refused", left, f"nobody reads {mover.source.topic} now")
        await self._set_tier([row.sensor_id for row in rows if row.sensor_id not in self._results])
        for row in rows:
            if row.sensor_id not in self._movers and row.sensor_id not in self._results:
                self._end(row, "new" if _tier_of(row) is None else "there")
        while True:
            on_progress(len(self._results), len(rows))
            if not self._movers:
                return [self._results[sensor_id] for sensor_id in sensor_ids]
            await self._step(overdue=time.monotonic() - self._started > seconds)
            await asyncio.sleep(POLL_SECONDS if self._movers else 0)

    # -- what is left on the topics

    async def _look_for_left(self, rows: Sequence[SensorRow]) -> dict[str, _Mover]:
        """Find the blocks of sensors that lie on their topics now and may not be in their states."""
        movers: dict[str, _Mover] = {}
        commits = await committed(self._settings, application_groups(self._settings)) if rows else {}
        topics: dict[str, Stretches] = {}
        for row in rows:
            topic = sensor_topic(self._settings, cast("TierName", _tier_of(row)))
            if topic not in topics:
                topics[topic] = await retained(self._consumer, self._settings, topic)
            source = _source_of(row, topic, len(topics[topic]))
            kept = topics[topic].get(source, Stretch(0, 0))
            start = _reached(row, source)
            if not row.owner or not start:
                start = max(start, commits.get(source, 0))
            movers[row.sensor_id] = _Mover(row, source, Stretch(max(start, kept.start), kept.end))
        stretches: dict[TopicPartition, Stretch] = {}
        for mover in movers.values():
            first = min(mover.stretch.start, stretches.get(mover.source, mover.stretch).start)
            stretches[mover.source] = Stretch(first, mover.stretch.end)
        stretches = {source: stretch for source, stretch in stretches.items() if stretch.start < stretch.end}
        if stretches:
            own = {sensor_id: mover.stretch for sensor_id, mover in movers.items()}
            for sensor_id, offsets in (await blocks_of(self._consumer, stretches, own)).items():
                movers[sensor_id].left = offsets
        return movers

    # -- drain, release, claim

    async def _set_tier(self, sensor_ids: Sequence[str]) -> None:
        known = await read_set(self._settings)
        metas = {
            sensor_id: msgspec.structs.replace(known.get(sensor_id, NOTHING_SET), tier=self._tier)
            for sensor_id in sensor_ids
        }
        await change_set(self._settings, {id_: meta for id_, meta in metas.items() if meta != known.get(id_)})

    async def _step(self, *, overdue: bool) -> None:
        """Look where the sensors are now, and do what comes next for each."""
        for row in await read_rows(self._redis, self._prefix, list(self._movers)):
            self._movers[row.sensor_id].row = row
        waits = any(mover.left and not mover.row.owner for mover in self._movers.values())
        commits = await committed(self._settings, application_groups(self._settings)) if waits else {}
        now = time.monotonic()
        drained: list[SensorRow] = []
        asked: list[SensorRow] = []
        silent: list[SensorRow] = []
        taken: dict[str, int] = {}
        for mover in list(self._movers.values()):
            row, left = mover.row, mover.not_in_state(commits)
            if row.owner == self._tier:  # a block of it has come there, and its tier was quicker than we
                self._end(row, "moved")
            elif not row.owner and not left:
                drained.append(row)
            elif overdue and not self._force:
                self._end(row, "undrained", left, f"{_tier_of(row)} has not come to its end within the time given")
            elif overdue:
                taken[row.sensor_id] = left
            elif not left and self._is_silent(mover, now):
                silent.append(row)
            elif row.owner:
                mover.asked = mover.asked or now
                asked.append(row)
        await self._ask_for(asked)
        # Not from an owner that has it again, because another block came: it has the newer state.
        await self._claim(drained, FIRST_UNKNOWN, {})
        taken |= dict.fromkeys(await self._current_in_redis(silent), 0)
        await self._claim([self._movers[sensor_id].row for sensor_id in taken], ANY_INDEX, taken)

    async def _current_in_redis(self, rows: Sequence[SensorRow]) -> list[str]:
        """Give the sensors of which nothing has come since, to be in the memory of an owner that is slow to answer."""
        return [id_ for id_, mover in (await self._look_for_left(rows)).items() if not mover.not_in_state({})]

    def _is_silent(self, mover: _Mover, now: float) -> bool:
        """Whether a sensor's owner does not answer, or is not there to do so."""
        if mover.source.topic not in self._served:
            return True
        return mover.asked is not None and now - mover.asked > self._patience

    async def _ask_for(self, rows: Sequence[SensorRow]) -> None:
        """Tell owners that their sensors are wanted as soon as they have come to the end of their topics."""
        milliseconds = round(self._settings.handoff_wait * 1000)
        await self._want(
            [
                Call(
                    [wanted_key(self._prefix, row.owner)],
                    encoded(wish(FIRST_UNKNOWN, row.epoch or 0, row.sensor_id), milliseconds),
                )
                for row in rows
            ]
        )

    async def _claim(self, rows: Sequence[SensorRow], first: int, taken: Mapping[str, int]) -> None:
        by_id = {row.sensor_id: row for row in rows}
        for own in await self._ownership.claim([Claim(sensor_id, first, 0, 0, -1) for sensor_id in by_id]):
            if own.taken:
                row = by_id[own.sensor_id]._replace(epoch=own.epoch, next=own.next, restarts=own.restarts)
                self._end(row, "taken" if taken else "moved", taken.get(own.sensor_id, 0))

    def _end(self, row: SensorRow, outcome: Outcome, left: int = 0, detail: str = "") -> None:
        mover = self._movers.pop(row.sensor_id, None)
        before = "" if mover is None else mover.source.topic.removeprefix(self._prefix).removesuffix("-sensors")
        self._results[row.sensor_id] = Moved(
            row.sensor_id,
            outcome,
            before or row.owner or row.tier,
            row.next if row.next != -1 else None,
            row.restarts,
            row.epoch,
            left,
            round(time.monotonic() - self._started, 3),
            detail,
        )


def _tier_of(row: SensorRow) -> str | None:
    """Tier that has a sensor, or had it last; None if none did."""
    tier = row.owner or row.tier
    return tier if tier in TIERS else None


def _source_of(row: SensorRow, topic: str, count: int) -> TopicPartition:
    """Partition of a topic that a sensor's blocks have come from, or would come from under its own key."""
    for place in (row.source, row.position):
        if place is not None and place.topic == topic:
            return TopicPartition(topic, place.partition)
    return TopicPartition(topic, partition_of(row.sensor_id.encode(), count))
