"""`continuum deploy`: files to deploy with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from pydantic import TypeAdapter, ValidationError

from app.cli.output import JsonOption, note, out, print_json
from app.deploy.export import Kind, deployment_files, write_files
from app.deploy.next_steps import next_steps
from app.deploy.values import DeployError, Deployment
from app.settings import TIERS, TierName, load_settings, tiers_in

deploy = typer.Typer(help="Files to deploy with: Compose, AWS, Kubernetes, Grafana.", no_args_is_help=True)


@deploy.callback()
def _group() -> None:
    """Keep `export` a command of its own, though it is the only one."""


@deploy.command()
def export(
    kind: Annotated[Kind, typer.Argument(help="What to deploy on; grafana: dashboards and alerts alone.")],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder for the files; made if it is not there.")],
    *,
    image: Annotated[str, typer.Option(help="Image of workers and function, with its registry.")] = "continuum:dev",
    workers: Annotated[str, typer.Option(help="Tiers that workers run, as in rt,nrt.")] = "rt,nrt",
    functions: Annotated[str, typer.Option(help="Tiers that the on-demand function runs.")] = "batch",
    partitions: Annotated[
        str, typer.Option(help="Tiers whose topics have been repartitioned, as in rt=100.", show_default=False)
    ] = "",
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that differ.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write the files of a deployment: images, names, partition counts and settings are those of this installation.

    Names follow CONTINUUM_APP_ID and CONTINUUM_TOPIC_PREFIX, times the other settings in force. No file has a secret.
    """
    deployment = Deployment(
        load_settings(),
        image,
        _tiers("--workers", workers),
        _tiers("--functions", functions),
        _partitions(partitions),
    )
    written = write_files(folder, deployment_files(kind, deployment), force=force)
    steps = next_steps(kind, deployment, folder)
    if as_json:
        print_json({"kind": kind.value, "files": [str(path) for path in written], "next": steps})
        return
    for path in written:
        out.print(str(path), markup=False, soft_wrap=True)
    note(f"{len(written)} files. Next:")
    for step in steps:
        note(f"  {step}")


def _tiers(option: str, value: str) -> tuple[TierName, ...]:
    tiers = tiers_in(value)
    if tiers is None:
        raise DeployError(f"{option}={value}: expected some of {', '.join(TIERS)}, each once, with commas between them")
    return tiers


def _partitions(value: str) -> dict[TierName, int]:
    pairs = dict(part.strip().split("=", 1) for part in value.split(",") if "=" in part)
    try:
        counts = TypeAdapter(dict[TierName, int]).validate_python(pairs)
    except ValidationError:
        counts = {}
    if len(counts) < len([part for part in value.split(",") if part.strip()]):
        raise DeployError(
            f"--partitions={value}: expected TIER=COUNT for some of {', '.join(TIERS)}, as in rt=100,nrt=60"
        )
    return counts
