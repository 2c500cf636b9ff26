"""`continuum bench`: measurements, with their conditions."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from app.bench.conditions import conditions
from app.bench.throughput import Result, measure
from app.cli.interruption import Interruption
from app.cli.output import JsonOption, note, out, print_json
from app.services import temporary_services
from app.settings import load_settings

bench = typer.Typer(help="Measure, with the conditions, the contenders in turn.", no_args_is_help=True)
# A group even of one command, so that its name is still expected.
bench.callback()(lambda: None)


@bench.command()
def throughput(
    *,
    sensors: Annotated[int, typer.Option(help="Simulated sensors.")] = 1000,
    blocks: Annotated[int, typer.Option(help="Blocks of 256 samples a run, all sensors together.")] = 100_000,
    repeats: Annotated[int, typer.Option(help="Runs of each contender, in turn.")] = 3,
    as_json: JsonOption = False,
) -> None:
    """Measure one worker, from a filled topic to its last feature, beside a plain Faust agent.

    Checkpoints and the mirror are on; every feature is verified. The embedded Kafka and Redis share the machine.
    """
    with Interruption() as interruption, temporary_services(load_settings().datadir, progress=note):
        settings = load_settings()
        results = interruption.run(measure(settings, sensors, blocks, repeats, note))
    measured = {**conditions(), "checkpoints": f"every {settings.checkpoint_seconds:g} s", "sensors": f"{sensors:,}"}
    if as_json:
        print_json({"conditions": measured, "results": results})
    else:
        _print(measured, results)


def _print(measured: dict[str, str], results: list[Result]) -> None:
    for name, value in measured.items():
        out.print(f"{name}: {value}", markup=False)
    table = Table("contender", "blocks a run", "blocks/s: min", "median", "max", "CPU µs/block", "x plain")
    for column in table.columns[1:]:
        column.justify = "right"
    plain = results[-1].spread("blocks_per_second")[1]
    for result in results:
        least, middle, most = result.spread("blocks_per_second")
        table.add_row(
            result.name,
            f"{result.blocks:,}",
            *(f"{value:,.0f}" for value in (least, middle, most)),
            f"{result.spread('cpu_microseconds')[1]:.1f}",
            f"{middle / plain:.1f}",
        )
    out.print(table)
