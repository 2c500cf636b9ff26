"""Comparing the copies of the states of all sensors."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from app.kafka_client import BrokerError
from app.kafka_reader import topic_reader
from app.pipelines import known_pipelines
from app.redis_client import REDIS_ERRORS, explain, redis_client
from app.settings import Settings, SettingsError, TierName
from app.state_copies.changelog import changelog_copies, changelog_stretches
from app.state_copies.copies import Place, StateCopy, supersedes
from app.state_copies.mirrored import mirrored_sensors, read_mirrored
from app.state_copies.tables import TableError, read_whole_table, table_partitions
from app.state_copies.verify import Digest, Verdict, judge
from app.topics import TopicError

FAULTS_KEPT = 1000

#: Called with what is being read, how much of it has been, and of how much (None where that is not known).
OnStage = Callable[[str, int, int | None], object]


@dataclass
class Report:
    """What is to be said of all sensors' copies.

    Attributes
    ----------
    statuses
        Sensors by the status of their copies.
    places
        Sensors that have a copy in a place.
    furthest_behind
        Samples that a copy of a place is behind its sensor's newest one, at most.
    faulty
        Sensors whose copies are not sound; the first thousand.
    unreadable
        Databases of tables that cannot be read.
    unreachable
        Why a place could not be looked at.
    """

    statuses: Counter[str] = field(default_factory=Counter)
    places: Counter[str] = field(default_factory=Counter)
    furthest_behind: dict[str, int] = field(default_factory=dict)
    faulty: list[Verdict] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    unreachable: dict[Place, str] = field(default_factory=dict)

    @property
    def sensors(self) -> int:
        """Sensors that have any copy."""
        return self.statuses.total()

    @property
    def sound(self) -> bool:
        """Whether nothing that was looked at is damaged or contradicts another copy."""
        return not self.faulty and not self.unreadable


_Digests = defaultdict[str, list[Digest]]


async def verify_all(settings: Settings, tiers: Sequence[TierName], on_stage: OnStage) -> Report:
    """Compare the copies of all sensors of some tiers: tables first, changelogs next, Redis last.

    What is read later may be newer, as processing goes on meanwhile; of a few hundred bytes a copy all are kept.
    """
    report = Report()
    pipelines = known_pipelines(settings.pipelines)
    digests: _Digests = defaultdict(list)
    for tier in tiers:
        _read_tables(settings, tier, digests, report, on_stage)
    try:
        async with topic_reader(settings) as consumer:
            for tier in tiers:
                stretches = await changelog_stretches(consumer, settings, tier)
                newest: dict[tuple[int, bytes], StateCopy] = {}
                for partition in stretches:
                    # One partition after another, so that only one's states are in memory.
                    stage = f"changelog of {tier}, partition {partition.partition}"
                    async for _, key, copy in changelog_copies(
                        consumer,
                        {partition: stretches[partition]},
                        tier,
                        on_progress=partial(on_stage, stage),
                    ):
                        at = (partition.partition, key)
                        if copy is None:
                            newest.pop(at, None)
                        elif supersedes(copy, newest.get(at)):
                            newest[at] = copy
                    for (_, key), copy in newest.items():
                        digests[key.decode(errors="backslashreplace")].append(Digest.of(copy, pipelines))
                    newest.clear()
    except (BrokerError, TopicError) as error:
        report.unreachable["changelog"] = str(error)
    await _read_redis(settings, tiers, digests, report, on_stage)
    for sensor_id, own in digests.items():
        _count(report, judge(sensor_id, own))
    return report


def _read_tables(settings: Settings, tier: TierName, digests: _Digests, report: Report, on_stage: OnStage) -> None:
    pipelines, tables = known_pipelines(settings.pipelines), table_partitions(settings, tier)
    for number, table in enumerate(tables):
        on_stage(f"table of {tier}", number, len(tables))
        try:
            for sensor_id, copy in read_whole_table(table):
                digests[sensor_id].append(Digest.of(copy, pipelines))
        except TableError as error:
            report.unreadable.append(str(error))


async def _read_redis(
    settings: Settings, tiers: Sequence[TierName], digests: _Digests, report: Report, on_stage: OnStage
) -> None:
    pipelines = known_pipelines(settings.pipelines)
    known = len(digests)
    seen: set[str] = set()
    try:
        async with redis_client(settings) as redis:
            async for ids in mirrored_sensors(redis, settings.topic_prefix):
                fresh = [sensor_id for sensor_id in ids if sensor_id not in seen]
                seen.update(fresh)
                copies = await read_mirrored(redis, settings.topic_prefix, fresh)
                for sensor_id, copy in zip(fresh, copies, strict=True):
                    if copy is not None and (sensor_id in digests or copy.tier in tiers):
                        digests[sensor_id].append(Digest.of(copy, pipelines))
                on_stage("Redis", len(seen), max(known, len(seen)))
    except SettingsError as error:
        report.unreachable["redis"] = str(error)
    except REDIS_ERRORS as error:
        report.unreachable["redis"] = explain(error)


def _count(report: Report, verdict: Verdict) -> None:
    report.statuses[verdict.status] += 1
    places: dict[str, int] = {}
    for copy in verdict.copies:
        if copy.behind is not None:
            # A worker that had the partition before may have an old table: the best of a place counts.
            places[copy.place] = min(copy.behind, places.get(copy.place, copy.behind))
    for place, behind in places.items():
        report.furthest_behind[place] = max(behind, report.furthest_behind.get(place, 0))
    report.places.update({own.place for own in verdict.copies})
    if not verdict.sound and len(report.faulty) < FAULTS_KEPT:
        report.faulty.append(verdict)
