"""Every registered stage: invariances bit for bit, sound values, and agreement with its definition."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.dsp.errors import PipelineError
from app.dsp.pipeline import parse_pipeline
from app.dsp.stage import Floats, Marks, Signal, Stage, State
from app.dsp.stages import STAGES
from app.sources import builtin_ecg
from tests.stage_cases import CASES, SAMPLE_RATE

SAMPLES = 700
ECG = builtin_ecg().channel(0)


class Case(NamedTuple):
    kind: str
    stage: Stage
    params: Any
    given: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.kind}-{'-'.join(str(value) for value in self.given.values())}"


def every_case() -> list[Case]:
    return [
        Case(kind, stage, msgspec.convert(own, stage.params), own)
        for kind, stage in STAGES.items()
        if kind in CASES
        for own in CASES[kind].params
    ]


every_stage = pytest.mark.parametrize("case", every_case(), ids=str)


class Ran(NamedTuple):
    values: Floats
    """(rows, samples, channels, outputs), taken after every sample."""
    full: np.ndarray
    """(rows, samples)."""
    state: State


def step(case: Case, state: State, x: Floats, marks: Marks | None = None) -> Ran:
    """Run one call, with a mark on every sample unless told otherwise."""
    rows, channels, samples = x.shape
    everywhere = Marks(np.repeat(np.arange(rows), samples), np.tile(np.arange(samples), rows))
    signal = Signal(SAMPLE_RATE, channels)
    result = case.stage.step(case.params, signal, state, x, marks or everywhere)
    values = result.output if case.stage.outputs else np.moveaxis(result.output, 1, 2)
    shape = (len(result.full), channels, -1) if marks else (rows, samples, channels, -1)
    return Ran(values.reshape(shape), result.full.reshape(shape[:-2]), result.state)


def fresh(case: Case, x: Floats) -> State:
    return case.stage.init(case.params, Signal(SAMPLE_RATE, x.shape[1]), len(x))


def run(case: Case, x: Floats, cuts: list[int] | tuple[()] = ()) -> Ran:
    """Run all samples in several calls."""
    state, parts = fresh(case, x), []
    for part in np.split(x, cuts, axis=-1):
        parts.append(step(case, state, part))
        state = parts[-1].state
    return Ran(np.concatenate([p.values for p in parts], 1), np.concatenate([p.full for p in parts], 1), state)


def same(one: Ran, other: Ran) -> None:
    """Check that two runs are alike to the last bit, a zero's sign included."""
    assert one.values.tobytes() == other.values.tobytes()
    assert one.full.tobytes() == other.full.tobytes()
    for name, array in one.state.items():
        assert array.tobytes() == other.state[name].tobytes(), name


def signals(rows: int, channels: int, samples: int = SAMPLES) -> Floats:
    """Stretches of real ECG, each another and at another scale."""
    count = rows * channels
    starts = np.arange(count) * 977 % (len(ECG) - samples)
    x = np.stack([ECG[start : start + samples] * 1.1**n for n, start in enumerate(starts)])
    return x.reshape(rows, channels, samples)


def cuts(most: int = SAMPLES) -> st.SearchStrategy[list[int]]:
    few = st.lists(st.integers(1, most - 1), max_size=8, unique=True)
    alike = st.integers(1, 300).map(lambda length: list(range(length, most, length)))
    return st.one_of(few, alike).map(sorted)


def test_every_stage_has_a_case():
    assert STAGES.keys() == CASES.keys(), "describe the stage in tests/stage_cases.py"
    assert all(case.params and case.refused for case in CASES.values())


@every_stage
@given(cuts=cuts())
@settings(max_examples=25)
def test_chunk_invariance(case, cuts):
    x = signals(2, 2)
    same(run(case, x, cuts), run(case, x))


@every_stage
def test_chunk_invariance_sample_by_sample(case):
    x = signals(1, 1, 400)
    same(run(case, x, list(range(1, 400))), run(case, x))


@every_stage
@given(order=st.permutations(range(7)), rows=st.integers(1, 7), cuts=cuts())
@settings(max_examples=15)
def test_company_invariance_of_rows(case, order, rows, cuts):
    x = signals(7, 1)
    together = run(case, x[order[:rows]], cuts)
    for place, row in enumerate(order[:rows]):
        alone = run(case, x[row : row + 1])
        own = Ran(
            together.values[place : place + 1],
            together.full[place : place + 1],
            {name: array[place : place + 1] for name, array in together.state.items()},
        )
        same(own, alone)


@every_stage
def test_company_invariance_in_a_large_batch(case):
    x = signals(150, 1, 300)
    together = run(case, x)
    for row in (0, 1, 77, 149):
        alone = run(case, x[row : row + 1])
        assert together.values[row].tobytes() == alone.values.tobytes()


@every_stage
@given(channels=st.integers(2, 4), cuts=cuts())
@settings(max_examples=10)
def test_company_invariance_of_channels(case, channels, cuts):
    x = signals(2, channels)
    together = run(case, x, cuts)
    for channel in range(channels):
        alone = run(case, x[:, channel : channel + 1])
        assert together.values[:, :, channel].tobytes() == alone.values.tobytes()
        assert together.full.tobytes() == alone.full.tobytes()


@every_stage
@given(data=st.data())
@settings(max_examples=20)
def test_a_value_does_not_depend_on_the_other_marks(case, data):
    x = signals(3, 2)
    state = run(case, x[..., :100]).state
    everywhere = step(case, state, x[..., 100:])
    place = st.tuples(st.integers(0, 2), st.integers(0, SAMPLES - 101))
    rows, last = np.array(data.draw(st.lists(place, min_size=1, max_size=20))).T
    if case.stage.outputs:
        marked = step(case, state, x[..., 100:], Marks(rows, last))
        assert marked.values.tobytes() == everywhere.values[rows, last].tobytes()
        assert marked.full.tobytes() == everywhere.full[rows, last].tobytes()
    else:
        result = case.stage.step(case.params, Signal(SAMPLE_RATE, 2), state, x[..., 100:], Marks(rows, last))
        assert np.moveaxis(result.output, 1, 2).tobytes() == everywhere.values.tobytes()
        assert result.full.tobytes() == everywhere.full[rows, last].tobytes()


@every_stage
@given(at=st.integers(1, SAMPLES - 1), row=st.integers(0, 4))
@settings(max_examples=25)
def test_resume_invariance(case, at, row):
    """State goes out as bytes, and into another row of a larger batch."""
    x = signals(1, 2)
    first = run(case, x[..., :at])
    others = signals(5, 2)
    state = run(case, others[..., :33]).state
    for name, array in first.state.items():
        state[name] = state[name].copy()
        state[name][row] = np.frombuffer(array.tobytes(), array.dtype).reshape(array.shape)[0]
    others[row] = x[0]
    second = step(case, state, others[..., at:])
    whole = run(case, x)
    assert second.values[row].tobytes() == whole.values[0, at:].tobytes()
    assert second.full[row].tobytes() == whole.full[0, at:].tobytes()


@every_stage
def test_state_is_plain_arrays_with_the_row_first(case):
    for rows in (0, 1, 3):
        state = case.stage.init(case.params, Signal(SAMPLE_RATE, 2), rows)
        assert state
        for array in state.values():
            assert array.shape[0] == rows
            assert array.dtype.kind in "fiu"
            assert array.dtype.isnative
    x = signals(3, 2)
    after = run(case, x).state
    for name, array in fresh(case, x).items():
        assert (after[name].shape, after[name].dtype) == (array.shape, array.dtype)


@every_stage
def test_input_and_state_are_left_as_they_are(case):
    x = signals(3, 2)
    state = run(case, x[..., :60]).state
    before = {name: array.copy() for name, array in state.items()}
    expected = step(case, state, x).values.tobytes()
    for array in (x, *state.values()):
        array.flags.writeable = False
    given_x = x.tobytes()
    assert step(case, state, x).values.tobytes() == expected
    assert x.tobytes() == given_x
    for name, array in state.items():
        assert array.tobytes() == before[name].tobytes()


EXTREMES = {
    "zero": np.zeros(SAMPLES),
    "constant": np.full(SAMPLES, 0.1),
    "one sample": np.ones(1),
    "ramp": np.arange(SAMPLES) * 0.1,
    "huge": np.full(SAMPLES, 1e150),
    "huge, alternating": np.where(np.arange(SAMPLES) % 2, 1e150, -1e150),
    "huge noise": np.random.default_rng(1).uniform(-1e150, 1e150, SAMPLES),
    "huge, then rest": np.where(np.arange(SAMPLES) < 300, -1e150, 0.0),
    "tiny": np.random.default_rng(2).normal(size=SAMPLES) * 1e-160,
    "smallest": np.where(np.arange(SAMPLES) % 3, 5e-324, 0.0),
}


@every_stage
@pytest.mark.parametrize("signal", EXTREMES.values(), ids=EXTREMES)
def test_extremes_stay_finite(case, signal):
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        ran = run(case, signal[np.newaxis, np.newaxis])
    assert np.isfinite(ran.values).all()
    assert all(np.isfinite(array).all() for array in ran.state.values())


@every_stage
def test_full_from_the_sample_that_fills_the_window(case):
    ran = run(case, signals(2, 1), [10, 55, 300])
    warm_up = CASES[case.kind].warm_up(**case.given)
    assert (ran.full == (np.arange(SAMPLES) >= warm_up - 1)).all()


@every_stage
def test_agrees_with_its_definition_on_real_ecg(case):
    x = ECG[5000:8000]
    expected = CASES[case.kind].oracle(x, **case.given)
    ran = run(case, x[np.newaxis, np.newaxis], [1, 8, 264, 1264])
    values = ran.values[0, :, 0].reshape(expected.shape)
    full = ran.full[0] if case.stage.outputs else np.ones(len(x), dtype=bool)
    np.testing.assert_allclose(values[full], expected[full], rtol=1e-9, atol=0)


@every_stage
def test_params_round_trip(case):
    for encode, decode in (
        (msgspec.to_builtins, msgspec.convert),
        (msgspec.json.encode, lambda text, kind: msgspec.json.decode(text, type=kind)),
        (msgspec.msgpack.encode, lambda data, kind: msgspec.msgpack.decode(data, type=kind)),
    ):
        assert decode(encode(case.params), case.stage.params) == case.params
    with pytest.raises(AttributeError):
        setattr(case.params, case.params.__struct_fields__[0], None)


def refusals() -> list[tuple[str, dict[str, Any], str]]:
    return [(kind, params, text) for kind, case in CASES.items() for params, text in case.refused]


@pytest.mark.parametrize(("kind", "params", "text"), refusals())
def test_bad_params_are_refused(kind, params, text):
    settings = "\n".join(f"{name} = {toml(value)}" for name, value in params.items())
    target = ".".join((kind, *STAGES[kind].outputs[:1]))
    document = (
        f'name = "p"\nsample_rate = {SAMPLE_RATE}\n[[stages]]\ntype = "{kind}"\n{settings}\n[features]\nf = "{target}"'
    )
    with pytest.raises(PipelineError) as refused:
        parse_pipeline(document, "p.toml")
    assert str(refused.value).startswith(f"p.toml: stage 1 ({kind}): ")
    assert text in str(refused.value)
    if "`" in text:
        assert "; expected " in str(refused.value), "what the stage takes is said"


def toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return repr(list(value)) if isinstance(value, tuple) else repr(value)
