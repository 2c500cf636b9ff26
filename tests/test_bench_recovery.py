"""The bench of recovery: every way gives a worker its sensors' states again, and is timed."""

from __future__ import annotations

import pytest

from app.bench import recovery as bench
from app.bench.conditions import conditions
from app.bench.recovery import measure_recovery
from app.bench.result import SuiteResult


@pytest.mark.slow
async def test_every_way_is_timed(settings, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bench, "STANDBY_SECONDS", 1.0)
    result = SuiteResult.begin("recovery", conditions())
    await measure_recovery(settings(session_timeout=6.0), 50, 1, result, lambda _: None)
    assert {own.case for own in result.measurements} == {"50 sensors"}
    assert len(result.measurements) == 5
    for own in result.measurements:
        (seconds,) = own.figures["recovered after"].runs
        assert seconds > 0
        if own.contender.startswith("takeover"):
            assert seconds > 3  # the group gives the killed worker up no sooner than its session ends
