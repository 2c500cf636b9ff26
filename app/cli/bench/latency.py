"""`continuum bench latency`: from a block's due time to its feature, at steady rates, beside a bare echo."""

from __future__ import annotations

from typing import Annotated

import typer

from app.bench.latency import LatencyPlan, measure_latency
from app.bench.load import Shape
from app.bench.result import SuiteResult
from app.bench.surroundings import Surroundings
from app.cli.bench.output import BaselineOption, PlotOption, RepeatsOption, Report, SaveOption
from app.cli.bench.suites import run_suite
from app.cli.bench.throughput import encoding_named
from app.cli.output import JsonOption, note

SHARES = (0.1, 0.5, 0.8)


def latency(  # noqa: PLR0913 - an argument for each option
    *,
    encoding: Annotated[str, typer.Option(help="Of the blocks: json, msgpack or frame (of 50 blocks).")] = "msgpack",
    sensors: Annotated[int, typer.Option(help="Simulated sensors.", min=50)] = 1000,
    block: Annotated[int, typer.Option(help="Samples a block.", min=1, max=65_536)] = 256,
    rate: Annotated[
        float | None,
        typer.Option(help="Blocks/s; else 10, 50 and 80 % of the throughput found.", min=1.0, show_default=False),
    ] = None,
    checkpoints: Annotated[float, typer.Option(help="Seconds between checkpoints.", min=0.1)] = 10.0,
    seconds: Annotated[float, typer.Option(help="How long each rate lasts.", min=0.1)] = 12.0,
    repeats: RepeatsOption = 5,
    as_json: JsonOption = False,
    plot: PlotOption = None,
    save: SaveOption = None,
    baseline: BaselineOption = None,
) -> None:
    """Measure from when a block is due at its sender until its feature is readable, beside a bare aiokafka echo.

    Blocks are sent at times fixed beforehand, so that a stall counts for all that were due meanwhile. The mirror is
    on, and every feature is verified.
    """
    shape = Shape(encoding_named(encoding), sensors, block)
    shares = SHARES if rate is None else (1.0,)
    plan = LatencyPlan(shape, shares, rate, seconds, checkpoints, repeats)

    async def measure(own: Surroundings, result: SuiteResult) -> None:
        await measure_latency(plan, own, result, note)

    run_suite("latency", Report(as_json, plot, save, baseline), measure)
