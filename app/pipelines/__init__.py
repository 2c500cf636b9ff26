"""The pipelines that the system knows: the shipped ones, beside this module, and those in a folder of the user's."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from pathlib import Path

from app.dsp.errors import PipelineError
from app.dsp.pipeline import Pipeline
from app.dsp.pipeline_file import parse_pipeline
from app.errors import ContinuumError
from app.settings import TierName

#: Pipeline of blocks that name none, by tier.
TIER_PIPELINES: dict[TierName, str] = {"rt": "ecg", "nrt": "ecg"}


class PipelineFileError(ContinuumError):
    """A file does not hold a pipeline, or the folder of pipelines cannot be read."""


@cache
def shipped_pipelines() -> dict[str, Pipeline]:
    """All shipped pipelines by name."""
    found = (entry for entry in files(__name__).iterdir() if entry.name.endswith(".toml"))
    pipelines = (parse_pipeline(entry.read_text(), entry.name) for entry in sorted(found, key=lambda entry: entry.name))
    return {pipeline.name: pipeline for pipeline in pipelines}


def known_pipelines(folder: Path | None) -> dict[str, Pipeline]:
    """Give the shipped pipelines, and those of a folder, which replace shipped ones of their names.

    Parameters
    ----------
    folder
        Holds one TOML file each; None for the shipped ones only.

    Raises
    ------
    PipelineFileError
        Naming the file or folder, and what is wrong with it.
    """
    if folder is None:
        return dict(shipped_pipelines())
    paths = sorted(folder.glob("*.toml"))
    if not paths:
        raise PipelineFileError(
            f"CONTINUUM_PIPELINES={folder}: expected a folder with a TOML file for each pipeline, and there is none"
        )
    own: dict[str, Pipeline] = {}
    origins: dict[str, Path] = {}
    for path in paths:
        pipeline = read_pipeline(path)
        if pipeline.name in own:
            raise PipelineFileError(
                f"{path}: pipeline {pipeline.name!r} is in {origins[pipeline.name]} too; give one of them another name"
            )
        own[pipeline.name], origins[pipeline.name] = pipeline, path
    return {**shipped_pipelines(), **own}


def read_pipeline(path: Path) -> Pipeline:
    """Read a file.

    Raises
    ------
    PipelineFileError
        Naming it, and what is wrong with it, a line for each fault.
    """
    try:
        return parse_pipeline(path.read_text(encoding="utf-8"), str(path))
    except PipelineError as error:
        raise PipelineFileError(str(error)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise PipelineFileError(f"{path} cannot be read ({error}): expected the TOML text of a pipeline") from None
