"""What each tier does where nobody has said otherwise, in one place: how it is cut, what it runs, when it saves.

A setting of the same name (`CONTINUUM_CHECKPOINT_SECONDS` and so on) goes before the tier's own, for all tiers of the
worker that is told so.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from app.settings import Settings, TierName


@dataclass(frozen=True)
class TierDefaults:
    """A tier's own values.

    Attributes
    ----------
    sensors
        What its sensors are, in words.
    partitions
        Of its topic, its state table and its changelog.
    pipeline
        Name of the pipeline of blocks that name none.
    checkpoint_seconds
        Longest time between a partition's checkpoints, s.
    checkpoint_messages
        Blocks of one sensor after which its partition is checkpointed.
    idle_after
        A sensor without a block for this long is released and leaves memory, s.
    linger
        For how long feature records are gathered, so that fewer requests take them, s.
    at_once
        Records worked on, and sensors evicted, in one go: between two of these the worker serves its other tiers.
    """

    sensors: str
    partitions: int
    pipeline: str
    checkpoint_seconds: float
    checkpoint_messages: int
    idle_after: float
    linger: float
    at_once: int


#: rt keeps all that streams in memory, and takes what one poll gives in one go: 7 ms for 1,000 sensors of `ecg`. nrt is
#: warm: a wearable that sends every minute stays. The batch tier's sensors have a block every 100 s, and rest in the
#: table and in Redis in between; as their states are large (`report`: 29 kB), few are worked on in one go.
TIER_DEFAULTS: dict[TierName, TierDefaults] = {
    "rt": TierDefaults(
        sensors="ECG, audio; 250 Hz and more",
        partitions=50,
        pipeline="ecg",
        checkpoint_seconds=10.0,
        checkpoint_messages=100,
        idle_after=600.0,
        linger=0.0,
        at_once=1000,
    ),
    "nrt": TierDefaults(
        sensors="wearables; 10 Hz",
        partitions=30,
        pipeline="wearable",
        checkpoint_seconds=10.0,
        checkpoint_messages=100,
        idle_after=300.0,
        linger=0.005,
        at_once=200,
    ),
    "batch": TierDefaults(
        sensors="reports; 0.01 Hz",
        partitions=20,
        pipeline="report",
        checkpoint_seconds=5.0,
        checkpoint_messages=100,
        idle_after=10.0,
        linger=0.1,
        at_once=25,
    ),
}

#: Fields that a setting of the same name overrides.
OVERRIDES = ("checkpoint_seconds", "checkpoint_messages", "idle_after")


def in_force(settings: Settings, tier: TierName) -> TierDefaults:
    """Give a tier's values as settings leave them: theirs where they say something, else the tier's own."""
    given = {name: value for name in OVERRIDES if (value := getattr(settings, name)) is not None}
    return replace(TIER_DEFAULTS[tier], **given)
