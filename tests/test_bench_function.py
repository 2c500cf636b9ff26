"""The bench of the function: cold starts and warm events are all there, and every feature was sent."""

from __future__ import annotations

import math

import pytest

from app.bench import function as bench
from app.bench.conditions import conditions
from app.bench.function import COLD_PIPELINES, MODES, measure_function
from app.bench.result import SuiteResult


async def test_every_contender_is_measured(outputs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "RECORDS", (1, 3))
    told: list[str] = []
    result = SuiteResult.begin("function", conditions())
    await measure_function(outputs.settings, repeats=1, invocations=2, result=result, progress=told.append)
    assert len(told) == 3
    by_case: dict[str, dict[str, int]] = {}
    for own in result.measurements:
        by_case.setdefault(own.case, {})[own.contender] = len(next(iter(own.figures.values())).runs)
        assert 20 < own.figures["memory"].spread.max < 1000
    assert by_case == {
        "cold start": dict.fromkeys(COLD_PIPELINES, 1),
        "event of 1 records": dict.fromkeys(MODES, 2),
        "event of 3 records": dict.fromkeys(MODES, 2),
    }
    for cold in result.measurements[: len(COLD_PIPELINES)]:
        (total,), (imported,), (event,), _ = (figure.runs for figure in cold.figures.values())
        assert total > imported + event > 0
        # A sensor sends so many samples meanwhile, rounded up.
        assert cold.details["samples at 250 Hz"] == math.ceil(total / 4)
    # One cold start of each pipeline; and of each mode's sensors the blocks without a state and two with one.
    assert len(await outputs.features("cold-report-0", "report")) == 1
    assert [own["seq"] for own in await outputs.features("warm-3-2")] == [0, 256, 512]
