"""Topics: created once with the right counts, and a worker that refuses wrong ones."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import pytest
from aiokafka.admin import NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from app.kafka_client import admin_client
from app.pipelines import shipped_pipelines
from app.settings import Settings, as_environment, load_settings
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


@pytest.mark.parametrize("policy", ["delete", "compact,delete"])
async def test_a_worker_refuses_a_changelog_that_loses_state(settings: MakeSettings, policy: str) -> None:
    own = settings()
    needed = needed_topics(own, shipped_pipelines())
    name = f"{own.topic_prefix}{own.app_id}-rt-state-changelog"
    async with admin_client(own) as admin:
        await admin.create_topics([NewTopic(name, 50, 1, topic_configs={"cleanup.policy": policy})])
    await create_topics(own, needed)
    said = rf"{name} has {policy}, expected compact.*--alter --topic NAME --add-config cleanup.policy=compact"
    with pytest.raises(TopicError, match=said):
        await check_topics(own, needed)
    with pytest.raises(WorkerFailedError, match=rf"exited with 2(.|\n)*{said}"):
        await System(own).worker()
    async with admin_client(own) as admin:
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, {"cleanup.policy": "compact"})])
    await check_topics(own, needed)


async def test_changelogs_have_the_replicas_that_were_asked_for(settings: MakeSettings) -> None:
    own = settings()
    needed = needed_topics(own, shipped_pipelines())
    await create_topics(own, needed)
    await check_topics(settings(replication_factor=1), needed)
    with pytest.raises(TopicError, match=r"rt-state-changelog has 1, expected CONTINUUM_REPLICATION_FACTOR=3"):
        await check_topics(settings(replication_factor=3), needed)


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


def command(settings: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "app", "topics", *arguments],
        env={**os.environ, **as_environment(settings)},
        capture_output=True,
        text=True,
        check=False,
    )


async def test_the_commands_tell_what_was_created_and_what_is_wrong(settings: MakeSettings) -> None:
    own = settings()
    needed = needed_topics(own, shipped_pipelines())
    async with admin_client(own) as admin:
        await admin.create_topics([NewTopic(f"{own.topic_prefix}rt-sensors", 8, 1)])
    done = command(own, "create")
    assert done.returncode == 2
    others = [topic for topic in needed if topic.name != f"{own.topic_prefix}rt-sensors"]
    assert done.stdout == "".join(f"created {topic.name} with {topic.partitions} partitions\n" for topic in others)
    existed, error = done.stderr.splitlines()  # the error is one line, however long
    assert existed == f"1 of {len(needed)} topics existed already"
    assert error.startswith("error: wrong partition counts: ")
    assert error.endswith("to use a set of topics of their own")
    listed = command(own, "list").stdout.splitlines()
    (wrong,) = [line for line in listed if "-rt-sensors" in line]
    assert "8, wrong" in wrong, "also where there are no colours"
    assert sum("wrong" in line for line in listed) == 1


def test_brokers_that_do_not_answer_are_one_line() -> None:
    done = command(load_settings(kafka_bootstrap="127.0.0.1:1"), "list")
    assert done.returncode == 2
    assert done.stderr.startswith("error: no Kafka answers at 127.0.0.1:1; ")
    assert len(done.stderr.splitlines()) == 1
