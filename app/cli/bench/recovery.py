"""`continuum bench recovery`: how a worker has its sensors' states again."""

from __future__ import annotations

from typing import Annotated

import typer

from app.bench.recovery import measure_recovery
from app.bench.result import SuiteResult
from app.bench.surroundings import Surroundings
from app.cli.bench.output import BaselineOption, PlotOption, RepeatsOption, Report, SaveOption
from app.cli.bench.suites import run_suite
from app.cli.output import JsonOption, note


def recovery(
    *,
    sensors: Annotated[int, typer.Option(help="Simulated sensors.", min=1)] = 10_000,
    repeats: RepeatsOption = 3,
    as_json: JsonOption = False,
    plot: PlotOption = None,
    save: SaveOption = None,
    baseline: BaselineOption = None,
) -> None:
    """Measure how long a worker takes to have its sensors' states again, by where they come from."""

    async def measure(own: Surroundings, result: SuiteResult) -> None:
        # What a takeover takes includes it: the group gives up a worker that is killed after that.
        result.conditions.settings["session_timeout"] = own.settings.session_timeout
        await measure_recovery(own.settings, sensors, repeats, result, note)

    run_suite("recovery", Report(as_json, plot, save, baseline), measure)
