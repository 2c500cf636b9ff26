"""What must be true before a worker starts: topics as its tables need them, and no other group on them."""

from __future__ import annotations

from itertools import chain, combinations
from typing import TYPE_CHECKING

from aiokafka.coordinator.protocol import ConsumerProtocolMemberMetadata
from aiokafka.errors import KafkaError
from tenacity import retry, retry_if_exception, stop_after_delay, wait_fixed

from app.errors import ContinuumError
from app.kafka_client import admin_client
from app.settings import TIERS, Settings, TierName
from app.topics import check_topics, needed_topics, sensor_topic

if TYPE_CHECKING:
    from collections.abc import Iterable

    from app.faust_app import ContinuumApp


PATIENCE = 10.0
"""Seconds for which brokers are asked again that do not answer as they should."""


class GroupConflictError(ContinuumError):
    """Another consumer group of ours reads one of the worker's topics, or its own group reads others."""


def _passes(error: BaseException) -> bool:
    """Whether it may be another answer in a moment: a broker that has just died is still asked for a while."""
    return isinstance(error, KafkaError) and error.retriable


@retry(retry=retry_if_exception(_passes), stop=stop_after_delay(PATIENCE), wait=wait_fixed(0.5), reraise=True)
async def check_before_start(app: ContinuumApp) -> None:
    """Refuse to start where a worker would lose or spoil state.

    Raises
    ------
    TopicError
        A topic is missing or has a wrong partition count.
    GroupConflictError
        Sensors would be processed twice, or by workers that do not know their topic.
    """
    settings = app.settings
    await check_topics(settings, needed_topics(settings, app.pipelines))
    topics = {tier.topic for tier in app.tiers.values()} or {sensor_topic(settings, tier) for tier in settings.tiers}
    check_groups(settings, topics, await group_subscriptions(settings))


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
    for group, read in subscriptions.items():
        shared = sorted(wanted & read)
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


async def group_subscriptions(settings: Settings) -> dict[str, set[str]]:
    """Topics that each living group of the application reads, whichever tiers it runs."""
    subscriptions: dict[str, set[str]] = {}
    async with admin_client(settings) as admin:
        existing = {group for group, _ in await admin.list_consumer_groups()}
        for group in sorted(_groups(settings).keys() & existing):
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
    return {settings.model_copy(update={"tiers": tiers}).group_id: tiers for tiers in some}
