"""Chains whose nodes give values at another pace than the samples come, in any company and however cut."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import firwin, lfilter

from app.dsp.chain import fresh_state, run_chain
from app.dsp.engine import Engine
from app.dsp.errors import PipelineError
from app.dsp.pipeline_file import parse_pipeline
from app.dsp.stage import Marks
from app.sources import builtin_ecg
from tests.feeding import Block, Partition
from tests.stage_cases import CASES

ECG = builtin_ecg().channel(0)

TEXT = """
name = "paces"
sample_rate = 250.0
[[stages]]
type = "decimate"
factor = 10
taps = 31
[[stages]]
type = "moving_rms"
window = "200ms"
[[stages]]
type = "hjorth"
name = "shape"
window = 7
hop = 3
[[stages]]
type = "moving_rms"
name = "mean_shape"
window = 4
[[stages]]
type = "hjorth"
name = "raw_shape"
input = "input"
window = "100ms"
hop = "40ms"
[[stages]]
type = "decimate"
name = "slower"
input = "moving_rms"
factor = 2
taps = 3
[features]
slow = "decimate"
rms = "moving_rms"
activity = "shape.activity"
every = { of = "shape", take = "vector" }
mean = { of = "mean_shape", take = "vector" }
raw = "raw_shape.mobility"
least = { of = "decimate", take = "min" }
most = { of = "decimate", take = "max" }
mean_rms = { of = "moving_rms", take = "mean" }
mean_ecg = { of = "raw_shape.mobility", take = "mean" }
"""
PIPELINE = parse_pipeline(TEXT, "paces.toml")


def blocks_of(samples: int, lengths: list[int]) -> list[tuple[int, int]]:
    """Where blocks of the lengths, again and again, begin and end in so many samples."""
    found, begin, number = [], 0, 0
    while begin < samples:
        end = min(samples, begin + lengths[number % len(lengths)])
        found.append((begin, end))
        begin, number = end, number + 1
    return found


def test_a_record_has_a_field_for_each_feature_and_a_list_is_one():
    assert PIPELINE.feature_names == (
        *("slow", "rms", "activity", "every", "mean", "raw", "least", "most", "mean_rms", "mean_ecg"),
    )
    assert PIPELINE.widths == (1, 1, 1, 3, 3, 1, 1, 1, 1, 1)
    assert PIPELINE.node["moving_rms"].takes == (25.0, 1)
    assert PIPELINE.node["moving_rms"].params.window == 5
    assert PIPELINE.node["shape"].gives == (25 / 3, 3)
    assert PIPELINE.node["raw_shape"].params.window == 25
    assert PIPELINE.node["raw_shape"].hop == 10
    assert PIPELINE.node["slower"].gives == (12.5, 1)


@given(
    lengths=st.lists(st.lists(st.integers(1, 90), min_size=1, max_size=4), min_size=1, max_size=4),
    batches=st.lists(st.integers(1, 9), min_size=1, max_size=4),
)
@settings(max_examples=12)
def test_records_do_not_depend_on_company_or_batches(lengths, batches):
    """Sensors whose blocks differ in length, many a batch, beside each one alone, a block at a time."""
    sensors = {f"s{n}": blocks_of(400, own) for n, own in enumerate(lengths)}
    queue = [
        (sensor, *own[n])
        for n in range(max(map(len, sensors.values())))
        for sensor, own in sensors.items()
        if n < len(own)
    ]

    def block(sensor: str, begin: int, end: int) -> Block:
        scale = 1.0 + int(sensor[1:])
        return Block(sensor, scale * ECG[1000 + begin : 1000 + end], begin)

    together = Partition(Engine(PIPELINE))
    rows = {sensor: [] for sensor in sensors}
    number = 0
    while queue:
        size = batches[number % len(batches)]
        number += 1
        batch, queue = queue[:size], queue[size:]
        features = together.feed(*(block(*own) for own in batch))
        for own, values, full in zip(batch, features.values, features.full, strict=True):
            rows[own[0]].append((values.tobytes(), full.tobytes()))
    for sensor, own in sensors.items():
        alone = Partition(Engine(PIPELINE))
        fed = [alone.feed(block(sensor, *bounds)) for bounds in own]
        assert rows[sensor] == [(one.values[0].tobytes(), one.full[0].tobytes()) for one in fed]
        assert (
            together.engine.snapshots([together.engine.sensors[sensor]])[0][-200:-4]
            == (alone.engine.snapshots([alone.engine.sensors[sensor]])[0][-200:-4])
        )


@pytest.mark.parametrize("length", [1, 7, 10, 23, 250])
def test_values_are_those_of_the_whole_signal(length):
    x = ECG[:1000]
    slow = lfilter(firwin(31, 0.1), 1.0, x)[9::10]
    rms = CASES["moving_rms"].oracle(slow[np.newaxis], window=5)[0]
    shape = CASES["hjorth"].oracle(rms[np.newaxis], window=7)[0]
    raw = CASES["hjorth"].oracle(x[np.newaxis], window=25)[0]
    engine = Partition(Engine(PIPELINE))
    before = 0
    for begin, end in blocks_of(1000, [length]):
        features = engine.feed(Block("s", x[begin:end], begin))
        names = np.repeat(PIPELINE.feature_names, PIPELINE.widths)
        got = {name: features.values[0][names == name] for name in PIPELINE.feature_names}
        full = {name: features.full[0][names == name].all() for name in PIPELINE.feature_names}
        count = end // 10
        assert full["slow"] == (count >= 1)
        assert full["rms"] == (count >= 5)
        kept = count // 3 * 3
        assert full["activity"] == (kept >= 7)
        assert full["raw"] == (count * 10 >= 25)
        if full["slow"]:
            np.testing.assert_allclose(got["slow"], slow[count - 1], rtol=1e-12)
        if full["rms"]:
            np.testing.assert_allclose(got["rms"], rms[count - 1], rtol=1e-12)
        if full["activity"]:
            np.testing.assert_allclose(got["every"], shape[kept - 1], rtol=1e-9)
            assert got["activity"] == got["every"][0]
        if full["raw"]:
            np.testing.assert_allclose(got["raw"], raw[count * 10 - 1, 1], rtol=1e-9)
        assert full["least"] == full["most"] == (count > before)
        if count > before:
            np.testing.assert_allclose(got["least"], slow[before:count].min(), rtol=1e-12)
            np.testing.assert_allclose(got["most"], slow[before:count].max(), rtol=1e-12)
        assert full["mean_rms"] == (count > before and count >= 5)
        if full["mean_rms"]:
            np.testing.assert_allclose(got["mean_rms"], rms[before:count].mean(), rtol=1e-12)
        before = count


def test_settling_is_counted_in_samples_of_the_raw_signal():
    slower = 10 * (31 + 10) // 10
    assert PIPELINE.node["decimate"].stage.settle(PIPELINE.node["decimate"].params, PIPELINE.signal) == slower
    assert PIPELINE.settle_samples > slower + 10 * (5 + 7 + 3 - 1) + 30 * 4 - 1


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [
        ("hop = 3", "hop = 0", "stage 3 (hjorth): hop = 0: expected at least 1"),
        ("hop = 3", 'hop = "3 days"', "stage 3 (hjorth): hop = '3 days': expected a number of samples, or a duration"),
        ("taps = 3\n", "taps = 3\nhop = 2\n", "stage 6 (decimate): hop = 2: decimate sets its pace"),
        ("hop = 3", "", "stage 4 (moving_rms): input = 'shape'"),
        ('take = "min"', 'take = "median"', "features: least: take = 'median': expected one of last, mean, min, max"),
        ('of = "decimate", take = "min"', 'take = "min"', "missing required field `of`"),
        ('"shape", take = "vector"', '"shape.nothing", take = "vector"', "every = 'shape.nothing': expected one of"),
        ('slow = "decimate"', 'slow_1 = "decimate"\nslow = "mean_shape"', "slow_1: twice in a record"),
    ],
)
def test_what_is_wrong_is_named(before, after, text):
    assert before in TEXT
    changed = TEXT.replace(before, after, 1)
    if "input = 'shape'" in text:
        changed = changed.replace('name = "mean_shape"', 'name = "mean_shape"\ninput = "shape"')
    with pytest.raises(PipelineError) as refused:
        parse_pipeline(changed, "p.toml")
    assert text in str(refused.value)


def test_a_measure_without_a_hop_has_one_value_a_block():
    changed = TEXT.replace(
        'name = "raw_shape"\ninput = "input"\nwindow = "100ms"\nhop = "40ms"', 'name = "raw_shape"\nwindow = 9'
    )
    with pytest.raises(PipelineError, match="give stage raw_shape a hop"):
        parse_pipeline(changed, "p.toml")


def test_rows_of_another_place_go_on_apart():
    """Straight through the chain: rows that are at different places between two kept values."""
    x = np.stack([ECG[:40], ECG[:40]])[:, np.newaxis]
    state = fresh_state(PIPELINE, 2)
    first = run_chain(
        PIPELINE,
        {k: {n: a[:1] for n, a in v.items()} for k, v in state.items()},
        x[:1, :, :13],
        Marks(np.array([0]), np.array([12])),
    )
    for name, arrays in first.state.items():
        for key, array in arrays.items():
            state[name][key][0] = array[0]
    both = run_chain(
        PIPELINE, state, np.stack([ECG[13:40], ECG[:27]])[:, np.newaxis], Marks(np.array([0, 1]), np.array([26, 26]))
    )
    whole = run_chain(PIPELINE, fresh_state(PIPELINE, 1), x[:1], Marks(np.array([0]), np.array([39])))
    last = [
        n
        for n, name in enumerate(np.repeat(PIPELINE.feature_names, PIPELINE.widths))
        if name not in ("least", "most", "mean_rms", "mean_ecg")
    ]
    assert both.features[0, last].tobytes() == whole.features[0, last].tobytes()


def test_a_measure_of_one_output_is_named_by_its_stage_alone():
    text = 'name = "p"\nsample_rate = 250.0\n[[stages]]\ntype = "kurtosis"\nwindow = 8\n[features]\n'
    bare, full = (parse_pipeline(f'{text}k = "{of}"', "p.toml") for of in ("kurtosis", "kurtosis.value"))
    assert bare.features == full.features
    with pytest.raises(PipelineError, match=r"k = 'kurtosis.median': expected one of kurtosis.value"):
        parse_pipeline(f'{text}k = "kurtosis.median"', "p.toml")
