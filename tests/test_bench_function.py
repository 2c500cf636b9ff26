"""The bench of the function: cold starts and warm events are all there, and every feature was sent."""

from __future__ import annotations

import pytest

from app.bench import function as bench
from app.bench.function import COLD_PIPELINES, MODES, ColdStart, measure_function


async def test_every_contender_is_measured(outputs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "RECORDS", (1, 3))
    told: list[str] = []
    result = await measure_function(outputs.settings, repeats=1, invocations=2, progress=told.append)
    assert len(told) == 3
    assert set(result.cold) == set(COLD_PIPELINES)
    for cold in result.cold.values():
        assert cold.total[0] > cold.imported[0] + cold.event[0] > 0
    assert {mode: {size: len(own) for size, own in sizes.items()} for mode, sizes in result.warm.items()} == {
        mode: {1: 2, 3: 2} for mode in MODES
    }
    assert set(result.memory) == {*COLD_PIPELINES, *MODES}
    assert all(20e6 < own < 1e9 for own in result.memory.values())
    # One cold start of each pipeline; and of each mode's sensors the blocks without a state and two with one.
    assert len(await outputs.features("cold-report-0", "report")) == 1
    assert [own["seq"] for own in await outputs.features("warm-3-2")] == [0, 256, 512]


def test_a_cold_start_in_samples_is_rounded_up() -> None:
    cold = ColdStart(total=[0.2, 0.401, 0.9])
    assert [cold.samples(rate) for rate in (250.0, 100.0, 10.0, 1.0)] == [101, 41, 5, 1]
