"""`continuum bench`: measurements, with their conditions."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from statistics import median
from typing import Annotated

import numpy as np
import typer
from rich.table import Table

from app.bench.conditions import conditions
from app.bench.function import BLOCK as FUNCTION_BLOCK
from app.bench.function import RATES, WARM_PIPELINE, FunctionResult, measure_function
from app.bench.handoff import HandoffResult, measure_handoff
from app.bench.pipelines import BLOCK, PUBLISHED, PipelineResult, measure_pipelines, numba_version
from app.bench.recovery import RecoveryResult, measure_recovery
from app.bench.stage_speeds import save_speeds
from app.bench.stages import measure_stages
from app.bench.throughput import Case, Result, cases, checkpoint_cases, measure, own_settings
from app.cli.interruption import Interruption
from app.cli.output import JsonOption, note, out, print_json
from app.dsp.stages import STAGES
from app.errors import ContinuumError
from app.memory import collect_less_often, keep_freed_memory
from app.pipelines.readme_table import rounded
from app.services import temporary_services
from app.settings import Settings, load_settings
from app.tiers import in_force

bench = typer.Typer(help="Measure, with the conditions, the contenders in turn.", no_args_is_help=True)

SensorsOption = Annotated[int, typer.Option(help="Simulated sensors.", min=1)]
BlocksOption = Annotated[int, typer.Option(help="Blocks of 256 samples a run, all sensors together.", min=1)]
RepeatsOption = Annotated[int, typer.Option(help="Runs of each contender, in turn.", min=1)]


@bench.command()
def throughput(
    *,
    sensors: SensorsOption = 1000,
    blocks: BlocksOption = 100_000,
    repeats: RepeatsOption = 3,
    as_json: JsonOption = False,
) -> None:
    """Measure one worker, from a filled topic to its last feature, beside a plain Faust agent.

    Checkpoints and the mirror are on; every feature is verified. The embedded Kafka and Redis share the machine.
    """
    settings, results = _in_turn(cases, sensors, blocks, repeats)
    measured = {"checkpoints": f"every {in_force(settings, 'rt').checkpoint_seconds:g} s", "sensors": f"{sensors:,}"}
    _show(measured, results, "plain", as_json=as_json)


@bench.command()
def checkpoints(
    *,
    sensors: SensorsOption = 1000,
    blocks: BlocksOption = 100_000,
    repeats: RepeatsOption = 3,
    as_json: JsonOption = False,
) -> None:
    """Measure what checkpoints cost one worker: every second, every ten, and none but at its end.

    Snapshots of all sensors go to the table, its changelog and Redis each time. Every feature is verified.
    """
    _, results = _in_turn(checkpoint_cases, sensors, blocks, repeats)
    _show({"sensors": f"{sensors:,}", "encoding": "MessagePack"}, results, "off", as_json=as_json)


@bench.command()
def handoff(*, sensors: SensorsOption = 1000, moves: int = 10, as_json: JsonOption = False) -> None:
    """Move sensors between two tiers, to and fro while they stream, and compare with sensors that never moved."""
    with Interruption() as interruption, temporary_services(load_settings().datadir, progress=note):
        result = interruption.run(measure_handoff(_own(load_settings()), sensors, moves, note))
    if as_json:
        print_json({"conditions": conditions(), "result": result})
    else:
        _print_conditions({})
        _print_handoff(result)
    if not result.passed:
        raise ContinuumError(f"{result.other} records differ and {result.missing} are missing: expected none")


@bench.command()
def function(
    *,
    repeats: Annotated[int, typer.Option(help="Cold starts of each pipeline.", min=1)] = 7,
    invocations: Annotated[int, typer.Option(help="Warm events of each mode and size.", min=1)] = 100,
    as_json: JsonOption = False,
) -> None:
    """Measure the function: from a fresh process to its first feature, and warm, on demand and with sensors kept.

    The embedded Kafka and Redis share the machine.
    """
    with Interruption() as interruption, temporary_services(load_settings().datadir, progress=note):
        result = interruption.run(measure_function(_own(load_settings()), repeats, invocations, note))
    measured = {"record": f"one block of {FUNCTION_BLOCK} samples of a sensor; warm: {WARM_PIPELINE}"}
    if as_json:
        print_json({"conditions": conditions() | measured, "result": result})
        return
    _print_conditions(measured)
    _print_function(result)


@bench.command()
def recovery(*, sensors: SensorsOption = 10_000, repeats: RepeatsOption = 3, as_json: JsonOption = False) -> None:
    """Measure how long a worker takes to have its sensors' states again, by where they come from."""
    with Interruption() as interruption, temporary_services(load_settings().datadir, progress=note):
        result = interruption.run(measure_recovery(_own(load_settings()), sensors, repeats, note))
    if as_json:
        print_json({"conditions": conditions(), "result": result})
    else:
        _print_conditions({"sensors": f"{sensors:,}", "session timeout": f"{result.session_timeout:g} s"})
        _print_recovery(result)


@bench.command()
def stages(
    *,
    stage: Annotated[list[str] | None, typer.Option(help="Only these; else all.", show_default=False)] = None,
    repeats: Annotated[int, typer.Option(help="Passes over all stages.", min=1)] = 9,
    save: Annotated[bool, typer.Option("--save", help="Keep the figures beside the code, for the manual.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Measure each stage with its first example, on batches as the engine hands them out."""
    if stage and save:
        raise ContinuumError("--save keeps the figures of all stages: leave out --stage")
    for kind in stage or ():
        if kind not in STAGES:
            raise ContinuumError(f"stage {kind!r}: expected one of {', '.join(sorted(STAGES))}")
    ours = [kind for kind in STAGES if STAGES.is_ours(kind)]
    speeds = measure_stages(stage or ours, repeats, conditions(), note)
    if save:
        note(f"saved to {save_speeds(speeds)}")
    if as_json:
        print_json(speeds)
        return
    for name, value in speeds.conditions.items():
        out.print(f"{name}: {value}", markup=False)
    table = _table("stage", "Msamples/s: min", "median", "max")
    for kind, speed in speeds.stages.items():
        table.add_row(kind, *(rounded(value) for value in (speed.min, speed.median, speed.max)))
    out.print(table)


@bench.command()
def pipelines(*, repeats: RepeatsOption = 7, as_json: JsonOption = False) -> None:
    """Measure the engine alone on every shipped pipeline, beside scipy's bare `sosfilt` of the same samples."""
    # As a worker does.
    keep_freed_memory()
    collect_less_often()
    results = measure_pipelines(repeats, note)
    measured = {
        "numba": numba_version(),
        "blocks": f"{BLOCK} samples a channel, one a sensor in a batch",
        "dspx": PUBLISHED,
    }
    if as_json:
        print_json({"conditions": conditions() | measured, "results": results})
        return
    _print_conditions(measured)
    _print_pipelines(results)


def _own(settings: Settings) -> Settings:
    own = own_settings(settings, 1, secrets.token_hex(3))
    own.datadir.mkdir(parents=True)
    return own


def _in_turn(
    contenders: Callable[[Settings, int, int], list[Case]], sensors: int, blocks: int, repeats: int
) -> tuple[Settings, list[Result]]:
    with Interruption() as interruption, temporary_services(load_settings().datadir, progress=note):
        settings = load_settings()
        results = interruption.run(measure(contenders(settings, sensors, blocks), sensors, repeats, note))
    return settings, results


def _print_conditions(more: dict[str, str]) -> None:
    for name, value in (conditions() | more).items():
        out.print(f"{name}: {value}", markup=False)


def _show(measured: dict[str, str], results: list[Result], against: str, *, as_json: bool) -> None:
    """Print figures of contenders, and how many times the last one's each has."""
    if as_json:
        print_json({"conditions": conditions() | measured, "results": results})
        return
    _print_conditions(measured)
    table = _table("contender", "blocks a run", "blocks/s: min", "median", "max", "CPU µs/block", f"x {against}")
    last = results[-1].spread("blocks_per_second")[1]
    for result in results:
        least, middle, most = result.spread("blocks_per_second")
        table.add_row(
            result.name,
            f"{result.blocks:,}",
            *(f"{value:,.0f}" for value in (least, middle, most)),
            f"{result.spread('cpu_microseconds')[1]:.1f}",
            f"{middle / last:.2f}",
        )
    out.print(table)


def _print_handoff(result: HandoffResult) -> None:
    out.print(
        f"{result.sensors:,} sensors moved {result.moves} times: of {result.blocks:,} records {result.identical:,}"
        f" identical, {result.other:,} other, {result.missing:,} missing, {result.repeated:,} repeated"
    )
    out.print(
        f"blocks held in {result.held:,} handoffs: p50 {result.p50 * 1000:.0f} ms, p99 {result.p99 * 1000:.0f} ms"
    )


def _print_function(result: FunctionResult) -> None:
    table = _table("cold start", "ms: min", "median", "max", "import", *(f"{rate:g} Hz" for rate in RATES), "MB")
    for pipeline, cold in result.cold.items():
        total = (f"{1000 * value:,.0f}" for value in (min(cold.total), median(cold.total), max(cold.total)))
        samples = (f"{cold.samples(rate):,}" for rate in RATES)
        memory = f"{result.memory[pipeline] / 1e6:.0f}"
        table.add_row(pipeline, *total, f"{1000 * median(cold.imported):,.0f}", *samples, memory)
    out.print(table)
    table = _table("warm", "records", "ms: p50", "p99", "MB")
    for mode, sizes in result.warm.items():
        for records, seconds in sizes.items():
            quantiles = (f"{1000 * value:,.1f}" for value in np.percentile(seconds, (50, 99)))
            table.add_row(mode, f"{records:,}", *quantiles, f"{result.memory[mode] / 1e6:.0f}")
    out.print(table)


def _print_recovery(result: RecoveryResult) -> None:
    table = _table("states from", "s: min", "median", "max")
    for name, seconds in result.seconds.items():
        table.add_row(name, *(f"{value:.1f}" for value in (min(seconds), median(seconds), max(seconds))))
    out.print(table)


def _print_pipelines(results: list[PipelineResult]) -> None:
    table = _table("pipeline", "sensors", "contender", "M samples/s: min", "median", "max", "x sosfilt")
    for result in results:
        rates = (f"{rate / 1e6:,.2f}" for rate in result.spread())
        ratio = f"{median(result.ratios):.2f}"
        table.add_row(result.pipeline, f"{result.sensors:,}", result.contender, *rates, ratio)
    out.print(table)


def _table(*columns: str) -> Table:
    table = Table(*columns)
    for column in table.columns[1:]:
        column.justify = "right"
    return table
