"""The mark of a repartition that has begun and not ended: no worker may start meanwhile.

The partition counts tell it too, until the last of the topics is raised; but not where the sensors' topic had been
raised before by other means. It is the metadata of a commit, which needs no right and no topic that the application
does not have anyway. Kafka keeps it for `offsets.retention.minutes`, a week unless set otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition

from app.commits import read_commits
from app.errors import ContinuumError
from app.kafka_client import client_options, started
from app.settings import TIERS, Settings, TierName
from app.topics import changelog_topic


class RepartitionError(ContinuumError):
    """A tier cannot be repartitioned now, or is not done with it."""


class Unfinished(NamedTuple):
    """A repartition that has begun."""

    tier: TierName
    before: int
    """Partition count with which the states were put where they were."""
    after: int


async def unfinished(settings: Settings) -> list[Unfinished]:
    """Give the repartitions that have begun and not ended."""
    group = _group(settings)
    commits = (await read_commits(settings, [group]))[group]
    marked: list[Unfinished] = []
    for tier in TIERS:
        found = commits.get(_place(settings, tier))
        if found is not None and found.metadata:
            before, after = found.metadata.split()
            marked.append(Unfinished(tier, int(before), int(after)))
    return marked


def check_unfinished(marked: Iterable[Unfinished]) -> None:
    """Refuse to go on beside a repartition.

    Raises
    ------
    RepartitionError
        One has begun and not ended.
    """
    for tier, before, after in marked:
        raise RepartitionError(
            f"the states of tier {tier} are on their way from {before} to {after} partitions: `continuum topics"
            f" repartition --tier {tier} --partitions {after}` goes on where it was interrupted"
        )


async def mark(settings: Settings, begun: Unfinished) -> None:
    """Mark a repartition as begun."""
    await _commit(settings, begun.tier, f"{begun.before} {begun.after}")


async def unmark(settings: Settings, tier: TierName) -> None:
    """Say that a tier's repartition has ended."""
    await _commit(settings, tier, "")


async def _commit(settings: Settings, tier: TierName, text: str) -> None:
    place = _place(settings, tier)
    consumer = AIOKafkaConsumer(**client_options(settings), group_id=_group(settings), enable_auto_commit=False)
    async with started(consumer, settings):
        consumer.assign([place])
        await consumer.commit({place: (0, text)})


def _group(settings: Settings) -> str:
    return f"{settings.app_id}-repartition"


def _place(settings: Settings, tier: TierName) -> TopicPartition:
    return TopicPartition(changelog_topic(settings, tier), 0)
