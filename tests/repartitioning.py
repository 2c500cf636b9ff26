"""Systems with few partitions, and a `continuum topics repartition` that is killed where it is told to be."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from pkgutil import resolve_name
from typing import Any

from aiokafka.admin import NewTopic

from app.chaos.offsets import whole_topic
from app.kafka_client import admin_client
from app.runtime.outbox import partition_of
from app.settings import Settings, TierName, as_environment
from app.topics import Topic, changelog_topic, partition_counts, raise_partitions, sensor_topic
from tests.system import System

#: Where the command can be killed: functions of its, and whether before or after them.
POINTS = {
    "after the mark": ("app.repartition.run.mark", "after", 1),
    "after the changelog is raised": ("app.repartition.run.raise_partitions", "after", 1),
    "before the first state is deleted": ("app.repartition.move.Mover._delete", "before", 1),
    "after some states are deleted": ("app.repartition.move.Mover._delete", "after", 2),
    "before the last are deleted": ("app.repartition.move.Mover._delete", "before", 4),
    "before the topic is raised": ("app.repartition.run.raise_partitions", "before", 2),
    "before the mark is removed": ("app.repartition.run.unmark", "before", 1),
}


async def create_small(system: System, partitions: int, *tiers: TierName) -> None:
    """Create the system's topics, those of some tiers with few partitions."""
    async with admin_client(system.settings) as admin:
        await admin.create_topics([NewTopic(sensor_topic(system.settings, tier), partitions, 1) for tier in tiers])
    for tier in tiers:
        await raise_topic(system.settings, partitions, tier)  # returns when all brokers know it
    await system.create()


async def counts(settings: Settings, tier: TierName = "rt") -> tuple[int | None, int | None]:
    """Partition counts of a tier's topic and changelog."""
    names = [sensor_topic(settings, tier), changelog_topic(settings, tier)]
    found = await partition_counts(settings, [Topic(name, 0) for name in names])
    return found[names[0]], found[names[1]]


async def raise_topic(settings: Settings, partitions: int, tier: TierName = "rt") -> None:
    """Raise a sensor topic as Kafka's own tools would, without the state."""
    await raise_partitions(settings, sensor_topic(settings, tier), partitions)


async def live(settings: Settings, tier: TierName = "rt") -> dict[bytes, dict[int, bytes]]:
    """Last values on a changelog that are not deleted, by key and partition."""
    found: defaultdict[bytes, dict[int, bytes]] = defaultdict(dict)
    async for record in whole_topic(settings, changelog_topic(settings, tier)):
        if record.value is None:
            found[record.key].pop(record.partition, None)
        else:
            found[record.key][record.partition] = record.value
    return {key: own for key, own in found.items() if own}


def placed(states: dict[bytes, bytes], partitions: int) -> dict[bytes, dict[int, bytes]]:
    """What `live` gives where each state is where its key belongs, and nowhere else."""
    return {key: {partition_of(key, partitions): state} for key, state in states.items()}


def killed_at(settings: Settings, point: str, *arguments: str) -> None:
    """Run the command in a process that kills itself at a point."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.repartitioning", point, *arguments],
        env={**os.environ, **as_environment(settings)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == -signal.SIGKILL, (point, done.stderr)


def _kill_at(point: str) -> None:
    path, when, number = POINTS[point]
    place, _, name = path.rpartition(".")
    owner = resolve_name(place)
    original: Callable[..., Any] = getattr(owner, name)
    calls = 0

    async def wrapped(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == number and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = await original(*args, **kwargs)
        if calls == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, wrapped)


if __name__ == "__main__":
    from app.cli import main

    _kill_at(sys.argv[1])
    sys.argv = ["continuum", "topics", "repartition", *sys.argv[2:]]
    main()
