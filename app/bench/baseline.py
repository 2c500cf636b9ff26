"""A result beside one that was kept: what has become faster or slower, and whether that is more than noise."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from app.bench.result import Better, ResultError, Spread, SuiteResult


class Change(msgspec.Struct, frozen=True):
    """A figure then and now.

    Attributes
    ----------
    case, contender, figure, unit, better
        Which.
    then, now
        Its spreads.
    ratio
        Of the medians, now to then.
    apart
        Whether the spreads do not touch, so that it is hardly noise.
    """

    case: str
    contender: str
    figure: str
    unit: str
    better: Better
    then: Spread
    now: Spread
    ratio: float
    apart: bool

    @property
    def verdict(self) -> str:
        """In a word."""
        if not self.apart:
            return "within the spread"
        return "better" if (self.ratio > 1) == (self.better == "higher") else "worse"


class Comparison(msgspec.Struct, frozen=True):
    """A result beside its baseline.

    Attributes
    ----------
    commit
        Of the baseline.
    measured_at
        When that was.
    differences
        Between the conditions, in words: figures then compare machines or versions as well.
    changes
        Of all figures that both have.
    missing
        Measurements of the baseline that the result lacks.
    """

    commit: str
    measured_at: str
    differences: list[str]
    changes: list[Change]
    missing: list[str]


def compare(result: SuiteResult, baseline: SuiteResult) -> Comparison:
    """Compare a result with one that was kept.

    Raises
    ------
    ResultError
        They are of different suites, or have nothing in common.
    """
    if baseline.suite != result.suite:
        raise ResultError(
            f"the baseline is of the suite {baseline.suite}: expected {result.suite}; name a file that"
            f" `continuum bench {result.suite} --save FILE` wrote"
        )
    changes = list(_changes(result, baseline))
    if not changes:
        labels = ", ".join(own.label for own in baseline.measurements) or "none"
        raise ResultError(f"the baseline has no figure of this run's cases: it has {labels}; give the same options")
    here = {own.label for own in result.measurements}
    return Comparison(
        baseline.conditions.commit,
        baseline.conditions.measured_at,
        result.conditions.differences(baseline.conditions),
        changes,
        [own.label for own in baseline.measurements if own.label not in here],
    )


def _changes(result: SuiteResult, baseline: SuiteResult) -> Iterator[Change]:
    before = {(own.case, own.contender): own for own in baseline.measurements}
    for own in result.measurements:
        then = before.get((own.case, own.contender))
        for name, now in own.figures.items():
            if then is None or name not in then.figures or then.figures[name].unit != now.unit:
                continue
            old, new = then.figures[name].spread, now.spread
            ratio = new.median / old.median if old.median else float("inf")
            yield Change(own.case, own.contender, name, now.unit, now.better, old, new, ratio, new.apart_from(old))
