"""The registry of stages: the ``type`` a pipeline writes, and the stage it names.

Ours are the modules of the packages here, each named as its stage; those of others come by entry points of the group
``continuum.stages``, whose object is a `Stage`. A stage is imported when it is first asked for.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator, Mapping
from functools import cache, cached_property
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points

from app.dsp.errors import PipelineError
from app.dsp.stage import Stage

ENTRY_POINTS = "continuum.stages"


class Registry(Mapping[str, Stage]):
    """All stages by type."""

    def __getitem__(self, kind: str) -> Stage:
        if (module := self._ours.get(kind)) is not None:
            stage: Stage = import_module(module).STAGE
            return stage
        return _loaded(self._theirs[kind])

    def __iter__(self) -> Iterator[str]:
        yield from sorted(self._ours)
        yield from sorted(self._theirs)

    def __len__(self) -> int:
        return len(self._ours) + len(self._theirs)

    def __contains__(self, kind: object) -> bool:
        # Not by trying to import: a stage that cannot be loaded is one, and says why when it is asked for.
        return kind in self._ours or kind in self._theirs

    def family(self, kind: str) -> str:
        """Say what a stage is grouped under: its package's name, or that of the distribution it comes from."""
        if kind in self._ours:
            return self._ours[kind].split(".")[-2]
        point = self._theirs[kind]
        return point.dist.name if point.dist else point.module

    def module(self, kind: str) -> str:
        """Name the module that a stage is in."""
        return self._ours[kind] if kind in self._ours else self._theirs[kind].module

    def is_ours(self, kind: str) -> bool:
        """Whether a stage is one of the packages here."""
        return kind in self._ours

    @cached_property
    def ignored(self) -> tuple[EntryPoint, ...]:
        """Entry points whose names are those of other stages: ours, or ones found before."""
        return tuple(point for point in self._points if self._theirs.get(point.name) is not point)

    @cached_property
    def _ours(self) -> dict[str, str]:
        """Name of each stage's module, by type."""
        found = {}
        for family in pkgutil.iter_modules(__path__):
            package = import_module(f"{__name__}.{family.name}")
            for module in pkgutil.iter_modules(package.__path__):
                if not module.name.startswith("_"):
                    found[module.name] = f"{package.__name__}.{module.name}"
        return found

    @cached_property
    def _theirs(self) -> dict[str, EntryPoint]:
        found: dict[str, EntryPoint] = {}
        for point in self._points:
            if point.name not in self._ours:
                found.setdefault(point.name, point)
        return found

    @cached_property
    def _points(self) -> tuple[EntryPoint, ...]:
        return tuple(entry_points(group=ENTRY_POINTS))


@cache
def _loaded(point: EntryPoint) -> Stage:
    where = f"stage {point.name!r}, which {point.dist.name if point.dist else 'a package'} provides"
    try:
        stage = point.load()
    except Exception as error:
        raise PipelineError(f"{where} as {point.value}, cannot be loaded: {error!r}; mend or remove it") from error
    if not isinstance(stage, Stage):
        raise PipelineError(f"{where}: {point.value} is {stage!r}, expected an app.dsp.stage.Stage")
    return stage


STAGES = Registry()
