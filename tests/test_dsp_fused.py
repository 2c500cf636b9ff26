"""The kernel: the stages' own numbers and state, and what must hold for every stage holds for it."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import sosfilt

from app.dsp.conformance import (
    Trial,
    check_channels,
    check_chunks,
    check_finite,
    check_marks,
    check_resume,
    check_rows,
    check_state,
    check_untouched,
)
from app.dsp.engine import Engine
from app.dsp.fused import fused, load_kernel
from app.dsp.fused.chain import Kernels, wired
from app.dsp.pipeline import RAW_INPUT, Pipeline
from app.dsp.pipeline_file import parse_pipeline
from app.dsp.stage import Marks, Result, Signal, Stage, State
from app.dsp.stages.descriptive.hjorth import hjorth
from app.dsp.stages.filters import butterworth
from app.dsp.stream import Samples
from app.pipelines import shipped_pipelines
from tests.conftest import NO_KERNEL
from tests.feeding import Block, Partition, blocks
from tests.test_dsp_engine import ECG, own, signal, stories
from tests.test_dsp_stages import EXTREMES, Case, cuts, signals

ROOT = Path(__file__).parents[1]
needs_kernel = pytest.mark.skipif(load_kernel() is None, reason=NO_KERNEL)


def pipeline_of(
    *,
    channels: int = 1,
    order: int = 4,
    window: int = 50,
    hjorth_window: int = 256,
    of: str = "envelope",
    filtered: str = 'btype = "bandpass"\ncutoff = [0.5, 100.0]',
    more: str = "",
    features: str = "",
) -> Pipeline:
    """A pipeline like `ecg`, under other names, with its features in another order."""
    return parse_pipeline(
        f"""
name = "any"
sample_rate = 250.0
channels = {channels}
[[stages]]
name = "clean"
type = "butterworth"
order = {order}
{filtered}
[[stages]]
name = "envelope"
type = "moving_rms"
window = {window}
[[stages]]
name = "shape"
type = "hjorth"
input = "{of}"
window = {hjorth_window}
{more}
[features]
complexity = "shape.complexity"
activity = "shape.activity"
clean = "clean"
mobility = "shape.mobility"
rms = "envelope"
{features}
""",
        "any.toml",
    )


def nothing(*arguments: Any) -> None:
    """Stand in for the kernel."""


# --- Which pipelines ----------------------------------------------------------------------------------------------

RAW = {"of": "input"}
HOP = {"more": 'hop = "40ms"'}
MEAN = {"features": 'mean = { of = "envelope", take = "mean" }'}
VECTOR = {"features": 'all = { of = "shape", take = "vector" }', "channels": 2}


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ({}, True),
        ({"of": "clean"}, True),
        ({"channels": 3}, True),
        (VECTOR, True),
        (RAW, False),
        (HOP, False),
        (MEAN, False),
    ],
)
def test_a_pipeline_is_known_by_its_wiring(given, taken):
    assert (wired(pipeline_of(**given), Kernels(nothing, nothing, nothing)) is not None) == taken


@needs_kernel
def test_the_shipped_ecg_pipelines_are_fused():
    for name in ("ecg", "ecg-branched"):
        assert Engine(shipped_pipelines()[name]).fused
        assert not Engine(shipped_pipelines()[name], fuse=False).fused


@needs_kernel
def test_other_stages_are_not_fused():
    more = '[[stages]]\ntype = "moving_rms"\nname = "second"\nwindow = 3\n'
    assert fused(pipeline_of(more=more, features='second = "second"')) is None


def run(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True).stdout


ENGINE = """
import sys
import numpy as np
from app.dsp.engine import Engine
from app.dsp.pipeline_file import parse_pipeline
from tests.feeding import Block, Partition
"""


def test_without_numba_an_engine_goes_stage_by_stage():
    program = f"""import sys
sys.modules["numba"] = None
{ENGINE}
from app.pipelines import shipped_pipelines
engine = Engine(shipped_pipelines()["ecg"])
assert engine.fused is None
x = np.sin(np.arange(300.0))
print(Partition(engine).feed(Block("s", x)).values.tobytes().hex())
"""
    (expected,) = (
        Partition(Engine(shipped_pipelines()["ecg"], fuse=False)).feed(Block("s", np.sin(np.arange(300.0)))).values
    )
    assert run(program).strip() == expected.tobytes().hex()


def test_numba_is_not_loaded_for_other_pipelines():
    program = f"""{ENGINE}
text = 'name = "p"\\nsample_rate = 1.0\\n[[stages]]\\ntype = "moving_rms"\\nwindow = 3\\n[features]\\nf = "moving_rms"'
assert Engine(parse_pipeline(text, "p.toml")).fused is None
print("numba" in sys.modules)
"""
    assert run(program).strip() == "False"


@needs_kernel
def test_without_a_folder_to_write_to_it_compiles_anew(monkeypatch):
    from app.dsp.fused import compiling

    def njit(signature: str, *, cache: bool = False, **options: Any) -> Any:
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return lambda function: function

    monkeypatch.setattr(compiling, "njit", njit)
    assert compiling.compiled("void()")(nothing) is nothing


# --- The same as stage by stage -----------------------------------------------------------------------------------


def same_numbers(one: np.ndarray, other: np.ndarray) -> None:
    np.testing.assert_allclose(one, other, rtol=1e-12, atol=0)
    # Elsewhere scipy's compiler may have contracted a product and a sum.
    if platform.machine() in {"x86_64", "AMD64"}:
        assert one.tobytes() == other.tobytes()


@st.composite
def pipelines(draw: st.DrawFn) -> Pipeline:
    return pipeline_of(
        channels=draw(st.integers(1, 3)),
        order=draw(st.integers(1, 9)),
        window=draw(st.one_of(st.integers(1, 9), st.integers(1, 300))),
        hjorth_window=draw(st.one_of(st.integers(3, 20), st.integers(3, 600))),
        of=draw(st.sampled_from(["envelope", "clean"])),
        filtered=draw(
            st.sampled_from(
                [
                    'btype = "bandpass"\ncutoff = [0.5, 100.0]',
                    "cutoff = [40.0]",
                    'btype = "bandstop"\ncutoff = [45, 55]',
                ]
            )
        ),
        features=draw(st.sampled_from(["", 'all = { of = "shape", take = "vector" }'])),
    )


@needs_kernel
@given(pipeline=pipelines(), story=stories())
@settings(max_examples=60)
def test_features_and_state_are_those_of_the_stages(pipeline, story):
    """Two engines are fed the same, and sensors move from each to the other."""
    channels = pipeline.signal.channels
    sides = [Partition(Engine(pipeline)), Partition(Engine(pipeline, fuse=False))]
    assert [bool(side.engine.fused) for side in sides] == [True, False]
    sent = [
        iter(blocks(f"s{number}", signal(number, channels, sum(lengths)).ravel(), lengths, channels))
        for number, lengths in enumerate(story.lengths)
    ]
    batch: list[Block] = []
    for place, number in enumerate(story.order):
        batch.append(next(sent[number]))
        if not story.cuts[place] and place < len(story.order) - 1:
            continue
        one, other = (side.feed(*batch) for side in sides)
        batch = []
        same_numbers(one.values, other.values)
        assert one.full.tobytes() == other.full.tobytes()
        moved = [f"s{other}" for other in story.moves[place] if f"s{other}" in sides[0].engine.sensors]
        snapshots = [side.engine.snapshots([side.engine.sensors[name] for name in moved]) for side in sides]
        assert list(map(len, snapshots[0])) == list(map(len, snapshots[1]))
        for side, theirs in zip(sides, snapshots[::-1], strict=True):
            side.engine.evict([side.engine.sensors[name] for name in moved])
            side.engine.restore(dict(zip(moved, theirs, strict=True)))


@needs_kernel
@pytest.mark.parametrize("of", ["envelope", "clean"])
def test_a_long_block_is_as_many_short_ones(of):
    pipeline = pipeline_of(of=of, window=300, hjorth_window=5000)
    (whole,) = blocks("s", ECG, [20_000])
    parts = blocks("s", ECG, [7, 4093, 2048, 2049, 11_803])
    one, other = Partition(Engine(pipeline)), Partition(Engine(pipeline))
    expected = own(one.feed(whole))
    last = [own(other.feed(part)) for part in parts][-1]
    assert last.values.tobytes() == expected.values.tobytes()
    same_numbers(expected.values, Partition(Engine(pipeline, fuse=False)).feed(whole).values[0])


@needs_kernel
def test_it_does_not_drift_over_ten_hours_and_forgets_a_burst():
    hours = np.tile(ECG, 120)
    hours[4_000_000:4_100_000] *= 1000.0
    side = Partition(Engine(shipped_pipelines()["ecg"]))
    values = np.concatenate([side.feed(block).values for block in blocks("s", hours, [100_000] * 90)])
    y = sosfilt(butterworth.design(butterworth.Params(4, (0.5, 100.0), "bandpass"), 250.0), hours)
    for number in (39, 41, 42, 89):
        end = (number + 1) * 100_000
        rms = np.sqrt([np.mean(np.square(y[at - 49 : at + 1])) for at in range(end - 256, end)])
        activity, mobility, complexity = hjorth(rms)
        np.testing.assert_allclose(values[number], [rms[-1], mobility, complexity, activity], rtol=1e-9)


# --- Abreast ------------------------------------------------------------------------------------------------------


@needs_kernel
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 80), st.integers(3, 300)),
    of=st.sampled_from(["envelope", "clean"]),
    lengths=st.lists(st.sampled_from([1, 7, 8, 50, 256, 300, 2100]), min_size=1, max_size=3),
    rows=st.lists(st.integers(0, 20), min_size=1, max_size=40) | st.permutations(range(21)),
    seed=st.integers(0, 1 << 30),
)
@settings(max_examples=80)
def test_blocks_give_the_same_bits_in_any_company(shape, of, lengths, rows, seed):
    """Blocks of many sensors at once, some of them young, give what each gives alone, and leave the same state."""
    channels, order, window, hjorth_window = shape
    pipeline = pipeline_of(channels=channels, order=order, window=window, hjorth_window=hjorth_window, of=of)
    chain = fused(pipeline)
    random = np.random.default_rng(seed)
    numbers, rows = np.arange(len(rows)), np.array(rows)
    ends = np.cumsum(random.choice(lengths, size=len(rows)) * channels)
    begins = np.concatenate([[0], ends[:-1]])
    values = random.normal(size=ends[-1])
    values.flags.writeable = False
    samples = Samples(values, begins, ends)
    states: list[dict[str, State]] = []
    seen = random.integers(0, 2 * max(window, hjorth_window), size=21)
    for _ in range(2):
        nodes = {node.name: node.stage.init(node.params, node.takes, 21) for node in pipeline.nodes}
        states.append(nodes | {RAW_INPUT: {"last": np.zeros((21, channels))}})
    for name, state in states[0].items():
        for key, array in state.items():
            array[...] = seen if key == "count" else random.normal(size=array.shape)
            states[1][name][key][...] = array
    found, full = chain.step(states[0], samples, numbers, rows)
    for number in numbers:
        # The kernel itself, as a block of several channels would go abreast.
        alone = chain._replace(kernels=chain.kernels._replace(abreast=lambda *_: False))
        one, its = alone.step(states[1], samples, numbers[number : number + 1], rows[number : number + 1])
        assert one.tobytes() == found[number].tobytes()
        assert its.tobytes() == full[number].tobytes()
    for name, state in states[0].items():
        for key, array in state.items():
            assert array.tobytes() == states[1][name][key].tobytes(), (name, key)


@needs_kernel
@given(
    lengths=st.lists(st.sampled_from([3, 256]), min_size=1, max_size=200),
    sensors=st.integers(1, 60),
    seed=st.integers(0, 1 << 30),
)
@settings(max_examples=60)
def test_groups_hold_every_block_once_and_a_sensors_in_order(lengths, sensors, seed):
    rows = np.random.default_rng(seed).integers(0, sensors, size=len(lengths)) * 64
    order, sizes = load_kernel().grouped(np.array(lengths), rows)
    assert sorted(order.tolist()) == list(range(len(lengths)))
    groups = np.split(order, np.cumsum(sizes)[:-1])
    for group in groups:
        assert 1 <= len(group) <= 8
        assert len(set(rows[group].tolist())) == len(group)
        assert len({lengths[block] for block in group.tolist()}) == 1
    for row in set(rows.tolist()):
        assert (np.diff(order[rows[order] == row]) > 0).all()


@needs_kernel
def test_blocks_of_different_sensors_go_abreast_and_those_of_one_do_not():
    lengths, kernels = np.full(16, 256), load_kernel()
    assert kernels.grouped(lengths, np.arange(16))[1].tolist() == [8, 8]
    assert kernels.grouped(lengths, np.arange(16) // 2)[1].tolist() == [8, 8]
    assert kernels.grouped(lengths, np.zeros(16, dtype=np.int64))[1].tolist() == [1] * 16


# --- What holds for every stage -----------------------------------------------------------------------------------


class Params(msgspec.Struct, frozen=True):
    """Parameters: those of `pipeline_of`."""

    of: str = "envelope"
    order: int = 4
    window: int = 50
    hjorth_window: int = 256


OUTPUTS = ("complexity", "activity", "clean", "mobility", "rms")
STATE = (("clean", "zi"), ("envelope", "tail"), ("envelope", "count"), ("shape", "tail"), ("shape", "count"))


def init(params: Params, signal: Signal, rows: int) -> State:
    nodes = pipeline_of(channels=signal.channels, **msgspec.structs.asdict(params)).node
    states = {name: node.stage.init(node.params, node.takes, rows) for name, node in nodes.items()}
    return {f"{name} {key}": states[name][key] for name, key in STATE}


def step(params: Params, signal: Signal, state: State, x: np.ndarray, marks: Marks) -> Result:
    """Give the values at a mark by a block that ends there, and the state by one that ends with the samples."""
    chain = fused(pipeline_of(channels=signal.channels, **msgspec.structs.asdict(params)))
    rows, channels, samples = x.shape
    values = np.ascontiguousarray(x.transpose(0, 2, 1)).ravel()

    def go(of: np.ndarray, counts: np.ndarray) -> tuple[State, np.ndarray, np.ndarray]:
        """Run a block of each of these rows, of so many samples, with a state of its own."""
        nodes: dict[str, State] = {RAW_INPUT: {"last": np.zeros((len(of), channels))}}
        for name, key in STATE:
            nodes.setdefault(name, {})[key] = state[f"{name} {key}"][of].copy()
        begins, numbers = of * samples * channels, np.arange(len(of))
        found, full = chain.step(nodes, Samples(values, begins, begins + counts * channels), numbers, numbers)
        after = {f"{name} {key}": nodes[name][key] for name, key in STATE}
        return after, found.reshape(len(of), len(OUTPUTS), channels).transpose(0, 2, 1), full.all(axis=1)

    _, output, full = go(marks.rows, marks.last + 1)
    after, *_ = go(np.arange(rows), np.full(rows, samples))
    return Result(after, np.ascontiguousarray(output), full)


#: The kernel as a stage: a measure of the raw signal, whose state is the three stages'.
STAGE = Stage(Params, init, step, lambda params, signal: 0, ({},), "the stages", OUTPUTS)


def trial(channels: int, **given: Any) -> Case:
    return Case("kernel", Trial(STAGE, Params(**given), Signal(250.0, channels)), given)


CASES = [
    trial(1),
    trial(2),
    trial(1, of="clean"),
    trial(2, of="clean", order=3, window=7, hjorth_window=100),
    trial(1, order=1, window=1, hjorth_window=3),
]
every_case = pytest.mark.parametrize("case", CASES, ids=str)


@needs_kernel
@every_case
@given(at=cuts(), order=st.permutations(range(3)), rows=st.integers(1, 3))
@settings(max_examples=4)
def test_invariance(case, at, order, rows):
    check_chunks(case.trial, signals(case, 2), at)
    check_rows(case.trial, signals(case, 3), order[:rows], at)
    check_channels(case.trial, signals(case, 1), at)


@needs_kernel
@every_case
@given(at=st.integers(1, 699), row=st.integers(0, 4))
@settings(max_examples=4)
def test_resume_invariance(case, at, row):
    check_resume(case.trial, signals(case, 1), signals(case, 5), at, row)


@needs_kernel
@every_case
def test_marks_state_and_input(case):
    x = signals(case, 3)
    check_marks(case.trial, x, np.array([2, 0, 0, 1, 2]), np.array([5, 599, 0, 300, 5]))
    check_state(case.trial, x)
    check_untouched(case.trial, x)


@needs_kernel
@pytest.mark.parametrize("name", EXTREMES)
def test_extremes_stay_finite(name):
    check_finite(CASES[0].trial, np.ascontiguousarray(EXTREMES[name][np.newaxis, np.newaxis]))
