"""Topics: created once with the right counts, and a worker that refuses wrong ones."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from aiokafka.admin import NewTopic

from app.kafka_client import admin_client
from app.pipelines import shipped_pipelines
from app.settings import Settings
from app.topics import SENSOR_PARTITIONS, TopicError, check_topics, create_topics, needed_topics, partition_counts
from app.worker_process import WorkerFailedError
from tests.system import System

MakeSettings = Callable[..., Settings]


async def test_created_once_with_their_counts(settings: MakeSettings) -> None:
    own = settings()
    needed = needed_topics(own, shipped_pipelines())
    with pytest.raises(TopicError, match=r"missing topics: .*rt-sensors.*continuum topics create"):
        await check_topics(own, needed)
    assert await create_topics(own, needed) == needed
    assert await create_topics(own, needed) == []
    await check_topics(own, needed)
    counts = await partition_counts(own, needed)
    assert [counts[f"{own.topic_prefix}{tier}-sensors"] for tier in SENSOR_PARTITIONS] == [50, 30, 20]
    assert counts[f"{own.topic_prefix}{own.app_id}-rt-state-changelog"] == 50


async def test_changelog_is_compacted(settings: MakeSettings) -> None:
    own = settings()
    needed = needed_topics(own, shipped_pipelines())
    await create_topics(own, needed)
    from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

    name = f"{own.topic_prefix}{own.app_id}-rt-state-changelog"
    async with admin_client(own) as admin:
        (response,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)])
    ((*_, entries),) = response.resources
    assert {entry[0]: entry[1] for entry in entries}["cleanup.policy"] == "compact"


async def test_a_worker_refuses_a_wrong_count(settings: MakeSettings) -> None:
    own = settings()
    needed = needed_topics(own, shipped_pipelines())
    async with admin_client(own) as admin:
        await admin.create_topics([NewTopic(f"{own.topic_prefix}rt-sensors", 8, 1)])
    await create_topics(own, needed)
    with pytest.raises(TopicError, match="rt-sensors has 8, expected 50"):
        await check_topics(own, needed)
    system = System(own)
    with pytest.raises(WorkerFailedError, match=r"exited with 2(.|\n)*rt-sensors has 8, expected 50.*CONTINUUM_TOPIC"):
        await system.worker()


async def test_a_features_topic_may_have_any_count(settings: MakeSettings) -> None:
    own = settings()
    async with admin_client(own) as admin:
        await admin.create_topics([NewTopic(f"{own.topic_prefix}ecg-features", 3, 1)])
    needed = needed_topics(own, shipped_pipelines())
    await create_topics(own, needed)
    await check_topics(own, needed)


async def test_a_worker_refuses_missing_topics(settings: MakeSettings) -> None:
    system = System(settings())
    with pytest.raises(WorkerFailedError, match=r"exited with 2(.|\n)*missing topics.*continuum topics create"):
        await system.worker()
