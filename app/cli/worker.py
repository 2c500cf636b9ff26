"""`continuum worker`: one worker process, Faust's own command with our settings."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from app.pipelines import known_pipelines
from app.settings import PREFIX, load_settings


def worker(
    *,
    tiers: Annotated[
        str | None, typer.Option(help="Tiers whose agents run here, e.g. rt,nrt; else CONTINUUM_TIERS.")
    ] = None,
    loglevel: Annotated[str, typer.Option("--loglevel", "-l", help="debug, info, warning or error.")] = "info",
    shadow: Annotated[
        bool | None,
        typer.Option(
            "--shadow/--no-shadow",
            help="Run a changed pipeline's old one until the new one has settled beside it; else CONTINUUM_SHADOW.",
        ),
    ] = None,
    web_port: Annotated[int | None, typer.Option(help="Port of the web pages; else the first free from 6066.")] = None,
) -> None:
    """Run a worker until it is told to stop (SIGTERM or Ctrl-C); like `faust -A app worker`."""
    if tiers is not None:
        os.environ[f"{PREFIX}TIERS"] = tiers
    if shadow is not None:
        os.environ[f"{PREFIX}SHADOW"] = str(shadow)
    if web_port is not None:
        os.environ[f"{PREFIX}WEB_PORT"] = str(web_port)
    # So that a mistake is one line and not a traceback of the other process.
    known_pipelines(load_settings().pipelines)
    command = [sys.executable, "-m", "faust", "-A", "app", "worker", "-l", loglevel]
    # The worker takes this process's place, so that signals and the exit code are its own.
    os.execv(sys.executable, command)  # noqa: S606 - no shell, and nothing of the user's in it
