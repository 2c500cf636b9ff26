"""The bench of states: every step runs, on real services, and one that does not do its work is no figure."""

from __future__ import annotations

from typing import Any

import pytest

from app.bench import state as bench
from app.bench.conditions import conditions
from app.bench.errors import BenchError
from app.bench.result import SuiteResult
from app.bench.state import measure_state
from app.bench.surroundings import Surroundings, discarded
from app.mirror.ownership import Ownership
from app.runtime.snapshot_store import SnapshotStore


@pytest.fixture
def surroundings(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Surroundings:
    monkeypatch.setattr(bench, "LOTS", (1, 3))
    monkeypatch.setattr(bench, "TURN_SECONDS", 0.0)
    return Surroundings(settings(), frozenset(), None, None)


async def measured(surroundings: Surroundings, repeats: int = 2) -> SuiteResult:
    result = SuiteResult.begin("state", conditions())
    async with discarded(surroundings.settings):
        await measure_state(surroundings, repeats, result, lambda _: None)
    return result


async def test_every_step_is_measured_with_few_sensors_and_with_many(surroundings):
    result = await measured(surroundings)
    found: dict[str, set[str]] = {}
    for own in result.measurements:
        found.setdefault(own.case, set()).add(own.contender)
        assert set(own.figures) == {"CPU", "time"}
        for figure in own.figures.values():
            assert len(figure.runs) == 2  # not the one before, which warms
        assert own.figures["time"].spread.min > 0
    assert set(found) == {"1 at once", "3 at once"}
    assert found["1 at once"] == found["3 at once"]
    assert len(found["1 at once"]) == 9


async def test_states_that_are_refused_are_no_figure(surroundings, monkeypatch: pytest.MonkeyPatch):
    claim = Ownership.claim

    async def claim_twice(self: Ownership, claims: Any, **options: Any) -> Any:
        taken = await claim(self, claims, **options)
        other = Ownership(self.redis, self.prefix, "nrt")
        await claim(other, claims, force=True)
        return taken

    monkeypatch.setattr(Ownership, "claim", claim_twice)
    with pytest.raises(BenchError, match="nothing was measured"):
        await measured(surroundings)


async def test_snapshots_that_are_not_on_disk_are_no_figure(surroundings, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(SnapshotStore, "write", lambda *_: None)
    with pytest.raises(BenchError, match="not on disk"):
        await measured(surroundings)
