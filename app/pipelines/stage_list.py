"""All stages of the registry in words and numbers, for people and machines."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Literal

import msgspec

from app.dsp.conformance import NonConformanceError, Trial, trials
from app.dsp.errors import PipelineError
from app.dsp.parameters import types_said
from app.dsp.stage import Stage
from app.dsp.stages import STAGES


class ParameterShown(msgspec.Struct):
    """A parameter of a stage."""

    name: str
    type: str
    required: bool
    default: Any = None
    """None also where it may be left out and then depends on others."""


class StageShown(msgspec.Struct, rename="camel", kw_only=True):
    """A stage of the registry."""

    type: str
    family: str
    fault: str | None = None
    """Why it cannot be loaded; all that follows is then unknown."""
    kind: Literal["series", "measure"] | None = None
    parameters: list[ParameterShown] = []
    state_bytes: int | None = None
    """Of a sensor, with the first example, on the fewest channels that it takes."""
    oracle: str = ""
    summary: str = ""
    """First line of its module's docstring."""


def shown_stages() -> list[StageShown]:
    """Show all stages, family by family; one that cannot be loaded with the reason."""
    shown = [_shown(kind) for kind in STAGES]
    return sorted(shown, key=lambda stage: (not STAGES.is_ours(stage.type), stage.family, stage.type))


def ignored_stages() -> list[str]:
    """Say which stages of others are not used, as their names are taken."""
    return [
        f"ignored: stage {point.name!r} of {point.dist.name if point.dist else point.value}: expected a name of its own"
        for point in STAGES.ignored
    ]


def usual_trial(stage: Stage) -> Trial:
    """Give a stage with its first example, on the fewest channels that it takes."""
    return trials(stage, stage.examples[:1])[0]


def _shown(kind: str) -> StageShown:
    family = STAGES.family(kind)
    try:
        stage = STAGES[kind]
        state = usual_trial(stage).fresh(1)
    except (PipelineError, NonConformanceError, ValueError) as error:
        return StageShown(type=kind, family=family, fault=str(error))
    doc = import_module(STAGES.module(kind)).__doc__ or ""
    return StageShown(
        type=kind,
        family=family,
        kind="measure" if stage.outputs else "series",
        parameters=_parameters(stage.params),
        state_bytes=sum(array.nbytes for array in state.values()),
        oracle=stage.oracle,
        summary=doc.strip().partition("\n")[0].rstrip(":"),
    )


def _parameters(params: type[msgspec.Struct]) -> list[ParameterShown]:
    types = types_said(params)
    shown = []
    for field in msgspec.structs.fields(params):
        default = field.default
        if field.default_factory is not msgspec.NODEFAULT:
            default = field.default_factory()
        own = ParameterShown(field.name, types[field.name], field.required)
        if not field.required:
            own.default = msgspec.to_builtins(default)
        shown.append(own)
    return shown


def written(value: Any) -> str:
    """Write a value as TOML does; nothing for None."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return f"{{{', '.join(f'{name} = {written(own)}' for name, own in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(written, value))}]"
    if isinstance(value, str):
        return msgspec.json.encode(value).decode()
    return "" if value is None else repr(value)
