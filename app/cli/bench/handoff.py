"""`continuum bench handoff`: sensors that move between tiers while they stream."""

from __future__ import annotations

from typing import Annotated

import typer

from app.bench.errors import BenchError
from app.bench.handoff import HandoffResult, measure_handoff
from app.bench.result import SuiteResult
from app.bench.surroundings import Surroundings
from app.cli.bench.output import BaselineOption, PlotOption, Report, SaveOption
from app.cli.bench.suites import run_suite
from app.cli.output import JsonOption, note


def handoff(
    *,
    sensors: Annotated[int, typer.Option(help="Simulated sensors.", min=1)] = 1000,
    moves: Annotated[int, typer.Option(help="How often all of them move.", min=1)] = 10,
    as_json: JsonOption = False,
    plot: PlotOption = None,
    save: SaveOption = None,
    baseline: BaselineOption = None,
) -> None:
    """Move sensors between two tiers, to and fro while they stream, and compare with sensors that never moved."""
    found: list[HandoffResult] = []

    async def measure(own: Surroundings, result: SuiteResult) -> None:
        found.append(await measure_handoff(own.settings, sensors, moves, note))
        found[0].into(result.measurement(f"{sensors:,} sensors, {moves} moves", "rt to nrt and back"))

    run_suite("handoff", Report(as_json, plot, save, baseline), measure)
    if not found[0].passed:
        raise BenchError(f"{found[0].other} records differ and {found[0].missing} are missing: expected none")
