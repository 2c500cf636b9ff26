"""The plan of a run: which fault happens when, to what, and for how long; all of it from one seed."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Literal, NamedTuple, get_args

from app.errors import ContinuumError

Kind = Literal[
    "kill",
    "term",
    "pause",
    "join",
    "leave",
    "cut",
    "stall",
    "wipe",
    "wipe-live",
    "disk-full",
    "broker",
    "redis-kill",
    "redis-pause",
    "redis-flush",
]
KINDS: tuple[Kind, ...] = get_args(Kind)

MEANING: dict[Kind, str] = {
    "kill": "worker killed; it comes back at once, or after its session has expired",
    "term": "worker stopped by SIGTERM, and started again",
    "pause": "worker stopped by SIGSTOP for longer than its session",
    "join": "worker added",
    "leave": "worker removed by SIGTERM",
    "cut": "worker's connections to Kafka reset and refused for longer than its session",
    "stall": "worker's connections to Kafka dead for longer than its session",
    "wipe": "worker killed, and its folder deleted before it comes back",
    "wipe-live": "worker's folder deleted under it; then it is killed",
    "disk-full": "disk of a worker's folder full for a while",
    "broker": "broker killed, and started again",
    "redis-kill": "master of the Redis Cluster killed, and started again as a replica",
    "redis-pause": "master of the Redis Cluster stopped by SIGSTOP for a while",
    "redis-flush": "Redis Cluster emptied",
}

#: What a long run holds for each 15 minutes.
FULL: dict[Kind, int] = {
    "kill": 42,
    "term": 5,
    "pause": 4,
    "join": 6,
    "leave": 6,
    "cut": 3,
    "stall": 3,
    "wipe": 5,
    "wipe-live": 5,
    "disk-full": 3,
    "broker": 6,
    "redis-kill": 6,
    "redis-pause": 2,
    "redis-flush": 2,
}
_FULL_MINUTES = 15.0

#: Share of the run before the first fault and after the last.
_QUIET_BEFORE, _QUIET_AFTER = 0.02, 0.05

_BROKERS = 3


class PlanError(ContinuumError):
    """A run cannot be planned as asked."""


class Fault(NamedTuple):
    """One fault.

    Attributes
    ----------
    at
        When, s since the beginning.
    kind
        What.
    target
        Number of the worker, broker or Redis node, from 1.
    seconds
        How long it lasts; 0 where it is over at once.
    """

    at: float
    kind: Kind
    target: int
    seconds: float

    def __str__(self) -> str:
        lasting = f" for {self.seconds:.0f} s" if self.seconds else ""
        return f"{self.at:6.1f} s  {self.kind} {self.target}{lasting}"


def counts_for(minutes: float) -> dict[Kind, int]:
    """Scale the faults of a long run to another length; as many workers leave as join."""
    counts: dict[Kind, int] = {kind: round(count * minutes / _FULL_MINUTES) for kind, count in FULL.items()}
    counts["kill"] = max(1, counts["kill"])
    return counts


def make_plan(seed: int, counts: Mapping[Kind, int], seconds: float, workers: int, session: float) -> list[Fault]:
    """Draw a plan.

    Parameters
    ----------
    seed
        The same plan for the same seed.
    counts
        How many faults of each kind.
    seconds
        Length of the run.
    workers
        How many there are all the time; one more joins and leaves.
    session
        The workers' session timeout, s.

    Raises
    ------
    PlanError
        The counts name an unknown kind, or workers leave that have not joined.
    """
    unknown = counts.keys() - set(KINDS)
    if unknown:
        raise PlanError(f"unknown fault {', '.join(sorted(unknown))}: expected some of {', '.join(KINDS)}")
    if not 0 <= counts.get("join", 0) - counts.get("leave", 0) <= 1:
        raise PlanError(
            f"{counts.get('join', 0)} workers join and {counts.get('leave', 0)} leave: expected as many, or one more"
            " that joins"
        )
    chance = random.Random(seed)  # noqa: S311 - a plan is no secret
    kinds = [kind for kind, count in counts.items() for _ in range(count)]
    chance.shuffle(kinds)
    # The one worker that comes and goes does so in turn, wherever the shuffle put it.
    turns = [place for place, kind in enumerate(kinds) if kind in {"join", "leave"}]
    for turn, place in enumerate(turns):
        kinds[place] = "leave" if turn % 2 else "join"
    begin, end = seconds * _QUIET_BEFORE, seconds * (1 - _QUIET_AFTER)
    step = (end - begin) / max(1, len(kinds))
    return [
        Fault(
            round(begin + (place + chance.random() * 0.9) * step, 1),
            kind,
            _target(kind, chance, workers),
            _duration(kind, chance, session),
        )
        for place, kind in enumerate(kinds)
    ]


def _target(kind: Kind, chance: random.Random, workers: int) -> int:
    if kind in {"join", "leave"}:
        return workers + 1
    if kind == "broker" or kind.startswith("redis-"):
        return chance.randint(1, _BROKERS)
    return chance.randint(1, workers)


def _duration(kind: Kind, chance: random.Random, session: float) -> float:
    expired = chance.uniform(1.2, 1.8) * session
    match kind:
        case "kill":
            return chance.choice([0.0, 0.0, expired])
        case "pause" | "cut" | "stall":
            return expired
        case "broker" | "redis-kill" | "redis-pause" | "disk-full":
            return chance.uniform(3.0, 10.0)
        case _:
            return 0.0
