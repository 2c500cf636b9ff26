"""Pipelines drawn from the whole registry: what a sensor gives is the same however its stream is cut and moved.

Each node's stage, parameters, input and hop are drawn; then the places where blocks end, and those at which the sensor
goes through its snapshot into another engine, where it lies beside others. The reference is one engine that is fed the
same stretches by the sample.
"""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from app.dsp.conformance import accepted_channels
from app.dsp.durations import in_samples
from app.dsp.engine import Engine
from app.dsp.errors import PipelineError
from app.dsp.pipeline import Pipeline
from app.dsp.pipeline_file import parse_pipeline
from app.dsp.stage import EXAMPLE_RATE
from app.dsp.stages import STAGES
from app.sources import builtin_ecg
from tests.feeding import Block, Partition
from tests.toml import toml

ECG = builtin_ecg().channel(0)
SAMPLES = 600


def kinds_that_take(channels: int) -> list[str]:
    """Stages whose first example takes so many channels."""
    found = []
    for kind, stage in STAGES.items():
        params = msgspec.convert(in_samples(stage.params, dict(stage.examples[0]), EXAMPLE_RATE), stage.params)
        if channels in accepted_channels(stage, params):
            found.append(kind)
    return found


KINDS = {channels: kinds_that_take(channels) for channels in (1, 2)}


@st.composite
def pipelines(draw: st.DrawFn) -> Pipeline:
    channels = draw(st.sampled_from(list(KINDS)))
    text = f'name = "p"\nsample_rate = {EXAMPLE_RATE}\nchannels = {channels}\n'
    pipeline = None
    names: list[str] = []
    for number in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(KINDS[channels]))
        given = draw(st.sampled_from(STAGES[kind].examples))
        body = "".join(f"{name} = {toml(value)}\n" for name, value in given.items())
        table = f'[[stages]]\nname = "n{number}"\ntype = "{kind}"\n{body}'
        source = draw(st.sampled_from(["input", *names]))
        hop = draw(st.sampled_from(["", "", "hop = 3\n"]))
        for wiring in (f'input = "{source}"\n{hop}', 'input = "input"\n'):
            features = "".join(f'{name} = {{ of = "{name}", take = "vector" }}\n' for name in [*names, f"n{number}"])
            try:
                pipeline = parse_pipeline(f"{text}{table}{wiring}\n[features]\n{features}", "drawn")
            except PipelineError:  # the drawn source has another rate, or other channels, than the stage takes
                continue
            text += f"{table}{wiring}\n"
            names = [node.name for node in pipeline.nodes]
            break
    assume(pipeline is not None)
    assert pipeline is not None
    return pipeline


def signal(pipeline: Pipeline, scale: float = 1.0) -> np.ndarray:
    """(samples, channels)."""
    channels = pipeline.signal.channels
    return np.stack([scale * ECG[1000 * n : 1000 * n + SAMPLES] for n in range(channels)], axis=1)


@given(
    pipeline=pipelines(),
    ends=st.lists(st.integers(1, SAMPLES - 1), min_size=1, max_size=6, unique=True).map(sorted),
    moves=st.sets(st.integers(0, 6), max_size=3),
)
@settings(max_examples=60)
def test_a_stream_may_be_cut_and_moved_anywhere(pipeline, ends, moves):
    x = signal(pipeline)
    ends = [*ends, SAMPLES]
    starts = [0, *ends[:-1]]
    reference = Partition(Engine(pipeline))
    expected = []
    for begin, end in zip(starts, ends, strict=True):
        pieces = np.array_split(x[begin:end], min(3, end - begin))
        at = begin
        for piece in pieces:
            features = reference.feed(Block("s", piece.ravel(), at))
            at += len(piece)
        expected.append((features.values[-1].tobytes(), features.full[-1].tobytes()))

    own = Partition(Engine(pipeline))
    for number, (begin, end) in enumerate(zip(starts, ends, strict=True)):
        if number in moves and begin:
            (snapshot,) = own.engine.snapshots([own.engine.sensors["s"]])
            moved = Partition(Engine(pipeline))
            moved.end = own.end
            moved.feed(*(Block(f"other{n}", signal(pipeline, 2.0 + n)[: 50 + n].ravel(), 0) for n in range(3)))
            moved.engine.restore({"s": snapshot})
            moved.end = max(moved.end, own.end)
            own = moved
        beside = Block(f"beside{number}", signal(pipeline, 3.0)[: end - begin].ravel(), 0)
        features = own.feed(beside, Block("s", x[begin:end].ravel(), begin))
        assert (features.values[1].tobytes(), features.full[1].tobytes()) == expected[number]


@pytest.mark.parametrize("channels", KINDS)
def test_there_is_much_to_draw_from(channels):
    assert len(KINDS[channels]) >= 3
