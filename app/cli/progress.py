"""The progress of commands that work in stages."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from app.cli.output import notes
from app.state_copies.verify_all import OnStage


@contextmanager
def stages() -> Iterator[OnStage]:
    """Show the stage that is under way, for the time of a `with` block; only on a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=notes, transient=True, disable=not notes.is_terminal) as progress:
        task = progress.add_task("")
        yield lambda stage, done, total: progress.update(task, description=stage, completed=done, total=total)
