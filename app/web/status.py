"""A worker's figures, as its pages, its probes and its heartbeat show them."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, cast

import msgspec
from faust.exceptions import ConsumerNotStarted
from faust.types import TP

from app.serverless.figures import FunctionStatus

if TYPE_CHECKING:
    from app.faust_app import ContinuumApp
    from app.mirror.mirror import Mirror
    from app.runtime.tier import Tier
    from app.transport.recovery import TableManager


class MirrorStatus(msgspec.Struct, frozen=True):
    """The Redis mirror: whether it took the last write (null before the first), and what it does not have yet."""

    up: bool | None
    pending: int
    last_error: str | None = None
    last_success: float | None = None
    """s since the epoch."""
    resynced: int = 0
    """States written again after Redis had lost some."""


class TierStatus(msgspec.Struct, frozen=True):
    """A tier in one worker; counts are since the worker's start."""

    partitions: list[int]
    sensors: int
    held: int
    """Sensors whose blocks wait for another tier to give up their state."""
    blocks: int
    samples: int
    features: int
    replayed: int
    late: int
    gaps: int
    events: dict[str, int]
    """What happened to blocks that did not just follow the one before, by reason."""
    dead_letters: dict[str, int]
    lag: int
    """Messages appended to its partitions and not processed yet."""
    checkpoint_age: float | None
    """Seconds since its last checkpoint ended."""
    mirror: MirrorStatus
    function: FunctionStatus | None = None
    """Where the function processes the tier: its messages are the blocks, and what it keeps to itself is 0."""


class WorkerStatus(msgspec.Struct, frozen=True):
    """A worker."""

    instance: str
    group: str
    url: str
    started: float
    """s since the epoch."""
    now: float
    ready: bool
    rebalancing: bool
    tiers: dict[str, TierStatus]
    latest: list[msgspec.Raw]
    """Newest feature records, oldest first."""


class Workers(msgspec.Struct, frozen=True):
    """All workers, as one of them sees them."""

    answering: str
    """Instance of the worker that answers; its figures are fresh, the others' those of their last heartbeat."""
    others_visible: bool
    """Whether Redis, which has the others' heartbeats, answers."""
    workers: list[WorkerStatus]
    """By instance."""


def is_ready(app: ContinuumApp) -> bool:
    """Whether the worker has its partitions and their state, and processes them."""
    recovery = cast("TableManager", app.tables).recovery
    return recovery.completed.is_set() and not app.rebalancing and bool(_assignment(app))


def worker_status(app: ContinuumApp) -> WorkerStatus:
    """Gather a worker's figures."""
    assignment = _assignment(app)
    now = time.time()
    return WorkerStatus(
        instance=str(app.conf.consumer_group_instance_id),
        group=app.conf.id,
        url=app.web_url,
        started=app.started_at,
        now=now,
        ready=is_ready(app),
        rebalancing=app.rebalancing,
        tiers={name: _tier_status(app, tier, assignment, now) for name, tier in app.tiers.items()},
        latest=[msgspec.Raw(record) for tier in app.tiers.values() for record in tier.emitter.latest],
    )


def _assignment(app: ContinuumApp) -> set[TP]:
    try:
        return app.batches.assignment()
    except ConsumerNotStarted:  # its thread is still coming up
        return set()


def _lag(app: ContinuumApp, tp: TP) -> int:
    try:
        return app.batches.lag(tp)
    except AssertionError:  # aiokafka's word for: its thread has given the partition away since we asked for ours
        return 0


def _tier_status(app: ContinuumApp, tier: Tier, assignment: Iterable[TP], now: float) -> TierStatus:
    own = sorted(tp for tp in assignment if tp.topic == tier.topic)
    finished = tier.checkpoints.last_finished
    emitter, events = tier.emitter, tier.emitter.events
    return TierStatus(
        partitions=[tp.partition for tp in own],
        sensors=tier.processor.sensor_count,
        held=len(tier.arrivals.waiting),
        blocks=emitter.blocks,
        samples=emitter.samples,
        features=emitter.features,
        replayed=events.get("replayed", 0),
        late=events.get("late", 0) + events.get("duplicate", 0),
        gaps=events.get("gap_reset", 0) + events.get("gap_filled", 0),
        events=dict(events),
        dead_letters=dict(emitter.dead_letters),
        lag=sum(_lag(app, tp) for tp in own),
        checkpoint_age=None if finished is None else now - finished,
        mirror=_mirror_status(tier.mirror),
    )


def _mirror_status(mirror: Mirror) -> MirrorStatus:
    return MirrorStatus(mirror.up, mirror.pending, mirror.last_error, mirror.last_success, mirror.resynced)
