"""Every shipped pipeline on a signal of its kind: all features come, are finite, and are the same however cut."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.dsp.engine import Engine
from app.dsp.pipeline import Pipeline
from app.pipelines import shipped_pipelines
from app.sources import builtin_ecg
from tests.feeding import Block, Partition

PIPELINES = shipped_pipelines()
SHIPPED = ("audio-mfcc", "ecg", "ecg-beats", "ecg-branched", "eeg-bands", "emg", "report", "wearable")

#: Seconds after which every feature of a pipeline has a value.
WARM = {
    "audio-mfcc": 0.2,
    "ecg": 2,
    "ecg-beats": 90,
    "ecg-branched": 2,
    "eeg-bands": 3,
    "emg": 1,
    "report": 2 * 86_400,
    "wearable": 100,
}

every_pipeline = pytest.mark.parametrize("name", SHIPPED)


def signal(pipeline: Pipeline, samples: int) -> np.ndarray:
    """(samples, channels): real ECG for hearts, else noise with a rhythm, at no particular scale."""
    channels, rate = pipeline.signal.channels, pipeline.signal.sample_rate
    if pipeline.name.startswith("ecg"):
        return np.resize(builtin_ecg().channel(0), (samples, 1))
    noise = np.random.default_rng(3).normal(size=(samples, channels))
    rhythm = np.sin(2 * np.pi * 0.01 * rate * np.arange(samples) / rate)[:, np.newaxis]
    return 0.3 * noise + rhythm * (1.0 + np.arange(channels))


def test_these_are_shipped():
    assert sorted(PIPELINES) == list(SHIPPED)


@every_pipeline
def test_every_feature_comes_and_is_finite(name):
    pipeline = PIPELINES[name]
    samples = round(WARM[name] * pipeline.signal.sample_rate) + 1
    x = signal(pipeline, samples)
    partition = Partition(Engine(pipeline))
    first = partition.feed(Block("s", x[:1].ravel(), 0))
    assert not first.full.all()
    rest = partition.feed(Block("s", x[1:].ravel(), 1))
    assert rest.full.all(), np.repeat(pipeline.feature_names, pipeline.widths)[~rest.full[0]]
    assert np.isfinite(rest.values).all()
    varied = partition.feed(Block("s", signal(pipeline, 997).ravel() * 1.7, samples))
    assert (varied.values != rest.values).any()


@every_pipeline
@given(cuts=st.lists(st.integers(1, 1199), min_size=1, max_size=6, unique=True).map(sorted), move=st.integers(0, 6))
@settings(max_examples=5)
def test_a_sensor_may_be_cut_and_moved(name, cuts, move):
    pipeline = PIPELINES[name]
    x = signal(pipeline, 1200)
    ends = [*cuts, 1200]
    whole, moved = Partition(Engine(pipeline)), Partition(Engine(pipeline))
    begin = 0
    for number, end in enumerate(ends):
        if number == move and begin:
            (snapshot,) = moved.engine.snapshots([moved.engine.sensors["s"]])
            before, moved = moved, Partition(Engine(pipeline))
            moved.engine.restore({"s": snapshot})
            moved.end = before.end
        block = Block("s", x[begin:end].ravel(), begin)
        other = Block("t", 2.0 * x[begin:end].ravel(), begin)
        one = whole.feed(block)
        two = moved.feed(block, other)
        assert one.values[0].tobytes() == two.values[0].tobytes()
        assert one.full[0].tobytes() == two.full[0].tobytes()
        begin = end
