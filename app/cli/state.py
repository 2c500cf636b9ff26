"""`continuum state`: a sensor's state shown, moved as a file, and its copies compared."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.markup import escape
from rich.table import Column, Table

from app.cli.output import JsonOption, notes, out, print_json
from app.cli.progress import stages
from app.dsp.pipeline import Pipeline
from app.pipelines import known_pipelines
from app.settings import TIERS, TierName, load_settings
from app.state_copies.copies import PLACES, Place, StateCopy
from app.state_copies.describe import StateShown, describe
from app.state_copies.errors import StateError
from app.state_copies.search import Search, find_copies
from app.state_copies.transfer import import_snapshot, write_file
from app.state_copies.verify import Digest, Verdict, judge
from app.state_copies.verify_all import Report, verify_all

state = typer.Typer(help="Show, move and compare the states of sensors.", no_args_is_help=True)

FAULTY, NOTHING = 1, 2
"""Exit codes of verify."""

SensorArgument = Annotated[str, typer.Argument(metavar="SENSOR", help="Id of the sensor.")]
FromOption = Annotated[
    Place | None, typer.Option("--from", help="Take this copy; else the newest.", show_default=False)
]
TierOption = Annotated[TierName | None, typer.Option(help="Only this tier's table and changelog.", show_default=False)]


def _find(sensor_id: str, place: Place | None, tier: TierName | None) -> Search:
    return asyncio.run(
        find_copies(
            load_settings(),
            sensor_id,
            places=PLACES if place is None else (place,),
            tiers=TIERS if tier is None else (tier,),
        )
    )


def _pipelines() -> dict[str, Pipeline]:
    return known_pipelines(load_settings().pipelines)


def _say_where(search: Search, chosen: StateCopy) -> None:
    """Say what the choice was between."""
    for copy in search.copies:
        age = "damaged" if copy.header is None else f"restarts {copy.header.restarts}, next {copy.header.next}"
        mark = "taken" if copy is chosen else "     "
        notes.print(f"{mark} {copy.place} {copy.where}: {age}", markup=False)
    for place, why in search.unreachable.items():
        notes.print(f"not looked at: {place}: {why}", markup=False)


@state.command()
def show(
    sensor_id: SensorArgument,
    *,
    place: FromOption = None,
    tier: TierOption = None,
    arrays: Annotated[bool, typer.Option("--arrays", help="All values of the arrays, not only the first.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show a sensor's state, decoded."""
    search = _find(sensor_id, place, tier)
    chosen = search.newest()
    shown = describe(sensor_id, chosen, _pipelines(), all_values=arrays)
    if as_json:
        copies = [_as_map(copy) for copy in search.copies]
        print_json({**msgspec.to_builtins(shown), "copies": copies, "unreachable": search.unreachable})
        return
    _say_where(search, chosen)
    _print_state(shown)


def _print_state(shown: StateShown) -> None:
    table = Table("", "", show_header=False)
    fields = msgspec.to_builtins(shown)
    del fields["arrays"]
    fields["pipeline"] = shown.pipeline or "none of those known"
    for name, value in fields.items():
        if value is not None:
            table.add_row(name, escape(str(value)))
    out.print(table)
    values = Table(
        "node", "name", "dtype", "shape", Column("min", justify="right"), Column("max", justify="right"), "values"
    )
    for array in shown.arrays:
        size = 1
        for length in array.shape:
            size *= length
        given = ", ".join(f"{value:.6g}" for value in _flat(array.values))
        values.add_row(
            array.node,
            array.name,
            array.dtype + ("" if array.finite else ", not all finite"),
            "×".join(map(str, array.shape)),
            "" if array.min is None else f"{array.min:.6g}",
            "" if array.max is None else f"{array.max:.6g}",
            given + (", …" if size > len(_flat(array.values)) else ""),
        )
    out.print(values)


def _flat(values: Any) -> list[float]:
    return [inner for value in values for inner in _flat(value)] if isinstance(values, list) else [values]


@state.command()
def export(
    sensor_id: SensorArgument,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="File to write, or write over; - for stdout.")],
    *,
    place: FromOption = None,
    tier: TierOption = None,
) -> None:
    """Write a sensor's state to a file: the snapshot's own bytes."""
    search = _find(sensor_id, place, tier)
    chosen = search.newest()
    if file == Path("-"):
        sys.stdout.buffer.write(chosen.snapshot)
        sys.stdout.buffer.flush()
    else:
        write_file(file, chosen.snapshot)
    _say_where(search, chosen)


@state.command("import")
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="File that export wrote; - for stdin.")],
    sensor_id: SensorArgument,
    *,
    force: Annotated[bool, typer.Option("--force", help="Make it the newest, even where a newer is known.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Put a state from a file into Redis; the tier that meets the sensor next goes on from it.

    SENSOR may be another than the one it was exported of. A worker that has the sensor in memory drops it. An older
    state than the known ones is refused; with --force it becomes the newest, and the sensor's next block finds the
    samples between missing: stop the sensor's input before, and send from the state's next sample on.
    """
    try:
        snapshot = sys.stdin.buffer.read() if file == Path("-") else file.read_bytes()
    except OSError as error:
        raise StateError(f"{file} cannot be read ({error.strerror}): expected a file that export wrote") from None
    done = asyncio.run(import_snapshot(load_settings(), sensor_id, snapshot, force=force))
    if as_json:
        print_json(
            {
                "sensorId": sensor_id,
                "pipeline": done.pipeline.name,
                "restarts": done.header.restarts,
                "next": done.header.next,
                "epoch": done.imported.epoch,
                "changed": done.changed,
                "owner": done.imported.owner,
                "before": None if done.before is None else _as_map(done.before),
            }
        )
        return
    out.print(
        f"sensor {sensor_id} is now in Redis at restarts {done.header.restarts}, next {done.header.next} (pipeline"
        f" {done.pipeline.name}), owned by no tier, epoch {done.imported.epoch}",
        markup=False,
    )
    for what in done.changed:
        out.print(f"changed: {what}", markup=False)
    if done.imported.owner:
        out.print(f"tier {done.imported.owner} owned it, and drops its copy", markup=False)


@state.command()
def verify(
    sensor_id: Annotated[str | None, typer.Argument(metavar="[SENSOR]", help="Id of the sensor.")] = None,
    *,
    everything: Annotated[bool, typer.Option("--all", help="All sensors.")] = False,
    tier: TierOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare a sensor's state in table, changelog and Redis, or all sensors'.

    Exit code 0: every copy is sound, and each is the newest or an older one; while a worker runs, copies lag by up to
    a checkpoint. 1: a copy is damaged, or two of one age differ. 2: there is nothing to compare.
    """
    if everything == (sensor_id is not None):
        raise StateError("nothing to compare, or two things: expected either a sensor or --all")
    if sensor_id is not None:
        _verify_one(sensor_id, tier, as_json=as_json)
        return
    settings = load_settings()
    with stages() as on_stage:
        report = asyncio.run(verify_all(settings, TIERS if tier is None else (tier,), on_stage))
    if as_json:
        print_json(
            {
                "sensors": report.sensors,
                "statuses": report.statuses,
                "places": report.places,
                "furthestBehind": report.furthest_behind,
                "faulty": report.faulty,
                "unreadable": report.unreadable,
                "unreachable": report.unreachable,
            }
        )
    else:
        _print_report(report)
    if not report.sound:
        raise typer.Exit(FAULTY)
    if not report.sensors:
        raise typer.Exit(NOTHING)


def _verify_one(sensor_id: str, tier: TierName | None, *, as_json: bool) -> None:
    search = _find(sensor_id, None, tier)
    pipelines = _pipelines()
    verdict = judge(sensor_id, [Digest.of(copy, pipelines) for copy in search.copies])
    if as_json:
        print_json({**msgspec.to_builtins(verdict), "unreachable": search.unreachable})
    else:
        if search.copies:
            _print_verdict(verdict)
        else:
            notes.print(f"sensor {sensor_id!r} has no state: looked in {', '.join(search.looked)}", markup=False)
        for place, why in search.unreachable.items():
            notes.print(f"not looked at: {place}: {why}", markup=False)
    if not search.copies:
        raise typer.Exit(NOTHING)
    if not verdict.sound:
        raise typer.Exit(FAULTY)


def _print_verdict(verdict: Verdict) -> None:
    table = Table("copy", "where", "pipeline", "epoch", "restarts", "next", "behind, samples", "bytes")
    for copy in verdict.copies:
        table.add_row(
            f"{copy.place} ({copy.tier})",
            escape(copy.where),
            copy.pipeline or "unknown",
            str(copy.epoch),
            "" if copy.restarts is None else str(copy.restarts),
            "" if copy.next is None else str(copy.next),
            "an earlier stream" if copy.behind is None and copy.restarts is not None else str(copy.behind or 0),
            "the newest's" if copy.identical else "others",
        )
    out.print(table)
    out.print(f"{verdict.sensor_id}: {verdict.status}", markup=False)
    for fault in verdict.faults:
        out.print(fault, markup=False)


def _print_report(report: Report) -> None:
    table = Table("place", Column("sensors", justify="right"), Column("furthest behind, samples", justify="right"))
    for place, count in sorted(report.places.items()):
        table.add_row(place, f"{count:,}", f"{report.furthest_behind.get(place, 0):,}")
    out.print(table)
    statuses = ", ".join(f"{count:,} {status}" for status, count in report.statuses.most_common())
    out.print(f"{report.sensors:,} sensors: {statuses}" if statuses else "no sensor has a state")
    for verdict in report.faulty:
        for fault in verdict.faults:
            out.print(f"{verdict.sensor_id}: {fault}", markup=False)
    for fault in report.unreadable:
        out.print(f"cannot be read: {fault}", markup=False)
    for place, why in report.unreachable.items():
        notes.print(f"not looked at: {place}: {why}", markup=False)


def _as_map(copy: StateCopy) -> dict[str, Any]:
    header = copy.header
    return {
        "place": copy.place,
        "tier": copy.tier,
        "where": copy.where,
        "restarts": header and header.restarts,
        "next": header and header.next,
        "fault": copy.fault,
    }
