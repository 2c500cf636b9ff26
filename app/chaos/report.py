"""What a run found."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import median

import msgspec

from app.chaos.ledger import Silences
from app.chaos.plan import Kind


class Pauses(msgspec.Struct, frozen=True):
    """The longest silence of any sensor after each fault of a kind, s: the median of them, and the longest."""

    faults: int
    median: float
    longest: float


class Happened(msgspec.Struct, frozen=True):
    """A fault as it happened; `began` and `ended` in s since the epoch."""

    kind: Kind
    target: int
    began: float
    ended: float


class Report(msgspec.Struct, frozen=True):
    """A run's result; counts are of feature records if nothing else is said."""

    passed: bool
    seconds: float
    """From the first block to the last record."""
    sensors: int
    blocks: int
    blocks_per_second: float
    faults: dict[Kind, int]
    skipped: dict[Kind, str]
    """Kinds of faults that could not happen here, and why."""
    rebalances: int
    unasked_ends: dict[str, int]
    """Workers that ended by themselves, by exit code."""
    bad_stops: list[int]
    """Exit codes other than 0 of the workers stopped at the end."""
    lost: int
    wrong: int
    unlike: int
    unexpected: int
    out_of_order: int
    repeated: int
    repeated_share: float
    uncommitted: int
    """Messages that no commit covers."""
    disagreeing: int
    """Sensors whose table, changelog and Redis do not agree."""
    usual_pause: float
    """Between two records of a sensor where nothing happens, s."""
    longest_pause: float
    pauses: dict[Kind, Pauses]
    examples: list[str]
    """Some of what is wrong, in words."""


def pauses_after(
    happened: Iterable[Happened], silences: Silences, usual: float, aftermath: float
) -> dict[Kind, Pauses]:
    """Attribute silences to faults: those that began with the last record before a fault, during it, or just after.

    Parameters
    ----------
    happened
        The faults.
    silences
        Of all sensors.
    usual
        Time between two records of a sensor where nothing happens, s.
    aftermath
        How long after its end a fault may still be felt, s.
    """
    longest: dict[Kind, list[float]] = {}
    for fault in happened:
        pause = silences.longest_begun(fault.began - usual, fault.ended + aftermath)
        longest.setdefault(fault.kind, []).append(pause)
    return {kind: Pauses(len(values), median(values), max(values)) for kind, values in longest.items()}
