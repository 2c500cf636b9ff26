"""What the sensors of a run send, and how it gets to Kafka whatever happens to the brokers."""

from __future__ import annotations

from dataclasses import dataclass

from app.kafka_client import started
from app.replay import Plan, Sent, new_producer, play
from app.settings import Settings
from app.sources import builtin_ecg
from app.topics import sensor_topic

BLOCK = 256

#: s between two sendings: as gateways send, and cheap enough to leave the workers the machine's time.
_TICK = 0.25

#: A partition may be without a leader for so long before the run is given up, s.
_PATIENCE = 180.0


@dataclass(frozen=True)
class Load:
    """A steady load of real ECG, in MessagePack blocks.

    Attributes
    ----------
    sensors
        How many.
    rate
        Blocks a second, all sensors together.
    seconds
        How long.
    """

    sensors: int
    rate: float
    seconds: float

    @property
    def interval(self) -> float:
        """Time between two blocks of a sensor, s."""
        return self.sensors / self.rate

    def plan(self) -> Plan:
        """Plan the sensors' blocks."""
        blocks = max(1, round(self.rate * self.seconds / self.sensors))
        ids = tuple(f"chaos-{number}" for number in range(1, self.sensors + 1))
        return Plan(builtin_ecg().channel(0), 250.0, ids, BLOCK, blocks, "msgpack")

    async def feed(self, settings: Settings, plan: Plan, sent: Sent) -> None:
        """Send the plan's blocks at the rate, each once, and return when the brokers have all.

        Parameters
        ----------
        settings
            Where Kafka is.
        plan
            From `plan`.
        sent
            Is told what the brokers have.

        Raises
        ------
        ReplayError
            The brokers refuse blocks, or a partition has no leader for minutes.
        """

        def note(acknowledged: Sent) -> None:
            sent.blocks = acknowledged.blocks

        # Idempotent, so that what is sent again after a broker's death is there once, and in order.
        producer = new_producer(settings, enable_idempotence=True, request_timeout_ms=int(_PATIENCE * 1000))
        speed = plan.duration / self.interval
        async with started(producer, settings):
            await play(plan, producer, sensor_topic(settings, "rt"), speed=speed, tick=_TICK, on_progress=note)
