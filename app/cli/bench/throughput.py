"""`continuum bench throughput`: one worker on one core, beside other contenders."""

from __future__ import annotations

from itertools import product
from typing import Annotated

import typer

from app.bench.load import Shape
from app.bench.result import SuiteResult
from app.bench.surroundings import Surroundings
from app.bench.throughput import Plan, measure_throughput
from app.cli.bench.output import BaselineOption, PlotOption, RepeatsOption, Report, SaveOption
from app.cli.bench.suites import run_suite
from app.cli.output import JsonOption, note
from app.errors import ContinuumError
from app.replay import ENCODINGS, Encoding

QUICK_SECONDS, QUICK_REPEATS = 3.0, 2


def throughput(  # noqa: PLR0913 - the options
    *,
    encoding: Annotated[
        str, typer.Option(help="Of the blocks: json, msgpack, frame (of 50 blocks); several with commas.")
    ] = ",".join(ENCODINGS),
    sensors: Annotated[str, typer.Option(help="Simulated sensors; several numbers with commas.")] = "1000",
    block: Annotated[str, typer.Option(help="Samples a block; several numbers with commas.")] = "256",
    checkpoints: Annotated[str, typer.Option(help="Seconds between checkpoints, or off; several with commas.")] = "10",
    seconds: Annotated[float, typer.Option(help="About how long a run of ours lasts.", min=0.1)] = 12.0,
    repeats: RepeatsOption = 5,
    quick: Annotated[
        bool, typer.Option("--quick", help="Two short runs of each, without a checkpoint in them: a first look.")
    ] = False,
    as_json: JsonOption = False,
    plot: PlotOption = None,
    save: SaveOption = None,
    baseline: BaselineOption = None,
) -> None:
    """Measure one worker on one core, from a filled topic to its last feature appended, beside other contenders.

    These are a plain Faust agent, bare aiokafka that reads and sends the same bytes, and the DSP alone. The mirror is
    on, and every feature is verified. Every combination of the options' values is a case.
    """
    shapes = [
        Shape(encoding_named(name), count, samples)
        for name, count, samples in product(_parts(encoding), _numbers("sensors", sensors), _numbers("block", block))
    ]
    often = [None if part == "off" else _seconds(part) for part in _parts(checkpoints)]
    plan = Plan(shapes, often, QUICK_SECONDS if quick else seconds, QUICK_REPEATS if quick else repeats)

    async def measure(own: Surroundings, result: SuiteResult) -> None:
        await measure_throughput(plan, own, result, note)

    run_suite("throughput", Report(as_json, plot, save, baseline), measure)


def _parts(text: str) -> list[str]:
    return list(dict.fromkeys(part.strip() for part in text.split(",")))


def encoding_named(text: str) -> Encoding:
    """Give the encoding of a name.

    Raises
    ------
    ContinuumError
        There is none.
    """
    for known in ENCODINGS:
        if text == known:
            return known
    raise ContinuumError(f"--encoding {text!r}: expected {', '.join(ENCODINGS)}")


def _numbers(option: str, text: str) -> list[int]:
    parts = _parts(text)
    if not all(part.isdecimal() and int(part) for part in parts):
        raise ContinuumError(f"--{option} {text!r}: expected whole numbers above 0, with commas between several")
    return [int(part) for part in parts]


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise ContinuumError(f"--checkpoints {text!r}: expected seconds above 0, or off, with commas between several")
    return seconds
