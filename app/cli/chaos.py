"""`continuum chaos`: workers killed for minutes, and every feature checked."""

from __future__ import annotations

import asyncio
import logging
import secrets
import shutil
import signal
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from app.bench.conditions import conditions
from app.chaos.load import Load
from app.chaos.plan import KINDS, MEANING, Fault, Kind, PlanError, counts_for, make_plan
from app.chaos.report import Report
from app.chaos.run import Run
from app.chaos.surroundings import surroundings
from app.cli.output import JsonOption, notes, out, print_json
from app.settings import Settings, load_settings

_FAILED = 1
_INTERRUPTED = 130

_WORKERS = 3


class Preset(StrEnum):
    """Runs that have been measured."""

    SMALL = "small"
    FULL = "full"


_LOADS = {Preset.SMALL: Load(1000, 500.0, 150.0), Preset.FULL: Load(2000, 1250.0, 900.0)}


def chaos(
    *,
    preset: Annotated[
        Preset, typer.Option(help="small: 2.5 minutes; full: 15 minutes, 1,125,000 blocks, 98 faults.")
    ] = Preset.SMALL,
    minutes: Annotated[float | None, typer.Option(help="How long; else the preset's.", show_default=False)] = None,
    sensors: Annotated[
        int | None, typer.Option(help="Simulated sensors; else the preset's.", show_default=False)
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(help="Blocks of 256 samples a second, in all; else the preset's.", show_default=False),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Workers; one more joins and leaves.")] = _WORKERS,
    seed: Annotated[int, typer.Option(help="Of the plan of faults.")] = 1,
    only: Annotated[
        str | None, typer.Option(help=f"Only these faults, as in kill,cut; there are {', '.join(KINDS)}.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Run workers on three Kafka brokers of their own, let them fail on a random plan, and check every feature.

    Exit code 0 if nothing was lost, wrong or left uncommitted, 1 if not. Needs two cores and some gigabytes of disk.
    """
    usual = _LOADS[preset]
    load = Load(sensors or usual.sensors, rate or usual.rate, usual.seconds if minutes is None else 60.0 * minutes)
    settings = load_settings()
    counts = counts_for(load.seconds / 60)
    if only is not None:
        counts = _chosen(only, counts)
    faults = make_plan(seed, counts, load.seconds, workers, settings.session_timeout)
    for fault in faults:
        notes.print(str(fault), markup=False)
    # Brokers and connections are meant to break here.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    # As Ctrl-C: brokers and workers would outlive us.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    folder = settings.datadir / "chaos" / secrets.token_hex(4)
    try:
        report = _run(settings, folder, load, faults, workers)
    except KeyboardInterrupt:
        _note(f"interrupted; logs are in {folder}")
        sys.exit(_INTERRUPTED)
    if as_json:
        print_json({"conditions": conditions(), "seed": seed, "report": report})
    else:
        _print(report)
    if not report.passed:
        _note(f"what was left behind is in {folder}")
        sys.exit(_FAILED)
    shutil.rmtree(folder)


def _run(settings: Settings, folder: Path, load: Load, faults: list[Fault], workers: int) -> Report:
    disks = any(fault.kind == "disk-full" for fault in faults)
    with surroundings(settings, folder, workers + 1, _note, disks=disks) as around:
        return asyncio.run(Run(around, load, faults, workers, _note).carry_out())


def _chosen(only: str, counts: dict[Kind, int]) -> dict[Kind, int]:
    """Give the chosen kinds as many faults as all of them had."""
    names = [name.strip() for name in only.split(",")]
    chosen: list[Kind] = [kind for kind in KINDS if kind in names]
    if unknown := set(names) - set(chosen):
        raise PlanError(f"--only {', '.join(sorted(unknown))}: expected some of {', '.join(KINDS)}")
    if ("join" in chosen) != ("leave" in chosen):
        raise PlanError("--only: join and leave go together")
    return dict.fromkeys(chosen, max(1, sum(counts.values()) // len(chosen)))


def _print(report: Report) -> None:
    for name, value in conditions().lines().items():
        out.print(f"{name}: {value}", markup=False)
    table = Table("fault", "happened", "longest pause after it, s: median", "max", "meaning")
    for column in table.columns[1:4]:
        column.justify = "right"
    for kind in KINDS:
        if pauses := report.pauses.get(kind):
            table.add_row(kind, str(pauses.faults), f"{pauses.median:.1f}", f"{pauses.longest:.1f}", MEANING[kind])
        elif kind in report.skipped:
            table.add_row(kind, "skipped", "", "", report.skipped[kind])
    out.print(table)
    out.print(
        f"{report.blocks:,} blocks of {report.sensors:,} sensors in {report.seconds:,.0f} s"
        f" ({report.blocks_per_second:,.0f} blocks/s), {report.rebalances} rebalances,"
        f" longest pause of a sensor {report.longest_pause:.1f} s (usually {report.usual_pause:.1f} s)"
    )
    out.print(f"repeated records {report.repeated:,} ({report.repeated_share:.1%})")
    for code, count in report.unasked_ends.items():
        out.print(f"workers that ended by themselves with code {code}: {count}")
    colour = "green" if report.passed else "red"
    out.print(
        f"[bold {colour}]lost {report.lost}, wrong {report.wrong}, unlike {report.unlike},"
        f" out of order {report.out_of_order}, unexpected {report.unexpected}, uncommitted {report.uncommitted},"
        f" disagreeing {report.disagreeing}[/]"
    )
    for example in report.examples:
        out.print(example, markup=False)


def _note(text: str) -> None:
    notes.print(text, markup=False)
