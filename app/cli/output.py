"""What all commands share of their output: rich for people, JSON lines for machines, errors on stderr."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console

#: `--json`, as every command spells it.
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for machines instead of tables.")]

#: Progress and remarks go here, so that a command's output can be piped.
notes = Console(stderr=True, highlight=False)
PIPED_COLUMNS = 160
"""Width of what goes to a file or another program, where nobody has set `COLUMNS`: long lines there are no trouble."""

#: What was asked for.
out = Console(highlight=False, width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else PIPED_COLUMNS)


def note(text: str) -> None:
    """Print a remark to stderr, on one line however narrow the terminal is."""
    notes.print(text, markup=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """Print one JSON document on one line of stdout."""
    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")


def print_error(error: Exception) -> None:
    """Print an error's text to stderr, marked as one."""
    notes.print("[bold red]error:[/]", end=" ")
    note(str(error))
