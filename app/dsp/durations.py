"""Durations that a pipeline writes where a stage counts samples: ``"200ms"``, ``"2.5s"``, ``"1min"``, ``"1h"``."""

from __future__ import annotations

import re
from functools import cache
from typing import Any, get_args, get_type_hints

import msgspec

from app.dsp.stage import Samples

_SECONDS = {"ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0}
PATTERN = r"(\d+(?:\.\d+)?)\s*(ms|s|min|h)"
"""Of a duration as it is written."""


def samples_of(text: str, sample_rate: float) -> int:
    """Count the samples in a duration: the nearest whole number, at least 1.

    Raises
    ------
    ValueError
        It is not a duration.
    """
    match = re.fullmatch(PATTERN, text.strip())
    if match is None:
        raise ValueError(f'{text!r}: expected a number of samples, or a duration as "200ms", "2s", "1min" or "1h"')
    return max(1, round(float(match[1]) * _SECONDS[match[2]] * sample_rate))


@cache
def duration_fields(params: type[msgspec.Struct]) -> frozenset[str]:
    """Names of the parameters that count samples of the stage's input."""
    hints = get_type_hints(params, include_extras=True)
    return frozenset(name for name, hint in hints.items() if hint == Samples or Samples in get_args(hint))


def in_samples(params: type[msgspec.Struct], given: dict[str, Any], sample_rate: float) -> dict[str, Any]:
    """Parameters as given, with each duration turned into samples at a rate in Hz.

    Raises
    ------
    ValueError
        A text where samples are counted is not a duration.
    """
    converted = dict(given)
    for name in duration_fields(params) & given.keys():
        if isinstance(given[name], str):
            try:
                converted[name] = samples_of(given[name], sample_rate)
            except ValueError as error:
                raise ValueError(f"{name} = {error}") from None
    return converted
