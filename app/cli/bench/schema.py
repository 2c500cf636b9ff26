"""`continuum bench schema`: the form of every suite's JSON."""

from __future__ import annotations

from app.bench.result import json_schema
from app.cli.output import print_json


def schema() -> None:
    """Print the JSON Schema of what every suite prints with --json and keeps with --save."""
    print_json(json_schema())
