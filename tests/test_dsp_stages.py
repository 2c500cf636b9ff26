"""Every registered stage: invariances bit for bit, sound values, and agreement with its definition.

A stage of another package, registered by an entry point, is held to the same, save for the comparison with an oracle.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.dsp.conformance import (
    Trial,
    check_channels,
    check_chunks,
    check_described,
    check_finite,
    check_large_batch,
    check_marks,
    check_params,
    check_resume,
    check_rows,
    check_signal,
    check_state,
    check_untouched,
    trials,
)
from app.dsp.errors import PipelineError
from app.dsp.examination import extremes
from app.dsp.pipeline_file import parse_pipeline
from app.dsp.stage import Floats
from app.dsp.stages import STAGES
from app.sources import builtin_ecg
from tests.stage_cases import CASES, SAMPLE_RATE
from tests.toml import toml

SAMPLES = 700
ECG = builtin_ecg().channel(0)
ROWS = 5


class Case(NamedTuple):
    kind: str
    trial: Trial
    given: dict[str, Any]

    def __str__(self) -> str:
        own = "-".join(str(value) for value in self.given.values())
        return f"{self.kind}-{own[:40]}-{self.trial.signal.channels}ch"


def every_case() -> list[Case]:
    return [
        Case(kind, trial, dict(given))
        for kind, stage in STAGES.items()
        for given in stage.examples
        for trial in trials(stage, [given])
    ]


def usual_cases() -> list[Case]:
    """One a stage: the usual parameters, on the most channels tried."""
    return [
        Case(kind, trials(stage, stage.examples[:1])[-1], dict(stage.examples[0])) for kind, stage in STAGES.items()
    ]


every_stage = pytest.mark.parametrize("case", every_case(), ids=str)
usual_stage = pytest.mark.parametrize("case", usual_cases(), ids=str)


def signals(case: Case, rows: int, samples: int = SAMPLES) -> Floats:
    """Stretches of real ECG, each another and at another scale."""
    channels = case.trial.signal.channels
    count = rows * channels
    starts = np.arange(count) * 977 % (len(ECG) - samples)
    x = np.stack([ECG[start : start + samples] * 1.1**n for n, start in enumerate(starts)])
    x = x.reshape(rows, channels, samples)
    if case.kind not in CASES:
        return x
    return np.stack([CASES[case.kind].made(own, **case.given) for own in x])


def cuts(most: int = SAMPLES) -> st.SearchStrategy[list[int]]:
    few = st.lists(st.integers(1, most - 1), max_size=8, unique=True)
    alike = st.integers(5, 300).map(lambda length: list(range(length, most, length)))
    return st.one_of(few, alike).map(sorted)


def test_every_stage_of_ours_has_a_case():
    ours = {kind for kind, stage in STAGES.items() if stage.step.__module__.startswith("app.")}
    assert ours == CASES.keys(), "describe the stage in tests/cases"
    assert all(case.refused for case in CASES.values())


@pytest.mark.parametrize("kind", STAGES)
def test_the_stage_is_described(kind):
    stage = STAGES[kind]
    assert stage.examples
    check_described(stage, STAGES.module(kind))


@every_stage
@given(cuts=cuts())
@settings(max_examples=8)
def test_chunk_invariance(case, cuts):
    check_chunks(case.trial, signals(case, 2), cuts)


@usual_stage
def test_chunk_invariance_sample_by_sample(case):
    check_chunks(case.trial, signals(case, 1, 400), range(1, 400))


@usual_stage
@given(order=st.permutations(range(ROWS)), rows=st.integers(1, ROWS), cuts=cuts())
@settings(max_examples=6)
def test_company_invariance_of_rows(case, order, rows, cuts):
    check_rows(case.trial, signals(case, ROWS), order[:rows], cuts)


@every_stage
def test_company_invariance_in_a_large_batch(case):
    check_large_batch(case.trial, signals(case, 67, 300), (0, 1, 33, 66))


@every_stage
@given(cuts=cuts())
@settings(max_examples=4)
def test_company_invariance_of_channels(case, cuts):
    check_channels(case.trial, signals(case, 2), cuts)


@usual_stage
@given(data=st.data())
@settings(max_examples=10)
def test_a_value_does_not_depend_on_the_other_marks(case, data):
    place = st.tuples(st.integers(0, 2), st.integers(0, SAMPLES - 101))
    rows, last = np.array(data.draw(st.lists(place, min_size=1, max_size=20))).T
    check_marks(case.trial, signals(case, 3), rows, last)


@every_stage
@given(at=st.integers(1, SAMPLES - 1), row=st.integers(0, 4))
@settings(max_examples=8)
def test_resume_invariance(case, at, row):
    check_resume(case.trial, signals(case, 1), signals(case, 5), at, row)


@every_stage
def test_state_is_plain_arrays_with_the_row_first(case):
    check_state(case.trial, signals(case, 3))


@every_stage
def test_input_and_state_are_left_as_they_are(case):
    check_untouched(case.trial, signals(case, 3))


@every_stage
def test_what_comes_out_is_as_the_stage_says(case):
    check_signal(case.trial, signals(case, 2))


EXTREMES = extremes(SAMPLES)


@every_stage
@pytest.mark.parametrize("name", EXTREMES)
def test_extremes_stay_finite(case, name):
    if case.kind in CASES and name in CASES[case.kind].overflows:
        pytest.skip(CASES[case.kind].overflows[name])
    x = np.broadcast_to(EXTREMES[name], (1, case.trial.signal.channels, len(EXTREMES[name])))
    check_finite(case.trial, np.ascontiguousarray(x))


ours = pytest.mark.parametrize("case", [case for case in every_case() if case.kind in CASES], ids=str)


@ours
def test_full_from_the_sample_that_fills_the_window(case):
    ran = case.trial.run(signals(case, 2), [10, 55, 300])
    warm_up = CASES[case.kind].warm_up(**case.given)
    assert (ran.full == (np.arange(SAMPLES) >= warm_up - 1)).all()


@ours
def test_agrees_with_its_definition_on_real_ecg(case):
    own = CASES[case.kind]
    x = signals(case, 1, 3000)[0]
    expected = own.oracle(x, **case.given)
    ran = case.trial.run(x[np.newaxis], [1, 8, 264, 1264])
    values = np.moveaxis(ran.values[0], 0, 1)
    if not case.trial.stage.outputs:
        values = values[..., 0]
    assert values.shape == expected.shape
    full = ran.full[0] if values.shape[1] == x.shape[1] and case.trial.stage.outputs else slice(None)
    atol = own.atol * np.abs(x).max()
    np.testing.assert_allclose(values[:, full], expected[:, full], rtol=own.rtol, atol=atol)


@every_stage
def test_params_round_trip(case):
    check_params(case.trial)


def refusals() -> list[tuple[str, dict[str, Any], str]]:
    return [(kind, params, text) for kind, case in CASES.items() for params, text in case.refused]


@pytest.mark.parametrize(("kind", "params", "text"), refusals())
def test_bad_params_are_refused(kind, params, text):
    settings = "\n".join(f"{name} = {toml(value)}" for name, value in params.items())
    document = (
        f'name = "p"\nsample_rate = {SAMPLE_RATE}\nchannels = {CASES[kind].channels}\n'
        f'[[stages]]\ntype = "{kind}"\n{settings}\n[features]\nf = {{ of = "{kind}", take = "vector" }}'
    )
    with pytest.raises(PipelineError) as refused:
        parse_pipeline(document, "p.toml")
    assert str(refused.value).startswith(f"p.toml: stage 1 ({kind}): ")
    assert text in str(refused.value)
    if "`" in text:
        assert "; expected " in str(refused.value), "what the stage takes is said"
