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
from app.own_process import ProcessFailedError
from app.pipelines import shipped_pipelines
from app.settings import Settings, as_environment, load_settings
from app.tiers import TIER_DEFAULTS
from app.topics import (
    TopicError,
    check_topics,
    create_topics,
    needed_topics,
    partition_counts,
    raise_partitions,
)
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
    for tier, partitions in {"rt": 50, "nrt": 30, "batch": 20}.items():
        assert TIER_DEFAULTS[tier].partitions == partitions
        assert counts[f"{own.topic_prefix}{tier}-sensors"] == partitions
        assert counts[f"{own.topic_prefix}{own.app_id}-{tier}-state-changelog"] == partitions


async def test_changelog_is_compacted(settings: MakeSettings) -> None:
    own = settings()
    needed = needed_topics(own, shipped_pipelines())
    await create_topics(own, needed)
    name = f"{own.topic_prefix}{own.app_id}-rt-state-changelog"
    async with admin_client(own) as admin:
        (response,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)])
    ((*_, entries),) = response.resources
    assert {entry[0]: entry[1] for entry in entries}["cleanup.policy"] == "compact"


async def test_a_worker_refuses_counts_that_differ(settings: MakeSettings) -> None:
    own = settings()
    needed = needed_topics(own, shipped_pipelines())
    await create_topics(own, needed)
    await raise_partitions(own, f"{own.topic_prefix}rt-sensors", 60)
    said = (
        rf"{own.topic_prefix}rt-sensors has 60; {own.topic_prefix}{own.app_id}-rt-state-changelog has 50\."
        r".*`continuum topics repartition --tier rt --partitions 60`"
    )
    with pytest.raises(TopicError, match=said):
        await check_topics(own, needed)
    with pytest.raises(ProcessFailedError, match=rf"exited with 2(.|\n)*{said}"):
        await System(own).worker()


async def test_a_tiers_topics_are_created_with_one_count(settings: MakeSettings) -> None:
    """Whichever of them exists, and however many partitions it has."""
    own = settings()
    needed = needed_topics(own, shipped_pipelines())
    changelog = f"{own.topic_prefix}{own.app_id}-nrt-state-changelog"
    async with admin_client(own) as admin:
        await admin.create_topics([NewTopic(f"{own.topic_prefix}rt-sensors", 8, 1)])
        await admin.create_topics([NewTopic(changelog, 40, 1, topic_configs={"cleanup.policy": "compact"})])
    for name, count in ((f"{own.topic_prefix}rt-sensors", 8), (changelog, 40)):
        await raise_partitions(own, name, count)  # returns when it is known everywhere
    await create_topics(own, needed)
    counts = await check_topics(own, needed)
    assert [counts[f"{own.topic_prefix}{tier}-sensors"] for tier in TIER_DEFAULTS] == [8, 40, 20]
    assert counts[f"{own.topic_prefix}{own.app_id}-rt-state-changelog"] == 8


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
    with pytest.raises(ProcessFailedError, match=rf"exited with 2(.|\n)*{said}"):
        await System(own).worker()
    async with admin_client(own) as admin:
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, {"cleanup.policy": "compact"})])
    await check_topics(own, needed)


async def test_changelogs_have_the_replicas_that_were_asked_for(settings: MakeSettings) -> None:
    own = settings()
    needed = needed_topics(own, shipped_pipelines())
    await create_topics(own, needed)
    await check_topics(settings(replication_factor=1), needed)
    with pytest.raises(TopicError, match=r"rt-state-changelog has 1.*, expected CONTINUUM_REPLICATION_FACTOR=3"):
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
    with pytest.raises(ProcessFailedError, match=r"exited with 2(.|\n)*missing topics.*continuum topics create"):
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
        await admin.create_topics([NewTopic(f"{own.topic_prefix}ecg-features", 8, 1)])
    await raise_partitions(own, f"{own.topic_prefix}ecg-features", 8)
    done = command(own, "create")
    assert done.returncode == 0, done.stderr
    others = [topic for topic in needed if topic.name != f"{own.topic_prefix}ecg-features"]
    assert done.stdout == "".join(f"created {topic.name} with {topic.partitions} partitions\n" for topic in others)
    assert done.stderr.splitlines() == [f"1 of {len(needed)} topics existed already"]
    await raise_partitions(own, f"{own.topic_prefix}rt-sensors", 60)
    done = command(own, "check")
    assert done.returncode == 2
    (error,) = done.stderr.splitlines()  # it is one line, however long
    assert error.startswith("error: partition counts that differ: ")
    listed = command(own, "list").stdout.splitlines()
    (wrong,) = [line for line in listed if "-rt-state-changelog" in line]
    assert "50, expected 60" in wrong, "also where there are no colours"
    assert sum(", expected" in line for line in listed) == 1


def test_brokers_that_do_not_answer_are_one_line() -> None:
    done = command(load_settings(kafka_bootstrap="127.0.0.1:1"), "list")
    assert done.returncode == 2
    assert done.stderr.startswith("error: no Kafka answers at 127.0.0.1:1; ")
    assert len(done.stderr.splitlines()) == 1
