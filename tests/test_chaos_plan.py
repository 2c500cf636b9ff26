"""The plan of a chaos run: all of it from the seed, each fault within the run, workers joining and leaving in turn."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.chaos.plan import FULL, KINDS, PlanError, counts_for, make_plan

counts = st.fixed_dictionaries(
    {}, optional={kind: st.integers(0, 8) for kind in KINDS if kind not in {"join", "leave"}}
)


@given(seed=st.integers(0, 1000), counts=counts, turns=st.integers(0, 4), seconds=st.floats(10, 5000))
def test_a_plan_holds_what_was_asked_for(seed, counts, turns, seconds):
    asked = {**counts, "join": turns, "leave": turns}
    plan = make_plan(seed, asked, seconds, workers=3, session=6.0)
    assert plan == make_plan(seed, asked, seconds, workers=3, session=6.0)
    assert Counter(fault.kind for fault in plan) == Counter(asked)
    assert [fault.at for fault in plan] == sorted(fault.at for fault in plan)
    assert all(0 < fault.at < seconds for fault in plan)
    assert [fault.kind for fault in plan if fault.kind in {"join", "leave"}] == ["join", "leave"] * turns
    for fault in plan:
        assert fault.target == 4 if fault.kind in {"join", "leave"} else fault.target in {1, 2, 3}
        if fault.kind in {"pause", "cut", "stall"}:
            assert fault.seconds > 6.0, "a session outlives a shorter one"


def test_seeds_differ():
    asked = counts_for(15)
    assert make_plan(1, asked, 900, 3, 6.0) != make_plan(2, asked, 900, 3, 6.0)


def test_a_long_run_has_all_that_is_promised():
    asked = counts_for(15)
    assert asked == FULL
    assert asked["kill"] + asked["wipe"] + asked["wipe-live"] >= 50  # each of them a SIGKILL
    assert asked["broker"] >= 5
    assert asked["redis-kill"] >= 5
    assert all(asked[kind] for kind in KINDS)


@pytest.mark.parametrize(
    ("asked", "named"), [({"kil": 1}, "kil"), ({"join": 1, "leave": 2}, "leave"), ({"join": 3}, "join")]
)
def test_what_cannot_be_planned_is_refused(asked, named):
    with pytest.raises(PlanError, match=named):
        make_plan(1, asked, 60, 2, 6.0)
