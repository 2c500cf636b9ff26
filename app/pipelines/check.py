"""Pipelines of files and folders checked, each whatever the others hold."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

from app.pipelines import PipelineFileError, read_pipeline


class FileChecked(msgspec.Struct):
    """What a file holds."""

    file: str
    pipeline: str | None = None
    """Its name; None where the file holds none."""
    errors: list[str] = []
    """What is wrong with it: file, place, value and what is allowed."""


def check_files(places: Iterable[Path]) -> list[FileChecked]:
    """Check files, and all TOML files of folders; in one folder each pipeline has a name of its own.

    Raises
    ------
    PipelineFileError
        A folder has no TOML file.
    """
    checked = []
    taken: dict[tuple[Path, str], Path] = {}
    for path in _files(places):
        try:
            pipeline = read_pipeline(path)
        except PipelineFileError as error:
            checked.append(FileChecked(str(path), errors=str(error).splitlines()))
            continue
        own = FileChecked(str(path), pipeline.name)
        other = taken.setdefault((path.resolve().parent, pipeline.name), path)
        if other.resolve() != path.resolve():
            own.errors = [
                f"{path}: name = {pipeline.name!r}: {other} has it too; expected a name of its own within a folder"
            ]
        checked.append(own)
    return checked


def _files(places: Iterable[Path]) -> Iterable[Path]:
    for place in places:
        if not place.is_dir():
            yield place
            continue
        found = sorted(place.glob("*.toml"))
        if not found:
            raise PipelineFileError(f"{place}: expected a folder with a TOML file for each pipeline, and there is none")
        yield from found
