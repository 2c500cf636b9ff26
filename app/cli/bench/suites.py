"""Running a suite from its command: the servers, the report, and an orderly end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from app.bench.result import SuiteResult
from app.bench.surroundings import Surroundings, discarded, surroundings
from app.cli.bench.output import Report
from app.cli.interruption import Interruption
from app.cli.output import note

Suite = Callable[[Surroundings, SuiteResult], Awaitable[None]]
"""Measures, and fills the result."""


def run_suite(name: str, report: Report, measure: Suite) -> SuiteResult:
    """Run a suite on servers, show its result as asked, and give it.

    Parameters
    ----------
    name
        Of the suite.
    report
        What is to be done with the result.
    measure
        The suite.
    """
    report.check(name)

    async def run(own: Surroundings) -> SuiteResult:
        async with discarded(own.settings):
            result = SuiteResult.begin(name, await own.conditions())
            await measure(own, result)
            return result

    with Interruption() as interruption, surroundings(note) as own:
        result = interruption.run(run(own))
    report.show(result)
    return result
