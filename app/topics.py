"""The topics of the system: their names, partition counts and settings, and how to create and check them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import TopicAlreadyExistsError, for_code

from app.errors import ContinuumError
from app.kafka_client import admin_client
from app.settings import Settings, TierName

SENSOR_PARTITIONS: dict[TierName, int] = {"rt": 50, "nrt": 30, "batch": 20}
FEATURE_PARTITIONS = 12
DEAD_LETTER_PARTITIONS = 10

LEADERS_SECONDS, LEADERS_PAUSE = 30.0, 0.1

#: Tiers that keep state in a table of this release.
STATEFUL_TIERS: tuple[TierName, ...] = ("rt", "nrt")

_POLICY, _COMPACT = "cleanup.policy", "compact"

#: A changelog is read whole when a worker starts without its disk, so old values must go soon.
CHANGELOG_CONFIG = {
    _POLICY: _COMPACT,
    "segment.ms": "600000",
    "segment.bytes": str(64 << 20),
    "min.cleanable.dirty.ratio": "0.2",
    "max.compaction.lag.ms": "1800000",
}

#: A dead letter is the largest message that a sensor topic takes, and its headers.
DEAD_LETTER_CONFIG = {"max.message.bytes": str(2 << 20)}


class TopicError(ContinuumError):
    """A topic is missing, or not as the state tables need it."""


@dataclass(frozen=True)
class Topic:
    """A topic the system needs.

    Parameters
    ----------
    name
        With the prefix of the settings.
    partitions
        How many it is created with.
    fixed
        Whether the count is part of the contract: tables are partitioned with it, so another is refused.
    config
        Topic settings that differ from the broker's.
    """

    name: str
    partitions: int
    fixed: bool = True
    config: Mapping[str, str] = field(default_factory=dict)


def sensor_topic(settings: Settings, tier: TierName) -> str:
    """Name of the topic on which a tier's sensors send."""
    return f"{settings.topic_prefix}{tier}-sensors"


def changelog_topic(settings: Settings, tier: TierName) -> str:
    """Name of the changelog of a tier's state table; the same whichever tiers a worker runs."""
    return f"{settings.topic_prefix}{settings.app_id}-{tier}-state-changelog"


def features_topic(settings: Settings, pipeline: str) -> str:
    """Name of the topic of a pipeline's features."""
    return f"{settings.topic_prefix}{pipeline}-features"


def dead_letter_topic(settings: Settings) -> str:
    """Name of the topic of bad input."""
    return f"{settings.topic_prefix}dead-letters"


def needed_topics(settings: Settings, pipelines: Iterable[str]) -> list[Topic]:
    """All topics of the system, for pipelines of the given names."""
    topics = [Topic(sensor_topic(settings, tier), count) for tier, count in SENSOR_PARTITIONS.items()]
    topics += [
        Topic(changelog_topic(settings, tier), SENSOR_PARTITIONS[tier], config=CHANGELOG_CONFIG)
        for tier in STATEFUL_TIERS
    ]
    topics += [Topic(features_topic(settings, name), FEATURE_PARTITIONS, fixed=False) for name in pipelines]
    topics.append(Topic(dead_letter_topic(settings), DEAD_LETTER_PARTITIONS, fixed=False, config=DEAD_LETTER_CONFIG))
    return topics


async def partition_counts(settings: Settings, topics: Iterable[Topic]) -> dict[str, int | None]:
    """Partition count of each topic as the brokers have it; None where there is no such topic."""
    async with admin_client(settings) as admin:
        found = await _describe(admin, topics)
    return {name: None if partitions is None else len(partitions) for name, partitions in found.items()}


async def _describe(admin: AIOKafkaAdminClient, topics: Iterable[Topic]) -> dict[str, list[Any] | None]:
    """Describe each topic's partitions; None where there is no such topic."""
    entries = {entry["topic"]: entry for entry in await admin.describe_topics([topic.name for topic in topics])}
    found: dict[str, list[Any] | None] = {}
    for topic in topics:
        entry = entries.get(topic.name)
        found[topic.name] = entry["partitions"] if entry and not entry["error_code"] else None
    return found


async def create_topics(settings: Settings, topics: list[Topic]) -> list[Topic]:
    """Create those topics that do not exist, and give them back once every partition has its leader.

    Raises
    ------
    TopicError
        A broker refuses, or the partitions are not ready in time.
    """
    counts = await partition_counts(settings, topics)
    missing = [topic for topic in topics if counts[topic.name] is None]
    if not missing:
        return []
    async with admin_client(settings) as admin:
        brokers = len((await admin.describe_cluster())["brokers"])
        factor = settings.replication_factor or min(3, brokers)
        safety = {"min.insync.replicas": "2"} if factor >= 3 else {}
        response = await admin.create_topics(
            [
                NewTopic(topic.name, topic.partitions, factor, topic_configs={**safety, **topic.config})
                for topic in missing
            ]
        )
        _check_created(response, factor, brokers)
        await _wait_for_leaders(admin, missing)
    return missing


def _check_created(response: Any, factor: int, brokers: int) -> None:
    for name, code, *message in response.topic_errors:
        error = for_code(code)
        if code and error is not TopicAlreadyExistsError:
            reason = next((text for text in message if text), error.__name__)
            raise TopicError(
                f"topic {name} could not be created ({reason}): check CONTINUUM_REPLICATION_FACTOR={factor} against"
                f" the {brokers} broker(s), and the user's right to create topics"
            )


async def _wait_for_leaders(admin: AIOKafkaAdminClient, topics: list[Topic]) -> None:
    """Wait until the brokers agree on the new topics: for a moment some do not know them, or lead nothing."""
    for _ in range(round(LEADERS_SECONDS / LEADERS_PAUSE)):
        found = await _describe(admin, topics)
        if all(
            partitions and all(not partition["error_code"] and partition["leader"] >= 0 for partition in partitions)
            for partitions in found.values()
        ):
            return
        await asyncio.sleep(LEADERS_PAUSE)
    raise TopicError(
        f"the new topics have no leaders after {LEADERS_SECONDS:g} s: check that the brokers are up, then run"
        " `continuum topics create` again"
    )


async def largest_message(settings: Settings, topic: str) -> int:
    """Largest batch of records that a topic takes, as it is compressed, in bytes."""
    async with admin_client(settings) as admin:
        (response,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
    ((_, _, _, _, entries),) = response.resources
    return next(int(value) for name, value, *_ in entries if name == "max.message.bytes")


async def check_topics(settings: Settings, topics: list[Topic]) -> None:
    """Refuse to go on where a topic is missing or cannot hold what the tables need.

    Raises
    ------
    TopicError
        Naming each topic, its partition count, clean-up policy or replicas, what was expected and the remedy.
    """
    async with admin_client(settings) as admin:
        described = await _describe(admin, topics)
        missing = [name for name, partitions in described.items() if partitions is None]
        if missing:
            raise TopicError(f"missing topics: {', '.join(missing)}. Create them first: `continuum topics create`")
        partitions = {name: found for name, found in described.items() if found is not None}
        _check_counts(topics, partitions)
        changelogs = [topic.name for topic in topics if topic.config.get(_POLICY) == _COMPACT]
        _check_policies(await _policies(admin, changelogs))
        _check_replicas(settings, {name: partitions[name] for name in changelogs})


def _check_counts(topics: list[Topic], partitions: Mapping[str, list[Any]]) -> None:
    counts = {name: len(found) for name, found in partitions.items()}
    wrong = [topic for topic in topics if topic.fixed and counts[topic.name] != topic.partitions]
    if wrong:
        found = "; ".join(f"{topic.name} has {counts[topic.name]}, expected {topic.partitions}" for topic in wrong)
        raise TopicError(
            f"wrong partition counts: {found}. State tables are partitioned with their sensors' topic, so no worker"
            " may run on these. Delete the topics and run `continuum topics create`, or set CONTINUUM_TOPIC_PREFIX"
            " to use a set of topics of their own"
        )


def _check_policies(policies: Mapping[str, str]) -> None:
    wrong = {name: policy for name, policy in policies.items() if policy != _COMPACT}
    if wrong:
        found = "; ".join(f"{name} has {policy}" for name, policy in wrong.items())
        raise TopicError(
            f"changelogs that are not compacted ({_POLICY}): {found}, expected {_COMPACT}. State that lies there"
            " longer than the retention would be deleted. For each of them:"
            f" `kafka-configs.sh --alter --topic NAME --add-config {_POLICY}={_COMPACT}`"
        )


def _check_replicas(settings: Settings, changelogs: Mapping[str, list[Any]]) -> None:
    expected = settings.replication_factor
    fewest = {name: min(len(partition["replicas"]) for partition in found) for name, found in changelogs.items()}
    wrong = {name: count for name, count in fewest.items() if expected is not None and count < expected}
    if wrong:
        found = "; ".join(f"{name} has {count}" for name, count in wrong.items())
        raise TopicError(
            f"changelogs with too few replicas: {found}, expected CONTINUUM_REPLICATION_FACTOR={expected}. Add"
            " replicas with kafka-reassign-partitions.sh, or set the variable to what the topics have"
        )


async def _policies(admin: AIOKafkaAdminClient, names: list[str]) -> dict[str, str]:
    """Clean-up policies of topics."""
    resources = [ConfigResource(ConfigResourceType.TOPIC, name, {_POLICY: ""}) for name in names]
    policies = {}
    for response in await admin.describe_configs(resources):
        for code, message, _, name, entries in response.resources:
            if code:
                raise TopicError(f"the settings of {name} cannot be read ({message or for_code(code).__name__})")
            policies[name] = next(value for key, value, *_ in entries if key == _POLICY)
    return policies
