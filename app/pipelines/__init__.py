"""The pipelines that the system knows: the shipped ones, beside this module, and those in a folder of the user's."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from app.dsp.errors import PipelineError
from app.dsp.pipeline import Pipeline
from app.dsp.pipeline_file import parse_pipeline
from app.errors import ContinuumError


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
    own: dict[str, Pipeline] = {}
    origins: dict[str, Path] = {}
    for path in _paths(folder):
        pipeline = read_pipeline(path)
        _check_once(pipeline.name, path, origins)
        own[pipeline.name], origins[pipeline.name] = pipeline, path
    return {**shipped_pipelines(), **own}


class PipelinesOnDemand(Mapping[str, Pipeline]):
    """What `known_pipelines` gives, each pipeline read when it is first asked for: its stages take time to import.

    Parameters
    ----------
    folder
        As of `known_pipelines`.

    Raises
    ------
    PipelineFileError
        When made: the folder has no such files, or one is no TOML, or has no name, or another's. When a pipeline is
        asked for: what else is wrong with its file.
    """

    def __init__(self, folder: Path | None) -> None:
        # A shipped one has its file's name.
        entries = (entry for entry in files(__name__).iterdir() if entry.name.endswith(".toml"))
        self._files: dict[str, Traversable] = {entry.name.removesuffix(".toml"): entry for entry in entries}
        self._read: dict[str, Pipeline] = {}
        if folder is not None:
            self._files |= _files_by_name(folder)

    def __getitem__(self, name: str) -> Pipeline:
        pipeline = self._read.get(name)
        if pipeline is None:
            pipeline = self._read[name] = read_pipeline(self._files[name])
        return pipeline

    def __contains__(self, name: object) -> bool:
        return name in self._files

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._files))

    def __len__(self) -> int:
        return len(self._files)


def _files_by_name(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in _paths(folder):
        try:
            name = tomllib.loads(path.read_text(encoding="utf-8")).get("name")
        except (tomllib.TOMLDecodeError, OSError, UnicodeDecodeError):
            name = None
        if not isinstance(name, str):
            name = read_pipeline(path).name  # which says what is wrong
        _check_once(name, path, found)
        found[name] = path
    return found


def _check_once(name: str, path: Path, found: Mapping[str, Path]) -> None:
    if name in found:
        raise PipelineFileError(f"{path}: pipeline {name!r} is in {found[name]} too; give one of them another name")


def _paths(folder: Path) -> list[Path]:
    paths = sorted(folder.glob("*.toml"))
    if not paths:
        raise PipelineFileError(
            f"CONTINUUM_PIPELINES={folder}: expected a folder with a TOML file for each pipeline, and there is none"
        )
    return paths


def read_pipeline(path: Traversable) -> Pipeline:
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
