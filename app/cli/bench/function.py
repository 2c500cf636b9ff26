"""`continuum bench function`: cold starts and warm events of the function."""

from __future__ import annotations

from typing import Annotated

import typer

from app.bench.function import BLOCK, WARM_PIPELINE, measure_function
from app.bench.result import SuiteResult
from app.bench.surroundings import Surroundings
from app.cli.bench.output import BaselineOption, PlotOption, Report, SaveOption
from app.cli.bench.suites import run_suite
from app.cli.output import JsonOption, note


def function(
    *,
    repeats: Annotated[int, typer.Option(help="Cold starts of each pipeline.", min=1)] = 7,
    invocations: Annotated[int, typer.Option(help="Warm events of each mode and size.", min=1)] = 100,
    as_json: JsonOption = False,
    plot: PlotOption = None,
    save: SaveOption = None,
    baseline: BaselineOption = None,
) -> None:
    """Measure the function: from a fresh process to its first feature, and warm, on demand and with sensors kept.

    The embedded Kafka and Redis share the machine.
    """

    async def measure(own: Surroundings, result: SuiteResult) -> None:
        record = f"one block of {BLOCK} samples of a sensor; warm: {WARM_PIPELINE}"
        result.conditions.remarks["record"] = record
        await measure_function(own.settings, repeats, invocations, result, note)

    run_suite("function", Report(as_json, plot, save, baseline), measure)
