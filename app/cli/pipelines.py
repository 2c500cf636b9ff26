"""`continuum pipelines`: the pipelines and stages there are, shown, checked and drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from app.bench.stage_speeds import load_speeds
from app.cli.output import JsonOption, note, notes, print_json
from app.cli.pipeline_tables import (
    print_checked,
    print_files,
    print_pipeline,
    print_pipelines,
    print_responses,
    print_stages,
)
from app.errors import ContinuumError
from app.pipelines import known_pipelines
from app.pipelines.check import check_files
from app.pipelines.describe import origin, shown_pipeline
from app.pipelines.plot import save_plot
from app.pipelines.readme_table import put_between_marks, stages_table
from app.pipelines.response import Response, responses
from app.pipelines.schema import pipeline_schema
from app.pipelines.stage_check import StageChecked, check_stage
from app.pipelines.stage_list import ignored_stages, shown_stages
from app.run import find_pipeline
from app.settings import load_settings

pipelines = typer.Typer(help="Show, check and draw pipelines, and the stages they are made of.", no_args_is_help=True)

FAULTY = 1
"""Exit code of check."""

NameArgument = Annotated[str, typer.Argument(metavar="NAME|FILE", help="Name of a pipeline, or path of a TOML file.")]


@pipelines.command("list")
def list_pipelines(
    *,
    stages: Annotated[bool, typer.Option("--stages", help="The stages of the registry instead.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="With --stages: our own ones, as Markdown.")] = False,
    into: Annotated[
        Path | None,
        typer.Option(help="With --markdown: a file to put it into, between its marks.", show_default=False),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the pipelines, shipped and own, or the stages that pipelines are made of."""
    if markdown or into:
        if not (stages and markdown) or as_json:
            raise ContinuumError("--markdown goes with --stages, --into with both, and neither with --json")
        table = stages_table(shown_stages(), load_speeds())
        if into is None:
            typer.echo(table, nl=False)
        else:
            put_between_marks(into, table)
    elif stages:
        stages_shown = shown_stages()
        print_json(stages_shown) if as_json else print_stages(stages_shown)
        for why in ignored_stages():
            note(why)
    else:
        known = known_pipelines(load_settings().pipelines)
        shown = [shown_pipeline(own, origin(own)) for _, own in sorted(known.items())]
        print_json(shown) if as_json else print_pipelines(shown)


@pipelines.command()
def show(name: NameArgument, *, as_json: JsonOption = False) -> None:
    """Show a pipeline: wiring, rates, parameters in force, state, features and fingerprint."""
    folder = load_settings().pipelines
    pipeline = find_pipeline(name, folder)
    shown = shown_pipeline(pipeline, origin(pipeline) if name in known_pipelines(folder) else name)
    print_json(shown) if as_json else print_pipeline(shown)


@pipelines.command()
def check(
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="FILE...", help="TOML files, or folders of them.", show_default=False)
    ] = None,
    *,
    stage: Annotated[
        list[str] | None, typer.Option(help="Examine a stage of the registry, yours or ours.", show_default=False)
    ] = None,
    rounds: Annotated[int, typer.Option(help="How often each check of a stage draws anew.", min=1)] = 8,
    seed: Annotated[int, typer.Option(help="Of what is drawn.", min=0)] = 0,
    as_json: JsonOption = False,
) -> None:
    """Check pipelines in files or folders, or stages.

    Of a file everything is said that is wrong. A stage must do what all stages do: give the same bits however its
    samples are cut, whatever sensors are beside, and after its state went through bytes; and stay finite. Exit code 1
    where anything is wrong.
    """
    if bool(files) == bool(stage):
        raise ContinuumError("nothing to check, or two things: expected either files and folders, or --stage")
    if stage:
        results = [_examined(kind, rounds, seed) for kind in stage]
        passed = all(result.passed for result in results)
        if as_json:
            print_json(results)
        else:
            for result in results:
                print_checked(result)
    else:
        checked = check_files(files or [])
        passed = not any(file.errors for file in checked)
        print_json(checked) if as_json else print_files(checked)
    if not passed:
        raise typer.Exit(FAULTY)


def _examined(kind: str, rounds: int, seed: int) -> StageChecked:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=notes, transient=True, disable=not notes.is_terminal) as progress:
        task = progress.add_task(kind, total=None)

        def on_check(name: str, done: int, total: int) -> None:
            progress.update(task, description=f"{kind}: {name}", completed=done, total=total)

        return check_stage(kind, seed=seed, rounds=rounds, on_check=on_check)


@pipelines.command()
def schema() -> None:
    """Print the JSON Schema of a pipeline's TOML, for editors: every stage's parameters are in it."""
    made = pipeline_schema()
    print_json(made.document)
    for why in made.left_out:
        note(f"left out: {why}")


@pipelines.command()
def plot(
    name: NameArgument,
    *,
    node: Annotated[str | None, typer.Option(help="Only this series.", show_default=False)] = None,
    output: Annotated[
        Path | None,
        typer.Option("--out", help="File to write, .svg or .png; else PIPELINE.svg.", show_default=False),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Draw the responses of a pipeline's series to the raw signal: magnitude, group delay and impulse response.

    They are measured by an impulse through the pipeline. A series that is not linear and time-invariant has none, and
    it is said why.
    """
    pipeline = find_pipeline(name, load_settings().pipelines)
    path = output or Path(f"{pipeline.name}.svg")
    shown = list(responses(pipeline, node))
    title = f"{pipeline.name} at {pipeline.signal.sample_rate:g} Hz: responses to its raw signal"
    save_plot(title, shown, path)
    if as_json:
        print_json({"file": str(path), "nodes": [_response_map(response) for response in shown]})
        return
    print_responses(shown)
    note(f"drawn to {path}")


def _response_map(response: Response) -> dict[str, Any]:
    return {
        "node": response.node,
        "fault": response.fault,
        "curves": [
            {"channels": curve.label, "peak": float(curve.decibels.max()), "edges": curve.edges, "cut": curve.is_cut}
            for curve in response.curves
        ],
        "leftOut": response.left_out,
    }
