"""Parameters of stages as they are said to those who write pipelines."""

from __future__ import annotations

import re
from functools import cache
from inspect import cleandoc
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec

from app.dsp.stage import Samples

#: A field in a section of a docstring, and one in a sentence.
_DESCRIBED = re.compile(r"^(\w+)\n((?: {4}.*\n?|\n)+)", re.MULTILINE)
_TOLD = re.compile(r"``(\w+)``, ([^`]+?)[.;](?:\s|$)")


@cache
def types_said(params: type[msgspec.Struct]) -> dict[str, str]:
    """Say what each field takes, by its name."""
    hints = get_type_hints(params, include_extras=True)
    return {name: type_said(hints[name]) for name in params.__struct_fields__}


def type_said(hint: Any) -> str:  # noqa: PLR0911 - one for each form of types
    """Say what a type takes, as a pipeline writes it: ``int or a duration``, ``"low" | "high"``, ``list[float]``."""
    if hint == Samples:
        return "int or a duration"
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return type_said(inner[0])
    if origin is Literal:
        return " | ".join(f'"{one}"' if isinstance(one, str) else str(one) for one in inner)
    if origin in (Union, UnionType):
        # TOML has no null: what may be None may be left out.
        return " | ".join(type_said(one) for one in inner if one is not NoneType)
    if origin is tuple and inner[-1] is not Ellipsis:
        return f"[{', '.join(map(type_said, inner))}]"
    if origin is not None:
        of = ", ".join(type_said(one) for one in inner if one is not Ellipsis)
        return f"{'list' if origin is tuple else origin.__name__}[{of}]"
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return f"{{{', '.join(f'{name}: {kind}' for name, kind in types_said(hint).items())}}}"
    return str(getattr(hint, "__name__", hint))


def described(params: type[msgspec.Struct]) -> dict[str, str]:
    """Descriptions of fields, by name: of those that the docstring describes."""
    text = cleandoc(params.__doc__ or "")
    _, _, section = text.partition("Attributes\n----------\n")
    found = _DESCRIBED.findall(section) if section else _TOLD.findall(text)
    return {name: " ".join(words.split()) for name, words in found if name in params.__struct_fields__}
