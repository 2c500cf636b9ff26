"""What the application's consumer groups have committed: a topic's blocks are done once, whichever group did them.

A topic belongs to one group at a time, and to another where its tier runs apart from then on, or together with the
others again. A group commits what it has checkpointed, so of all groups' commits the furthest counts.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import CommitFailedError

from app.kafka_client import admin_client, client_options, started
from app.kafka_patience import patient
from app.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiokafka.structs import OffsetAndMetadata

logger = logging.getLogger(__name__)

Commits = dict[TopicPartition, int]
"""Offsets up to which partitions have been consumed."""


@patient
async def read_commits(settings: Settings, groups: Iterable[str]) -> dict[str, dict[TopicPartition, OffsetAndMetadata]]:
    """Read what groups have committed, by group; a group that never was has committed nothing."""
    async with admin_client(settings) as admin:
        return {group: await admin.list_consumer_group_offsets(group) for group in groups}


async def committed(settings: Settings, groups: Iterable[str]) -> Commits:
    """Tell up to where each partition has been processed and saved, by whichever of some groups has come furthest."""
    return _furthest((await read_commits(settings, groups)).values())


def _furthest(by_group: Iterable[Mapping[TopicPartition, OffsetAndMetadata]]) -> Commits:
    result = Commits()
    for own in by_group:
        for tp, found in own.items():
            result[tp] = max(found.offset, result.get(tp, 0))
    return result


async def backlog(settings: Settings, groups: Iterable[str], topic: str, partitions: int) -> dict[int, int]:
    """Count the messages of each partition of a topic that none of the groups has committed; without the empty ones."""
    done = await committed(settings, groups)
    tps = [TopicPartition(topic, number) for number in range(partitions)]
    consumer = AIOKafkaConsumer(**client_options(settings))
    async with started(consumer, settings):
        starts, ends = await consumer.beginning_offsets(tps), await consumer.end_offsets(tps)
    waiting = {tp.partition: ends[tp] - max(starts[tp], done.get(tp, 0)) for tp in tps}
    return {partition: count for partition, count in waiting.items() if count > 0}


async def adopt_commits(settings: Settings, group: str, groups: Iterable[str], topics: Iterable[str]) -> Commits:
    """Let a group go on where another of the application's has left off; gives what it took over.

    A group that has committed nothing begins at the topic's earliest block. The states' source positions tell which
    blocks they have counted, but not those of a sensor that has been on another tier or partition since: it would be
    claimed back, and by blocks that were consumed long ago.

    Parameters
    ----------
    settings
        Name the brokers.
    group
        That goes on; it has no living member.
    groups
        All of the application's.
    topics
        Sensor topics that the group is to read, and that no other group reads now.
    """
    by_group, wanted = await read_commits(settings, groups), set(topics)
    own = {tp: found.offset for tp, found in by_group.get(group, {}).items()}
    behind = {tp: at for tp, at in _furthest(by_group.values()).items() if tp.topic in wanted and at > own.get(tp, -1)}
    if not behind:
        return behind
    consumer = AIOKafkaConsumer(**client_options(settings), group_id=group, enable_auto_commit=False)
    async with started(consumer, settings):
        consumer.assign(list(behind))
        try:
            await consumer.commit(behind)
        except CommitFailedError:
            # Another worker has joined meanwhile, and has done the same before.
            return {}
    logger.info("group %s goes on from the commits of others in %d partitions", group, len(behind))
    return behind
