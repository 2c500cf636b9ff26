"""`continuum bench scale`: more workers, more sensors, and what a sensor takes."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from app.bench.cores import moved_to, shared_out
from app.bench.recovery import measure_recovery
from app.bench.result import SuiteResult
from app.bench.scale import Scale, measure_cost, measure_memory, measure_workers
from app.bench.surroundings import Surroundings
from app.cli.bench.output import BaselineOption, PlotOption, RepeatsOption, Report, SaveOption
from app.cli.bench.suites import run_suite
from app.cli.output import JsonOption, note
from app.errors import ContinuumError
from app.tiers import in_force

PARTS = ("workers", "cost", "memory", "recovery")


def scale(
    *,
    part: Annotated[
        list[str] | None, typer.Option(help=f"Only these of {', '.join(PARTS)}; else all.", show_default=False)
    ] = None,
    most: Annotated[int, typer.Option(help="Most sensors; each power of ten up to it is measured.", min=1)] = 100_000,
    encoding: Annotated[Literal["msgpack", "frame"], typer.Option(help="Of the blocks.")] = "msgpack",
    repeats: RepeatsOption = 5,
    as_json: JsonOption = False,
    plot: PlotOption = None,
    save: SaveOption = None,
    baseline: BaselineOption = None,
) -> None:
    """Measure one and two workers, the cost of a block and the memory a sensor as sensors grow, and recovery.

    Every worker is in steady state: its sensors are in memory, and more blocks wait than it can work on.
    """
    parts = part or PARTS
    for name in parts:
        if name not in PARTS:
            raise ContinuumError(f"--part {name}: expected one of {', '.join(PARTS)}")
    sizes = [10**power for power in range(2, 7) if 10**power <= most] or [most]
    larger = [size for size in sizes if size >= 1000] or sizes

    async def measure(own: Surroundings, result: SuiteResult) -> None:
        cores = shared_out()
        services = [pid for pid in (own.kafka_pid, own.redis_pid) if pid is not None]
        tier = in_force(own.settings, "rt")
        result.conditions.settings |= {
            "encoding": encoding,
            "checkpoint_seconds": tier.checkpoint_seconds,
            "checkpoint_messages": tier.checkpoint_messages,
            "session_timeout": own.settings.session_timeout,
        }
        result.conditions.remarks["cores"] = cores.remark(moved=bool(services))
        measured = Scale(own, cores, encoding, repeats, result, note)
        if "workers" in parts:
            await measure_workers(measured)
        with moved_to(services, cores.others):
            if "cost" in parts:
                await measure_cost(measured, sizes)
            if "memory" in parts:
                await measure_memory(measured, larger)
        if "recovery" in parts:
            for size in larger:
                await measure_recovery(own.part(f"recovery-{size}"), size, repeats, result, note)

    run_suite("scale", Report(as_json, plot, save, baseline), measure)
