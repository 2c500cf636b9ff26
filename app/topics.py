"""The topics of the system: their names, partition counts and settings, and how to create and check them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from app.errors import ContinuumError
from app.kafka_client import admin_client
from app.settings import TIERS, Settings, TierName
from app.tiers import TIER_DEFAULTS

FEATURE_PARTITIONS = 12
DEAD_LETTER_PARTITIONS = 10

LEADERS_SECONDS, LEADERS_PAUSE = 30.0, 0.1

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
        How many it is created with, unless `tier` says otherwise.
    tier
        Whose sensors' blocks or states it holds, if it does: all such topics of a tier have one partition count, which
        may be raised (`continuum topics repartition`). None where any count will do.
    config
        Topic settings that differ from the broker's.
    """

    name: str
    partitions: int
    tier: TierName | None = None
    config: Mapping[str, str] = field(default_factory=dict)


def sensor_topic(settings: Settings, tier: TierName) -> str:
    """Name of the topic on which a tier's sensors send."""
    return f"{settings.topic_prefix}{tier}-sensors"


def tier_of(settings: Settings, topic: str) -> TierName | None:
    """Tier on whose topic sensors send; None if it is no sensors' topic."""
    return next((tier for tier in TIERS if sensor_topic(settings, tier) == topic), None)


def changelog_topic(settings: Settings, tier: TierName) -> str:
    """Name of the changelog of a tier's state table; the same whichever tiers a worker runs."""
    return f"{settings.topic_prefix}{settings.app_id}-{tier}-state-changelog"


def sensors_changelog(settings: Settings) -> str:
    """Name of the changelog of the `sensors` table, which every worker has whole."""
    return f"{settings.topic_prefix}{settings.app_id}-sensors-changelog"


def features_topic(settings: Settings, pipeline: str) -> str:
    """Name of the topic of a pipeline's features."""
    return f"{settings.topic_prefix}{pipeline}-features"


def dead_letter_topic(settings: Settings) -> str:
    """Name of the topic of bad input."""
    return f"{settings.topic_prefix}dead-letters"


def needed_topics(settings: Settings, pipelines: Iterable[str]) -> list[Topic]:
    """All topics of the system, for pipelines of the given names."""
    tiers = TIER_DEFAULTS.items()
    topics = [Topic(sensor_topic(settings, tier), own.partitions, tier) for tier, own in tiers]
    topics += [Topic(changelog_topic(settings, tier), own.partitions, tier, CHANGELOG_CONFIG) for tier, own in tiers]
    topics.append(Topic(sensors_changelog(settings), 1, config=CHANGELOG_CONFIG))
    topics += [Topic(features_topic(settings, name), FEATURE_PARTITIONS) for name in pipelines]
    topics.append(Topic(dead_letter_topic(settings), DEAD_LETTER_PARTITIONS, config=DEAD_LETTER_CONFIG))
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

    One of a tier gets the partition count of the tier's other topic, where that exists.

    Raises
    ------
    TopicError
        A broker refuses, or the partitions are not ready in time.
    """
    counts = await partition_counts(settings, topics)
    by_tier: dict[TierName | None, int] = {
        topic.tier: count for topic in topics if topic.tier and (count := counts[topic.name])
    }
    missing = [
        replace(topic, partitions=by_tier.get(topic.tier, topic.partitions))
        for topic in topics
        if counts[topic.name] is None
    ]
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


async def _wait_for_leaders(admin: AIOKafkaAdminClient, topics: list[Topic], least: int = 1) -> None:
    """Wait until the brokers agree on new topics or partitions: for a moment some do not know them, or lead nothing."""
    for _ in range(round(LEADERS_SECONDS / LEADERS_PAUSE)):
        found = await _describe(admin, topics)
        if all(
            len(partitions or ()) >= least
            and all(not partition["error_code"] and partition["leader"] >= 0 for partition in partitions or ())
            for partitions in found.values()
        ):
            return
        await asyncio.sleep(LEADERS_PAUSE)
    raise TopicError(
        f"new partitions of {', '.join(topic.name for topic in topics)} have no leaders after {LEADERS_SECONDS:g} s:"
        " check that the brokers are up, then try again"
    )


async def largest_message(settings: Settings, topic: str) -> int:
    """Largest batch of records that a topic takes, as it is compressed, in bytes."""
    async with admin_client(settings) as admin:
        (response,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
    ((_, _, _, _, entries),) = response.resources
    return next(int(value) for name, value, *_ in entries if name == "max.message.bytes")


async def raise_partitions(settings: Settings, topic: str, count: int) -> None:
    """Give a topic more partitions, and wait until each has its leader; one that has as many is left alone.

    Raises
    ------
    TopicError
        The brokers refuse, or the partitions are not ready in time.
    """
    async with admin_client(settings) as admin:
        raised = Topic(topic, count)
        found = (await _describe(admin, [raised]))[topic]
        if found is not None and len(found) < count:
            try:
                await admin.create_partitions({topic: NewPartitions(count)})
            except KafkaError as error:
                raise TopicError(
                    f"topic {topic} could not be raised to {count} partitions ({error}): check the user's right to"
                    " alter topics"
                ) from error
        await _wait_for_leaders(admin, [raised], count)


async def check_topics(settings: Settings, topics: list[Topic]) -> dict[str, int]:
    """Refuse to go on where a topic is missing or cannot hold what the tables need.

    Returns
    -------
    dict
        Partition count of each topic.

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
    return {name: len(found) for name, found in partitions.items()}


def disagreeing(topics: Iterable[Topic], counts: Mapping[str, int | None]) -> dict[TierName, dict[str, int]]:
    """Give the tiers whose topics differ in their partition counts, and these by topic; missing ones are left out."""
    by_tier: dict[TierName, dict[str, int]] = {}
    for topic in topics:
        count = counts[topic.name]
        if topic.tier and count is not None:
            by_tier.setdefault(topic.tier, {})[topic.name] = count
    return {tier: own for tier, own in by_tier.items() if len(set(own.values())) > 1}


def _check_counts(topics: list[Topic], partitions: Mapping[str, list[Any]]) -> None:
    counts = {name: len(found) for name, found in partitions.items()}
    wrong = disagreeing(topics, counts)
    if wrong:
        found = "; ".join(f"{name} has {count}" for own in wrong.values() for name, count in own.items())
        remedies = " and ".join(
            f"`continuum topics repartition --tier {tier} --partitions {max(own.values())}`"
            for tier, own in wrong.items()
        )
        raise TopicError(
            f"partition counts that differ: {found}. A sensor's state lies in the partition of its blocks, so no worker"
            f" may run on these: {remedies} brings the states to their partitions, and goes on where it was interrupted"
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
