"""`continuum topics repartition`: more partitions for a tier, with its sensors' states."""

from __future__ import annotations

import asyncio
from typing import Annotated

import msgspec
import typer

from app.cli.output import JsonOption, note, out, print_json
from app.cli.progress import stages
from app.repartition.run import Outcome
from app.repartition.run import repartition as run
from app.settings import TierName, load_settings


def repartition(
    tier: Annotated[TierName, typer.Option(help="Whose topic and table.", show_default=False)],
    partitions: Annotated[int, typer.Option(min=1, help="How many they are to have.", show_default=False)],
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would be done.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Raise the partitions of a tier's topic and of its state table together, each state to its new partition.

    Kafka can only raise a count. The sensor id's hash tells its partition, so most sensors get another one. That goes
    without loss while nothing is under way: stop the tier's producers, let its workers consume what is left, stop them,
    run this, and start them again. It refuses while a worker or function of the tier lives, and where blocks have not
    been consumed: a sensor's later blocks, in its new partition, could come before them. Blocks that come meanwhile all
    the same, or for some minutes more to the old partitions from producers that have not noticed, meet their state
    through Redis.

    It may be interrupted anywhere: no worker starts then, and the same command goes on. At the end it reads the
    changelog again: every state must be there once, in its partition, with the same bytes.

    Exit code 0: done, or nothing to do. 1: a state is not as it should be. 2: refused, and why.
    """
    settings = load_settings()
    with stages() as on_stage:
        outcome = asyncio.run(
            run(settings, tier, partitions, dry_run=dry_run, on_stage=on_stage, on_waiting=_say_waiting)
        )
    if as_json:
        print_json({**msgspec.to_builtins(outcome), "dry_run": dry_run})
    else:
        _print(outcome, dry_run=dry_run)


def _say_waiting(count: int) -> None:
    note(
        f"{count:,} messages have not been consumed, and no worker can until this is done: they meet their states"
        " through Redis, so let it be up, and CONTINUUM_HANDOFF_WAIT be longer than it takes to consume them"
    )


def _print(outcome: Outcome, *, dry_run: bool) -> None:
    tier, before, after = outcome.tier, outcome.before, outcome.after
    if before == after and not outcome.resumed:
        out.print(f"{tier} has {after} partitions already, its topic as its table")
        return
    have, are = ("would have", "would be") if dry_run else ("has", "are")
    out.print(f"{tier} {have} {after} partitions instead of {before}")
    out.print(f"{outcome.moved:,} of {outcome.states:,} states {are} moved, {outcome.mirrored:,} of them new to Redis")
    if outcome.in_frames:
        out.print(f"{outcome.in_frames:,} of sensors that come in frames stay, and are met through Redis")
    if outcome.stale:
        out.print(f"{outcome.stale:,} older ones, left over from earlier moves, {are} deleted")
    if not dry_run:
        out.print(f"verified: {outcome.states:,} states, each once, in its partition, with the bytes that it had")
