"""What a suite found: the one form of all suites, as `--json` prints it and `--save` keeps it.

Every single run's figure is kept; spreads and ratios are worked out from them. `continuum bench schema` prints the
form as JSON Schema.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, Literal

import msgspec

from app.bench.conditions import Conditions
from app.errors import ContinuumError

SCHEMA_VERSION = 1
"""Raised with each change that a reader of the form before would stumble over."""

Better = Literal["higher", "lower"]


class ResultError(ContinuumError):
    """A file is no result that can be used, or cannot be written."""


class Spread(msgspec.Struct, frozen=True):
    """Minimum, median and maximum of some runs."""

    min: float
    median: float
    max: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Take them of the values, of which there is one at least."""
        return cls(min(values), median(values), max(values))

    def apart_from(self, other: Spread) -> bool:
        """Whether no value of either lies within the other."""
        return self.min > other.max or self.max < other.min


class Figure(msgspec.Struct):
    """One quantity of all runs.

    Attributes
    ----------
    unit
        As in `blocks/s`.
    better
        Which way is better.
    runs
        (runs,) its value in each run, in their order.
    spread
        Of the runs.
    """

    unit: str
    better: Better
    runs: list[float]
    spread: Spread


class Measurement(msgspec.Struct):
    """All runs of one contender in one case.

    Attributes
    ----------
    case
        What it was given, as in `msgpack, 1,000 sensors`; empty where the suite has one case.
    contender
        Who did it, as in `continuum`.
    figures
        By name; the first is the one that the suite is about.
    details
        What else is worth knowing of it, by name.
    """

    case: str
    contender: str
    figures: dict[str, Figure] = {}
    details: dict[str, str | int | float] = {}

    def add(self, name: str, value: float, unit: str, better: Better) -> None:
        """Add a run's value of a figure."""
        known = self.figures.get(name)
        runs = [*(known.runs if known else ()), float(value)]
        self.figures[name] = Figure(unit, better, runs, Spread.of(runs))

    @property
    def label(self) -> str:
        """Both of its names."""
        return f"{self.case}: {self.contender}" if self.case else self.contender


class Ratio(msgspec.Struct, frozen=True):
    """How many times another measurement's figure one has.

    Attributes
    ----------
    case, contender, figure
        Whose.
    to_case, to_contender
        The measurement that it is compared with.
    spread
        Run by run where both have as many, as these ran one after the other; else of the medians.
    """

    case: str
    contender: str
    figure: str
    to_case: str
    to_contender: str
    spread: Spread


class Capacity(msgspec.Struct, frozen=True):
    """Users that one vCPU carries, as a plan of costs reads it.

    A user sends `sample_rate` samples/s in blocks of `block` samples: one block each `block / sample_rate` s.

    Attributes
    ----------
    encoding
        Of the blocks: `json`, `msgpack` or `frame`.
    pipeline
        What is computed of them.
    sample_rate
        Hz of a user.
    block
        Samples a block.
    sensors
        That the measurement had.
    checkpoint_seconds
        Between checkpoints; None where there were none.
    utilisation
        Share of the core that was used: plan with less.
    blocks_per_second
        Of a worker pinned to one core.
    users_per_vcpu
        `blocks_per_second` times `block / sample_rate`.
    """

    encoding: str
    pipeline: str
    sample_rate: float
    block: int
    sensors: int
    checkpoint_seconds: float | None
    utilisation: float
    blocks_per_second: Spread
    users_per_vcpu: Spread


class SuiteResult(msgspec.Struct):
    """All that a suite found, and under which conditions.

    Attributes
    ----------
    schema_version
        Of this form.
    suite
        Name of the suite, as in `throughput`.
    conditions
        Under which it was measured.
    measurements
        One for each contender and case.
    ratios
        Of their figures.
    capacity
        Users a vCPU, of suites that find them.
    """

    schema_version: int
    suite: str
    conditions: Conditions
    measurements: list[Measurement] = []
    ratios: list[Ratio] = []
    capacity: list[Capacity] = []

    @classmethod
    def begin(cls, suite: str, conditions: Conditions) -> SuiteResult:
        """Begin the result of a suite."""
        return cls(SCHEMA_VERSION, suite, conditions)

    def measurement(self, case: str, contender: str) -> Measurement:
        """Give the measurement of a contender in a case, a new one where there is none yet."""
        for known in self.measurements:
            if (known.case, known.contender) == (case, contender):
                return known
        new = Measurement(case, contender)
        self.measurements.append(new)
        return new

    def compare(self, figure: str, own: Measurement, other: Measurement) -> Ratio:
        """Add how many times the other's figure a measurement has."""
        runs, others = own.figures[figure].runs, other.figures[figure].runs
        if len(runs) == len(others):
            ratios = [_ratio(a, b) for a, b in zip(runs, others, strict=True)]
        else:
            ratios = [_ratio(median(runs), median(others))]
        ratio = Ratio(own.case, own.contender, figure, other.case, other.contender, Spread.of(ratios))
        self.ratios.append(ratio)
        return ratio


def _ratio(value: float, other: float) -> float:
    return value / other if other else float("inf")


def json_schema() -> dict[str, Any]:
    """Give the form of a result as JSON Schema."""
    return msgspec.json.schema(SuiteResult)


def save_result(result: SuiteResult, path: Path) -> None:
    """Keep a result in a file.

    Raises
    ------
    ResultError
        It cannot be written.
    """
    text = msgspec.json.format(msgspec.json.encode(result), indent=2)
    try:
        path.write_bytes(text + b"\n")
    except OSError as error:
        raise ResultError(f"{path} cannot be written ({error.strerror}); name another file") from None


def read_result(path: Path) -> SuiteResult:
    """Read a result that was kept.

    Raises
    ------
    ResultError
        There is none, or it is of another form.
    """
    remedy = "make one with `continuum bench SUITE --save FILE`"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ResultError(f"{path} cannot be read ({error.strerror}): expected a bench's result; {remedy}") from None
    try:
        version = msgspec.json.decode(content, type=_Versioned).schema_version
        if version != SCHEMA_VERSION:
            raise ResultError(f"{path} has schema version {version}: expected {SCHEMA_VERSION}; {remedy}")
        return msgspec.json.decode(content, type=SuiteResult)
    except msgspec.MsgspecError as error:
        raise ResultError(f"{path} is no result of a bench ({error}); {remedy}") from None


class _Versioned(msgspec.Struct):
    schema_version: int
