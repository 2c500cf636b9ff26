"""Replays into a system under test, and what must come out of it."""

from __future__ import annotations

from app.demo.session import expectations as verifier_of
from app.kafka_client import started
from app.replay import Plan, new_producer, play
from app.topics import sensor_topic
from tests.system import System

__all__ = ["replay", "verifier_of"]


async def replay(system: System, plan: Plan, speed: float) -> None:
    """Send all that a plan sends."""
    async with started(new_producer(system.settings), system.settings) as producer:
        await play(plan, producer, sensor_topic(system.settings, "rt"), speed=speed)
