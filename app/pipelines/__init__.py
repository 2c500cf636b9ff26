"""The shipped pipelines: one TOML file each, beside this module."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from app.dsp.pipeline import Pipeline, parse_pipeline


@cache
def shipped_pipelines() -> dict[str, Pipeline]:
    """All shipped pipelines by name."""
    found = (entry for entry in files(__name__).iterdir() if entry.name.endswith(".toml"))
    pipelines = (parse_pipeline(entry.read_text(), entry.name) for entry in sorted(found, key=lambda entry: entry.name))
    return {pipeline.name: pipeline for pipeline in pipelines}
