"""The JSON Schema of a pipeline's TOML document, by which editors complete and check it.

Of draft 7, with taplo's own words for the values of a choice: so Even Better TOML, and whatever else has taplo inside,
completes the keys, checks each stage's parameters by its type, and shows what they mean. It has what can be said of a
document alone; whether stages fit to one another and to the signal, `continuum pipelines check` says.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, cast, get_args

import msgspec

from app.dsp.durations import PATTERN, duration_fields
from app.dsp.errors import PipelineError
from app.dsp.parameters import described
from app.dsp.pipeline import RAW_INPUT, GapPolicy, NonFinitePolicy, Take
from app.dsp.pipeline_file import FeatureTable, PipelineTable
from app.dsp.stages import STAGES

DURATION = {"type": "string", "pattern": f"^{PATTERN}$", "description": 'As "200ms", "2.5s", "1min" or "1h".'}

_DOCUMENT = {
    "name": "Of the pipeline: what a block names, and the prefix of its features topic.",
    "sample_rate": "Hz.",
    "channels": "Of the sensors; 1 if left out.",
    "gap": "What becomes of missing samples: state begins anew, or they are filled in.",
    "max_gap": "Longest gap that is filled in, s; after a longer one state begins anew.",
    "non_finite": "What becomes of NaN and infinity: the block is refused, or they are replaced.",
    "features": 'Fields of the feature record: name = "stage", or name = "stage.output" of a measure.',
}
_WIRING: dict[str, dict[str, Any]] = {
    "name": {"type": "string", "description": "Of the stage within the pipeline; its type's if left out."},
    "input": {
        "type": "string",
        "description": f'The stage whose series it takes, or "{RAW_INPUT}"; the last series before it if left out.',
    },
    "hop": {
        "anyOf": [{"type": "integer", "minimum": 1}, DURATION],
        "description": "One value in so many is kept; makes a series of a measure.",
    },
}


class Schema(msgspec.Struct):
    """A schema, and what it lacks."""

    document: dict[str, Any]
    left_out: list[str]
    """Why stages are not in it."""


def pipeline_schema() -> Schema:
    """Make the schema, with all stages of the registry."""
    tables: dict[str, dict[str, Any]] = {}
    left_out = []
    for kind in STAGES:
        try:
            tables[kind] = _stage(kind)
        except PipelineError as error:
            left_out.append(str(error))
    document = _properties(PipelineTable)
    own = document["properties"]
    own["sample_rate"]["exclusiveMinimum"] = 0
    own["channels"]["minimum"] = 1
    own["name"]["pattern"] = "^[A-Za-z0-9._-]+$"
    own["gap"] = {"enum": list(get_args(GapPolicy)), "default": "reset"}
    own["max_gap"]["minimum"] = 0
    own["non_finite"] = {"enum": list(get_args(NonFinitePolicy)), "default": "reject"}
    own["stages"] = {"type": "array", "minItems": 1, "items": _any_stage(tables)}
    feature = _properties(FeatureTable)
    feature["properties"]["take"] = {"enum": list(get_args(Take)), "default": "last"}
    own["features"] = {
        "type": "object",
        "minProperties": 1,
        "additionalProperties": {"anyOf": [{"type": "string"}, feature]},
    }
    for name, text in _DOCUMENT.items():
        own[name]["description"] = text
    head = {"$schema": "http://json-schema.org/draft-07/schema#", "title": "Pipeline of Continuum"}
    return Schema(head | document, left_out)


def _any_stage(tables: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Make the schema of a stage's table, whatever its type, of those of each type."""
    # taplo completes and explains keys by properties alone, and checks them by the conditions.
    keys: dict[str, dict[str, Any]] = {}
    for kind, table in tables.items():
        for name, schema in table["properties"].items():
            text = schema.get("description", "")
            told = keys.setdefault(name, {"description": text if name in _WIRING else ""})
            if name not in _WIRING:
                told["description"] += f"{kind}: {text}\n\n"
    keys["type"] = {
        "enum": list(tables),
        "description": "Of the stage: its name in the registry.",
        "x-taplo": {"docs": {"enumValues": [table["description"] for table in tables.values()]}},
    }
    conditions = [
        {"if": {"properties": {"type": {"const": kind}}, "required": ["type"]}, "then": table}
        for kind, table in tables.items()
    ]
    return {"allOf": [{"type": "object", "required": ["type"], "properties": keys}, *conditions]}


def _stage(kind: str) -> dict[str, Any]:
    """Make the schema of a stage's table."""
    params = STAGES[kind].params
    table = _properties(params)
    own = table["properties"]
    descriptions = described(params)
    for name in own:
        if name in duration_fields(params):
            own[name] = {"anyOf": [own[name], DURATION]}
        if name in descriptions:
            own[name]["description"] = descriptions[name]
    for name, schema in _WIRING.items():
        own.setdefault(name, schema)  # a stage's own hop is its own affair
    if STAGES[kind].changes_pace and "hop" not in params.__struct_fields__:
        del own["hop"]
    own["type"] = {"const": kind}
    doc = import_module(STAGES.module(kind)).__doc__ or ""
    return table | {"description": doc.strip().partition("\n")[0].rstrip(":"), "additionalProperties": False}


def _properties(struct: type[msgspec.Struct]) -> dict[str, Any]:
    """Make the schema of a structure, without titles and definitions."""
    (schema,), definitions = msgspec.json.schema_components([struct], ref_template="#/definitions/{name}")
    return cast("dict[str, Any]", _plain(schema, definitions))


def _plain(schema: Any, definitions: dict[str, Any]) -> Any:
    """Put definitions in their places, take away what TOML cannot say, and say the rest as draft 7 does."""
    if isinstance(schema, list):
        return [_plain(one, definitions) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _plain(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    kept = {key: _plain(value, definitions) for key, value in schema.items() if key not in ("title", "description")}
    if "properties" in schema:
        kept["properties"] = {name: _plain(own, definitions) for name, own in schema["properties"].items()}
    if kept.get("default", 0) is None:
        del kept["default"]
    if "prefixItems" in kept:
        kept |= {"items": kept.pop("prefixItems"), "additionalItems": False}
    kinds = [one for one in kept.get("anyOf", []) if one != {"type": "null"}]
    if len(kinds) == 1:
        del kept["anyOf"]
        return kinds[0] | kept
    return kept | ({"anyOf": kinds} if kinds else {})
