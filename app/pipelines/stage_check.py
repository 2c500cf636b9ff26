"""A stage of the registry held to what every stage must satisfy, for whoever writes one."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from app.dsp.errors import PipelineError
from app.dsp.examination import Check, examination
from app.dsp.stages import STAGES
from app.errors import ContinuumError

OnCheck = Callable[[str, int, int], None]
"""Told before each check: its name, how many have been made, and of how many."""


class StageError(ContinuumError):
    """There is no such stage, or it cannot be loaded."""


class Count(msgspec.Struct):
    """How often a check was made, and how often the stage failed it."""

    made: int = 0
    failed: int = 0


class Fault(msgspec.Struct):
    """What a check found."""

    check: str
    on: str
    text: str


class StageChecked(msgspec.Struct):
    """What all checks of a stage found."""

    stage: str
    passed: bool
    counts: dict[str, Count]
    """By check."""
    faults: list[Fault]


def check_stage(kind: str, *, seed: int, rounds: int, on_check: OnCheck) -> StageChecked:
    """Make all checks of a stage.

    Parameters
    ----------
    kind
        Its type, as pipelines write it.
    seed
        Of what is drawn.
    rounds
        How often each check draws anew.
    on_check
        Told of the progress.

    Raises
    ------
    StageError
        There is no such stage, or it cannot be loaded.
    """
    if kind not in STAGES:
        raise StageError(f"stage {kind!r}: expected one of {', '.join(sorted(STAGES))}")
    counts: dict[str, Count] = {}
    faults = []
    checks = _checks(kind, seed, rounds)
    for done, check in enumerate(checks):
        on_check(check.name, done, len(checks))
        count = counts.setdefault(check.name, Count())
        count.made += 1
        if text := check.fault():
            count.failed += 1
            faults.append(Fault(check.name, check.on, text))
    return StageChecked(kind, not faults, counts, faults)


def _checks(kind: str, seed: int, rounds: int) -> list[Check]:
    try:
        stage = STAGES[kind]
    except PipelineError as error:
        raise StageError(str(error)) from None
    try:
        return examination(stage, STAGES.module(kind), seed=seed, rounds=rounds)
    except Exception as error:  # noqa: BLE001 - a stage may raise anything, and then fails this check
        fault = error

        def refused() -> None:
            raise fault

        return [Check("examples", "", refused)]
