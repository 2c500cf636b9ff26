"""Replays into a system under test, and what must come out of it."""

from __future__ import annotations

from app.demo.streams import Stream
from app.kafka_client import started
from app.replay import Plan, new_producer, play
from app.settings import TierName
from app.tiers import TIER_DEFAULTS
from app.topics import sensor_topic
from app.verify import FeatureVerifier
from tests.system import System


async def replay(system: System, plan: Plan, speed: float) -> None:
    """Send all that a plan sends."""
    async with started(new_producer(system.settings), system.settings) as producer:
        await play(plan, producer, sensor_topic(system.settings, "rt"), speed=speed)


def verifier_of(plan: Plan, tier: TierName = "rt") -> FeatureVerifier:
    """Expect the features of all that a plan sends to a tier, whenever it does."""
    return Stream(tier, plan, 1.0, TIER_DEFAULTS[tier].pipeline, (tier,)).expectations()
