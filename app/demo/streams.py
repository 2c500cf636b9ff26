"""What a demo's sensors send: a signal that fits each tier, and ECG whose sensors go from tier to tier."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from app.demo.latency import Latencies
from app.offline import OFFLINE
from app.pipelines import shipped_pipelines
from app.replay import Plan, plan_builtin, timestamp_of, usual_block
from app.replay.messages import Message
from app.settings import TierName
from app.tiers import TIER_DEFAULTS
from app.verify import FeatureVerifier, Sent

LONGEST_PAUSE = 1.0
"""Between two blocks of a sensor, s of the clock: streams of rare blocks go faster than the others."""

MOVING = "moving"


@dataclass(frozen=True, eq=False)
class Stream:
    """Sensors of one kind.

    Attributes
    ----------
    name
        The tier, or `MOVING`.
    plan
        Of their replay.
    speed
        Multiple of true speed.
    pipeline
        That they run, wherever they are.
    stays
        Tiers that they send to, one after another, each for an equal share of their stream.
    """

    name: str
    plan: Plan
    speed: float
    pipeline: str
    stays: tuple[TierName, ...]

    def tier_of(self, message: Message) -> TierName:
        """Give the tier that a message of theirs goes to."""
        length = self.plan.blocks_per_sensor * self.plan.duration
        return self.stays[min(len(self.stays) - 1, int(message.time / length * len(self.stays)))]

    def expectations(self, begin: float | None = None) -> FeatureVerifier:
        """Run the offline pass over all their signals.

        Parameters
        ----------
        begin
            When their replay begins, ms since the epoch; None where any timestamps will do.
        """
        plan = self.plan
        blocks: list[list[Sent]] = [[] for _ in plan.sensors]
        timestamps: list[list[int]] = [[] for _ in plan.sensors]
        for due in plan.blocks():
            blocks[due.sensor].append(Sent(due.block * plan.block, plan.block))
            if begin is not None:
                timestamps[due.sensor].append(timestamp_of(begin, due))
        tier = None if len(self.stays) > 1 else self.stays[0]
        verifier = FeatureVerifier(OFFLINE[self.pipeline], tier=tier, pipeline=self.pipeline)
        for sensor, sensor_id in enumerate(plan.sensors):
            times = None if begin is None else timestamps[sensor]
            verifier.expect(sensor_id, plan.signal(sensor), blocks[sensor], times)
        return verifier

    def latencies(self) -> Latencies:
        """Give what measures how long their features take."""
        return Latencies(self.plan)


def plan_demo(tiers: Sequence[TierName], sensors: int, seconds: float, speed: float) -> list[Stream]:
    """Plan a demo, with sensors that no demo before has had.

    Parameters
    ----------
    tiers
        That run. Each has an equal share of the sensors; where there are several, as many again go from tier to tier
        and come back to the first.
    sensors
        In all.
    seconds
        How much each sends, s; where blocks are so rare that a sensor would pause, more, and faster.
    speed
        Multiple of true speed.

    Raises
    ------
    ReplayError
        A value is out of its range.
    """
    name = f"demo-{secrets.token_hex(3)}"
    kinds: list[tuple[str, tuple[TierName, ...]]] = [(tier, (tier,)) for tier in tiers]
    if len(tiers) > 1:
        kinds.append((MOVING, (*tiers, tiers[0])))
    streams = []
    for number, (kind, stays) in enumerate(kinds):
        own = sensors * (number + 1) // len(kinds) - sensors * number // len(kinds)
        called = name if len(kinds) == 1 else f"{name}-{kind}"
        pipeline = shipped_pipelines()[TIER_DEFAULTS[stays[0]].pipeline]
        duration = usual_block(pipeline.signal) / pipeline.signal.sample_rate
        faster = max(1.0, duration / speed / LONGEST_PAUSE)
        plan = plan_builtin(stays[0], sensors=own, name=called, seconds=seconds * faster)
        streams.append(Stream(kind, plan, speed * faster, pipeline.name, stays))
    return streams
