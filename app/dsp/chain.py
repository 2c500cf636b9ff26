"""Running a pipeline's stages over rows of samples: a pure function from state to state."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.dsp.pipeline import RAW_INPUT, Pipeline
from app.dsp.stage import Floats, Marks, Result, State


class ChainResult(NamedTuple):
    """What a pipeline makes of samples."""

    state: dict[str, State]
    """State of each node after the samples."""
    features: Floats
    """(marks, features) values, in the order of `Pipeline.feature_names`."""
    full: NDArray[np.bool_]
    """(marks, features) whether the window behind a value was full."""


def fresh_state(pipeline: Pipeline, rows: int) -> dict[str, State]:
    """State of rows that have seen nothing."""
    return {node.name: node.stage.init(node.params, pipeline.signal, rows) for node in pipeline.nodes}


def run_chain(pipeline: Pipeline, state: dict[str, State], x: Floats, marks: Marks) -> ChainResult:
    """Run all stages over ``x`` (rows, channels, samples) and take the features at the marks."""
    results: dict[str, Result] = {}
    series = {RAW_INPUT: x}
    for node in pipeline.nodes:
        result = node.stage.step(node.params, pipeline.signal, state[node.name], series[node.source], marks)
        results[node.name] = result
        series[node.name] = result.output
    values, full = [], []
    for feature in pipeline.features:
        result = results[feature.node]
        if feature.output is None:
            values.append(result.output[marks.rows, :, marks.last])
        else:
            outputs = next(node.stage.outputs for node in pipeline.nodes if node.name == feature.node)
            values.append(result.output[..., outputs.index(feature.output)])
        full.append(np.broadcast_to(result.full[:, None], values[-1].shape))
    return ChainResult(
        {name: result.state for name, result in results.items()},
        np.concatenate(values, axis=1),
        np.concatenate(full, axis=1),
    )
