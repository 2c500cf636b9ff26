"""A topic filled with blocks of many sensors, and the features that they must give."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from app.bench.expected import Expected
from app.kafka_client import started
from app.pipelines import known_pipelines
from app.replay import Encoding, Plan, new_producer, play
from app.settings import Settings
from app.sources import builtin_ecg
from app.tiers import TIER_DEFAULTS
from app.topics import changelog_topic, create_topics, features_topic, needed_topics, sensor_topic

SAMPLE_RATE = 250.0
PIPELINE = "ecg"
PARTITIONS = TIER_DEFAULTS["rt"].partitions
#: So that a feature's time is when the broker has it.
APPEND_TIME = {"message.timestamp.type": "LogAppendTime"}


#: Places of the recording at which sensors begin: a prime, so that sensors that are neighbours in whatever way differ,
#: and few, as the offline pass takes a tenth of a second for each.
PLACES = 251


class BenchPlan(Plan):
    """A plan in which many sensors send the same samples."""

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """The place in the recording at which each sensor begins."""
        return tuple(sensor % PLACES * len(self.recording) // PLACES for sensor in range(len(self.sensors)))


@dataclass(frozen=True)
class Shape:
    """What blocks are like.

    Attributes
    ----------
    encoding
        `json`, `msgpack`, or `frame` of 50 blocks.
    sensors
        Simulated ones.
    block
        Samples a block.
    """

    encoding: Encoding
    sensors: int
    block: int

    @property
    def case(self) -> str:
        """In words."""
        encoding = {"json": "JSON", "msgpack": "MessagePack", "frame": "frames of 50"}[self.encoding]
        return f"{encoding}, {self.sensors:,} sensors, blocks of {self.block:,}"

    def plan(self, blocks_per_sensor: int) -> Plan:
        """Give what the sensors send; devices send what their converters give: microvolts, not all digits."""
        ids = tuple(f"s{number:06d}" for number in range(self.sensors))
        recording = np.round(builtin_ecg().channel(0), 3)
        return BenchPlan(recording, SAMPLE_RATE, ids, self.block, blocks_per_sensor, self.encoding)


@dataclass(frozen=True, eq=False)
class Load:
    """Blocks on a sensor topic of their own.

    Attributes
    ----------
    shape
        Of the blocks.
    settings
        With a topic prefix of its own.
    blocks_per_sensor
        How many each sensor sends.
    """

    shape: Shape
    settings: Settings
    blocks_per_sensor: int

    @property
    def blocks(self) -> int:
        """All blocks."""
        return self.shape.sensors * self.blocks_per_sensor

    @cached_property
    def plan(self) -> Plan:
        """What the sensors send."""
        return self.shape.plan(self.blocks_per_sensor)

    @cached_property
    def expected(self) -> Expected:
        """The features of all blocks, by the offline pass."""
        return Expected.of(self.plan)

    async def create_topics(self, *, sensors_by_append: bool = False) -> None:
        """Create the topics that all contenders share.

        Parameters
        ----------
        sensors_by_append
            Whether blocks, too, have the time of their append.
        """
        topics = []
        timed = {features_topic(self.settings, PIPELINE)}
        if sensors_by_append:
            timed.add(sensor_topic(self.settings, "rt"))
        for topic in needed_topics(self.settings, known_pipelines(self.settings.pipelines)):
            if topic.name in timed:
                topics.append(replace(topic, config=APPEND_TIME))
            elif topic.tier in {None, "rt"}:
                topics.append(topic)
        await create_topics(self.settings, topics)

    async def fill(self) -> None:
        """Send all blocks, as fast as the brokers take them."""
        async with started(new_producer(self.settings), self.settings) as producer:
            await play(self.plan, producer, sensor_topic(self.settings, "rt"), speed=float("inf"))


async def create_state_topics(settings: Settings) -> None:
    """Create the topics of a worker's states."""
    needed = needed_topics(settings, ())
    own = f"{settings.topic_prefix}{settings.app_id}-"
    rt = changelog_topic(settings, "rt")
    await create_topics(
        settings, [topic for topic in needed if topic.name.startswith(own) and (topic.tier is None or topic.name == rt)]
    )
