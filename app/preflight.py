"""What must be true before a worker or a function starts: topics as they need them, and no other group on them."""

from __future__ import annotations

from itertools import chain, combinations
from typing import TYPE_CHECKING

from aiokafka.coordinator.protocol import ConsumerProtocolMemberMetadata

from app.commits import adopt_commits
from app.errors import ContinuumError
from app.kafka_client import admin_client
from app.kafka_patience import patient
from app.repartition.marker import check_unfinished, unfinished
from app.settings import TIERS, Settings, TierName
from app.topics import check_topics, needed_topics, sensor_topic

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from app.faust_app import ContinuumApp


class GroupConflictError(ContinuumError):
    """Another consumer group of ours reads one of the worker's topics, or its own group reads others."""


@patient
async def check_before_start(app: ContinuumApp) -> None:
    """Refuse to start where a worker would lose or spoil state.

    Raises
    ------
    TopicError
        A topic is missing, or a tier's topics have different partition counts.
    RepartitionError
        A tier's states are on their way to other partitions.
    GroupConflictError
        Sensors would be processed twice, or by workers that do not know their topic.
    """
    settings = app.settings
    own = {None, *settings.tiers}
    needed = [topic for topic in needed_topics(settings, app.pipelines) if topic.tier in own]
    counts = await check_topics(settings, needed)
    check_unfinished(begun for begun in await unfinished(settings) if begun.tier in own)
    topics = {tier.topic for tier in app.tiers.values()} or {sensor_topic(settings, tier) for tier in settings.tiers}
    subscriptions = await group_subscriptions(settings)
    check_groups(settings, topics, subscriptions)
    if settings.group_id not in subscriptions:
        await adopt_commits(settings, settings.group_id, application_groups(settings), topics)
    app.partitions = {topic: counts[topic] for topic in topics}


async def check_before_serving(settings: Settings, tiers: Sequence[TierName], pipelines: Iterable[str]) -> None:
    """Refuse to let the function process tiers where their sensors' state would be lost or spoilt.

    Parameters
    ----------
    settings
        Of the function.
    tiers
        Whose topics it is to process.
    pipelines
        Names of the known ones.

    Raises
    ------
    TopicError, RepartitionError, GroupConflictError
        As for `check_before_start`.
    """
    await check_topics(settings, needed_topics(settings, pipelines))
    check_unfinished(begun for begun in await unfinished(settings) if begun.tier in tiers)
    subscriptions = await group_subscriptions(settings)
    for tier in tiers:
        check_function_groups(settings, tier, subscriptions)
        group = settings.function_group(tier)
        if group not in subscriptions:
            await adopt_commits(settings, group, application_groups(settings), {sensor_topic(settings, tier)})


def check_groups(settings: Settings, topics: Iterable[str], subscriptions: dict[str, set[str]]) -> None:
    """Compare the topics of a worker with what the living groups of its application read.

    Parameters
    ----------
    settings
        Of the worker.
    topics
        Its sensor topics.
    subscriptions
        Topics that the members of each living group read, by group.

    Raises
    ------
    GroupConflictError
        As for `check_before_start`.
    """
    wanted = set(topics)
    functions = {settings.function_group(tier) for tier in TIERS}
    for group, read in subscriptions.items():
        shared = sorted(wanted & read)
        if group in functions and shared:
            raise GroupConflictError(
                f"group {group} has a living poller on {', '.join(shared)}, which lets the function process it: every"
                " block would be processed twice. Stop it (it is `continuum function serve`, or an event source"
                f" mapping), or run a worker of the other tiers: CONTINUUM_TIERS={_others(settings, shared)}"
            )
        if group != settings.group_id and shared:
            raise GroupConflictError(
                f"group {group} has a living worker on {', '.join(shared)}, and this one would join"
                f" {settings.group_id}: every block would be processed twice. Stop that one, or run its tiers here"
                f" too: CONTINUUM_TIERS={','.join(_groups(settings)[group])}"
            )
        if group == settings.group_id and not wanted <= read:
            raise GroupConflictError(
                f"group {group} has living workers that read {', '.join(sorted(read)) or 'nothing'}, and not"
                f" {', '.join(sorted(wanted - read))}: set another CONTINUUM_APP_ID here, or the same"
                " CONTINUUM_TOPIC_PREFIX everywhere"
            )


def check_function_groups(settings: Settings, tier: TierName, subscriptions: dict[str, set[str]]) -> None:
    """Compare a tier that the function is to process with what the living groups of its application read.

    Parameters
    ----------
    settings
        Of the function.
    tier
        Whose topic it is to process.
    subscriptions
        As for `check_groups`.

    Raises
    ------
    GroupConflictError
        A worker reads the topic.
    """
    topic, own = sensor_topic(settings, tier), settings.function_group(tier)
    for group, read in subscriptions.items():
        if group != own and topic in read:
            raise GroupConflictError(
                f"group {group} has a living worker on {topic}, and the function would join {own}: every block would"
                f" be processed twice. Stop that worker, or let it run without the tier {tier}:"
                f" CONTINUUM_TIERS={','.join(name for name in _groups(settings)[group] if name != tier) or '...'}"
            )
        if group == own and topic not in read:
            raise GroupConflictError(
                f"group {group} has living pollers that read {', '.join(sorted(read)) or 'nothing'}, and not {topic}:"
                " set another CONTINUUM_APP_ID here, or the same CONTINUUM_TOPIC_PREFIX everywhere"
            )


def application_groups(settings: Settings) -> list[str]:
    """Name all groups that the application may have: its workers', and those in which its functions are fed."""
    return list(_groups(settings))


@patient
async def group_subscriptions(settings: Settings) -> dict[str, set[str]]:
    """Topics that each living group reads: the workers', whichever tiers they run, and the functions'."""
    wanted = _groups(settings).keys()
    subscriptions: dict[str, set[str]] = {}
    async with admin_client(settings) as admin:
        existing = {group for group, _ in await admin.list_consumer_groups()}
        for group in sorted(wanted & existing):
            # One at a time: aiokafka 0.14 cannot read the description of several.
            (response,) = await admin.describe_consumer_groups([group])
            ((_, _, _, _, _, members, *_),) = response.groups
            # A member that is joining has not said what it reads.
            metadata = [member[3] for member in members if member[3]]
            if metadata:
                decoded = map(ConsumerProtocolMemberMetadata.decode, metadata)
                subscriptions[group] = {topic for member in decoded for topic in member.subscription}
    return subscriptions


def _groups(settings: Settings) -> dict[str, tuple[TierName, ...]]:
    """All groups that the application may have, and the tiers that each runs."""
    some = chain.from_iterable(combinations(TIERS, count) for count in range(1, len(TIERS) + 1))
    workers = {settings.model_copy(update={"tiers": tiers}).group_id: tiers for tiers in some}
    return workers | {settings.function_group(tier): (tier,) for tier in TIERS}


def _others(settings: Settings, topics: Iterable[str]) -> str:
    """Tiers of a worker's whose topics are not among these."""
    return ",".join(tier for tier in settings.tiers if sensor_topic(settings, tier) not in topics) or "..."
