"""A pipeline in words and numbers, for people and machines."""

from __future__ import annotations

from typing import Any

import msgspec

from app.dsp.durations import duration_fields
from app.dsp.engine import Engine
from app.dsp.node_step import fresh_node
from app.dsp.pipeline import Node, Pipeline
from app.dsp.snapshot import Position
from app.dsp.stage import NEVER, Signal
from app.pipelines import shipped_pipelines

#: As of a stream that has run for years: what a snapshot counts is written shorter while it is smaller.
_LATE = 1 << 40


class NodeShown(msgspec.Struct, rename="camel"):
    """A stage of a pipeline, wired."""

    name: str
    type: str
    input: str
    kind: str
    """``series`` or ``measure``; a measure with a hop is both."""
    sample_rate: float
    """Of what enters it, Hz."""
    channels: int
    gives_sample_rate: float | None
    """Of its series; None for a measure."""
    gives_channels: int
    """Of its series; of a measure, those that each output has a value for."""
    outputs: tuple[str, ...]
    hop: int | None
    parameters: dict[str, Any]
    milliseconds: dict[str, float]
    """Durations among the parameters; those themselves count samples."""
    state_bytes: int
    settle_samples: int | None
    """Of what enters it; None where it never forgets."""


class FeatureShown(msgspec.Struct):
    """A feature, and the fields of the record that it has."""

    name: str
    of: str
    take: str
    fields: dict[str, int]
    """How many values each has: 1, or more in a list."""


class PipelineShown(msgspec.Struct, rename="camel"):
    """A pipeline."""

    name: str
    origin: str
    sample_rate: float
    channels: int
    nodes: list[NodeShown]
    features: list[FeatureShown]
    gap: str
    max_gap: float
    non_finite: str
    snapshot_bytes: int
    settle_samples: int | None
    settle_seconds: float | None
    fingerprint: str


def shown_pipeline(pipeline: Pipeline, where_from: str) -> PipelineShown:
    """Show a pipeline.

    Parameters
    ----------
    pipeline
        To show.
    where_from
        Words for that.
    """
    settle = None if pipeline.settle_samples >= NEVER else pipeline.settle_samples
    return PipelineShown(
        pipeline.name,
        where_from,
        *pipeline.signal,
        [_node(node) for node in pipeline.nodes],
        _features(pipeline),
        pipeline.gap,
        pipeline.max_gap,
        pipeline.non_finite,
        snapshot_bytes(pipeline),
        settle,
        None if settle is None else settle / pipeline.signal.sample_rate,
        pipeline.fingerprint.hex(),
    )


def origin(pipeline: Pipeline) -> str:
    """Say whether a known pipeline is shipped, and whether an own one takes a shipped one's place."""
    shipped = shipped_pipelines().get(pipeline.name)
    return "shipped" if pipeline is shipped else "own" if shipped is None else "own, in place of the shipped one"


def snapshot_bytes(pipeline: Pipeline) -> int:
    """Bytes of a sensor's snapshot, on a topic of the usual name and without an id of its stream."""
    engine = Engine(pipeline, fuse=False)  # which nothing is computed with
    (sensor,) = engine.admit(["sensor"])
    sensor.epoch = sensor.next_index = _LATE
    sensor.position = Position("rt-sensors", 49, _LATE)
    (snapshot,) = engine.snapshots([sensor])
    return len(snapshot)


def _node(node: Node) -> NodeShown:
    parameters = msgspec.to_builtins(node.params)
    settle = node.stage.settle(node.params, node.takes)
    own = Signal(*node.gives) if node.is_series else Signal(0.0, node.channels)
    return NodeShown(
        node.name,
        node.type,
        node.source,
        "measure" if node.outputs else "series",
        *node.takes,
        own.sample_rate or None,
        own.channels,
        node.outputs,
        node.hop,
        parameters,
        {
            name: 1000 * value / node.takes.sample_rate
            for name, value in parameters.items()
            if name in duration_fields(type(node.params)) and isinstance(value, int)
        },
        sum(array.nbytes for array in fresh_node(node, 1).values()),
        None if settle >= NEVER else settle,
    )


def _features(pipeline: Pipeline) -> list[FeatureShown]:
    fields = iter(zip(pipeline.feature_names, pipeline.widths, strict=True))
    shown = []
    for feature in pipeline.features:
        node = pipeline.node[feature.node]
        count = 1 if feature.take == "vector" else node.channels
        of = feature.node if feature.output is None else f"{feature.node}.{feature.output}"
        shown.append(FeatureShown(feature.name, of, feature.take, dict(next(fields) for _ in range(count))))
    return shown
