"""Moving states to their partitions on a changelog."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Self

from aiokafka import AIOKafkaProducer

from app.kafka_client import client_options, started
from app.kafka_reader import retained
from app.pipelines import known_pipelines
from app.redis_client import redis_client
from app.repartition.offer import offer
from app.repartition.survey import Survey, newest_of
from app.topics import changelog_topic, largest_message

if TYPE_CHECKING:
    from aiokafka import AIOKafkaConsumer, TopicPartition

    from app.kafka_reader import Stretches
    from app.settings import Settings, TierName
    from app.state_copies.copies import StateCopy
    from app.state_copies.verify_all import OnStage

_BATCH_BYTES = 256 << 10


class Mover:
    """Moves the states of a tier, partition by partition: each is at its new place before it leaves the old one.

    Whenever it is interrupted, every state is in at least one partition, and a further attempt finds the newest.

    Parameters
    ----------
    settings, tier
        Whose states.
    found
        Where they are, and where they belong.
    """

    def __init__(self, settings: Settings, tier: TierName, found: Survey) -> None:
        self._settings = settings
        self._tier = tier
        self._topic = changelog_topic(settings, tier)
        self._partitions = found.counts.after
        self._targets: defaultdict[int, dict[bytes, int]] = defaultdict(dict)
        for key in found.moving():
            self._targets[found.home(key)][key] = found.target(key)
        self._stale: defaultdict[int, list[bytes]] = defaultdict(list)
        for key, partition in found.stale():
            self._stale[partition].append(key)
        self._offered: defaultdict[int, set[bytes]] = defaultdict(set)
        for key in (*found.moving(), *found.in_frames()):
            self._offered[found.home(key)].add(key)
        self._stack = AsyncExitStack()
        self._pipelines = {pipeline.fingerprint: pipeline for pipeline in known_pipelines(settings.pipelines).values()}

    async def __aenter__(self) -> Self:
        settings = self._settings
        limit = await largest_message(settings, self._topic)
        self._producer = await self._stack.enter_async_context(
            started(
                AIOKafkaProducer(
                    **client_options(settings),
                    enable_idempotence=True,
                    max_batch_size=_BATCH_BYTES,
                    max_request_size=max(limit, 4 * _BATCH_BYTES),
                ),
                settings,
            )
        )
        # A broker that was asked for its metadata in the moment of the raise may not have known of it.
        while len(await self._producer.partitions_for(self._topic)) < self._partitions:
            await self._producer.client.force_metadata_update()
        self._redis = redis_client(settings)
        self._stack.push_async_callback(self._redis.aclose)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def move(self, consumer: AIOKafkaConsumer, on_stage: OnStage) -> int:
        """Move what is not where it belongs; gives how many states Redis did not have.

        Raises
        ------
        REDIS_ERRORS, aiokafka.errors.KafkaError
            What has been done stays; try again.
        """
        stretches = await retained(consumer, self._settings, self._topic)
        total, done, written = sum(map(len, self._offered.values())), 0, 0
        # Stale ones go last: until the newest has been moved, who knows what becomes of it.
        for tp in sorted(stretches):
            on_stage("moving states", done, total)
            if self._offered[tp.partition]:
                written += await self._move_from(consumer, tp, stretches)
                done += len(self._offered[tp.partition])
        await self._delete(self._stale)
        return written

    async def _move_from(self, consumer: AIOKafkaConsumer, tp: TopicPartition, stretches: Stretches) -> int:
        states = await newest_of(consumer, {tp: stretches[tp]}, self._tier)
        offered = {key: copy for key, copy in states.items() if key in self._offered[tp.partition]}
        written = await self._offer(offered)
        targets = self._targets[tp.partition]
        sent = [
            await self._producer.send(self._topic, offered[key].snapshot, key, partition)
            for key, partition in targets.items()
        ]
        await asyncio.gather(*sent)
        await self._delete({tp.partition: list(targets)})
        return written

    async def _offer(self, states: Mapping[bytes, StateCopy]) -> int:
        sound = {key.decode(): copy for key, copy in states.items() if copy.header is not None}
        prefix = self._settings.topic_prefix
        return await offer(self._redis, prefix, self._tier, sound, self._pipelines)

    async def _delete(self, keys: Mapping[int, list[bytes]]) -> None:
        sent = [
            await self._producer.send(self._topic, None, key, partition)
            for partition, own in keys.items()
            for key in own
        ]
        await asyncio.gather(*sent)
