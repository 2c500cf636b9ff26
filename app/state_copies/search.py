"""Looking for the copies of one sensor's state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from app.kafka_client import BrokerError
from app.kafka_reader import topic_reader
from app.redis_client import REDIS_ERRORS, explain, redis_client
from app.runtime.outbox import partition_of
from app.settings import TIERS, Settings, SettingsError, TierName
from app.state_copies.changelog import changelog_copies, changelog_stretches
from app.state_copies.copies import PLACES, Place, StateCopy, newest, supersedes
from app.state_copies.errors import StateError
from app.state_copies.mirrored import read_mirrored
from app.state_copies.tables import TableError, read_table, table_partitions
from app.topics import TopicError, changelog_topic, sensor_topic


@dataclass
class Search:
    """What was found of a sensor's state.

    Attributes
    ----------
    sensor_id
        Whose state.
    copies
        Sound and damaged ones, from Redis first, then tables, then changelogs.
    looked
        Where it was looked for, in words.
    unreachable
        Why a place could not be looked at.
    """

    sensor_id: str
    copies: list[StateCopy] = field(default_factory=list)
    looked: list[str] = field(default_factory=list)
    unreachable: dict[Place, str] = field(default_factory=dict)

    def newest(self) -> StateCopy:
        """Give the newest sound copy.

        Raises
        ------
        StateError
            There is none.
        """
        found = newest(self.copies)
        if found is not None:
            return found
        if self.copies:
            faults = "; ".join(f"{copy.place} {copy.where}: {copy.fault}" for copy in self.copies)
            raise StateError(f"sensor {self.sensor_id!r}: every copy of its state is damaged: {faults}")
        failed = "".join(f"; not in {place}: {why}" for place, why in self.unreachable.items())
        looked = "looked in " + ", ".join(self.looked) if self.looked else "looked nowhere"
        raise StateError(f"sensor {self.sensor_id!r} has no state: {looked}{failed}")


async def find_copies(
    settings: Settings,
    sensor_id: str,
    *,
    places: Sequence[Place] = PLACES,
    tiers: Sequence[TierName] = TIERS,
) -> Search:
    """Look for a sensor's state in Redis, in the tables of this data folder's workers, and on the changelogs.

    Parameters
    ----------
    settings
        The system's.
    sensor_id
        Whose state.
    places
        Where to look.
    tiers
        Whose tables and changelogs.
    """
    search = Search(sensor_id)
    if "redis" in places:
        await _look_in_redis(search, settings)
    if "table" in places:
        _look_in_tables(search, settings, tiers)
    if "changelog" in places:
        await _look_in_changelogs(search, settings, tiers)
    return search


async def _look_in_redis(search: Search, settings: Settings) -> None:
    try:
        async with redis_client(settings) as redis:
            (copy,) = await read_mirrored(redis, settings.topic_prefix, [search.sensor_id])
    except SettingsError as error:
        search.unreachable["redis"] = str(error)
    except REDIS_ERRORS as error:
        search.unreachable["redis"] = explain(error)
    else:
        search.looked.append("Redis")
        search.copies += [copy] if copy else []


def _look_in_tables(search: Search, settings: Settings, tiers: Sequence[TierName]) -> None:
    for tier in tiers:
        tables = table_partitions(settings, tier)
        search.looked.append(f"{len(tables)} partitions of table {tier}-state below {settings.datadir / 'workers'}")
        for table in tables:
            # Every one of them: a gateway's frames bring a sensor into the gateway's partition.
            try:
                copy = read_table(table, search.sensor_id)
            except TableError as error:
                search.unreachable["table"] = str(error)
            else:
                search.copies += [copy] if copy else []


async def _look_in_changelogs(search: Search, settings: Settings, tiers: Sequence[TierName]) -> None:
    try:
        async with topic_reader(settings) as consumer:
            for tier in tiers:
                whole = await changelog_stretches(consumer, settings, tier)
                likely = _likely_partitions(search, settings, tier, len(whole))
                key = search.sensor_id.encode()
                # Where it is likely to lie first, as reading one partition is quick.
                for chosen in (likely, set(range(len(whole))) - likely):
                    stretches = {tp: stretch for tp, stretch in whole.items() if tp.partition in chosen}
                    found: dict[int, StateCopy] = {}
                    async for partition, _, copy in changelog_copies(consumer, stretches, tier, only=key):
                        if copy is None:
                            found.pop(partition, None)
                        elif supersedes(copy, found.get(partition)):
                            found[partition] = copy
                    search.copies += found.values()
                    if found:
                        break
                search.looked.append(f"changelog {changelog_topic(settings, tier)}")
    except (BrokerError, TopicError) as error:
        search.unreachable["changelog"] = str(error)


def _likely_partitions(search: Search, settings: Settings, tier: TierName, count: int) -> set[int]:
    """Where the key belongs, and where the copies found so far come from."""
    positions = [copy.header.position for copy in search.copies if copy.header]
    topic = sensor_topic(settings, tier)
    return {
        partition_of(search.sensor_id.encode(), count),
        *(position.partition for position in positions if position.topic == topic and position.partition < count),
    }
