"""What the conformance tests must know of each of our stages: what it should compute, and parameters it refuses.

A stage is tested by being registered; one of ours without an entry in `CASES` fails the tests. The entries lie in
`tests/cases`, a module for each family of stages.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from app.dsp.stage import EXAMPLE_RATE, Floats

SAMPLE_RATE = EXAMPLE_RATE


class StageCase(NamedTuple):
    """How to test one kind of stage."""

    refused: list[tuple[dict[str, Any], str]]
    """Parameters to refuse, and what the refusal says."""
    oracle: Callable[..., Floats]
    """``oracle(x, **params)`` gives all values of a signal (channels, n) by definition: (channels, n) of a series, of
    whatever length it has, or (channels, n, outputs) of a measure after each sample."""
    warm_up: Callable[..., int]
    """``warm_up(**params)`` gives how many samples it takes until a value is full."""
    rtol: float = 1e-9
    atol: float = 0.0
    """How near the oracle its values are; atol as a share of the signal's greatest value."""
    overflows: Mapping[str, str] = {}
    """Extreme signals that it cannot stay finite on, and why."""
    channels: int = 1
    """Channels to try parameters on that are to be refused."""
    made: Callable[..., Floats] = lambda x, **_: x
    """``made(x, **params)`` makes a signal that it is meant for out of ECG (channels, n)."""


def each_channel(oracle: Callable[..., Floats]) -> Callable[..., Floats]:
    """Make an oracle of one that knows a single channel."""

    def all_channels(x: Floats, **params: Any) -> Floats:
        return np.stack([oracle(own, **params) for own in x])

    return all_channels


CASES: dict[str, StageCase] = {}
for path in sorted((Path(__file__).parent / "cases").glob("[a-z]*.py")):
    CASES |= import_module(f"tests.cases.{path.stem}").CASES
