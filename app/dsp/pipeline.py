"""Pipelines: a chain of stages as data, validated when loaded, with a fingerprint.

A pipeline is a TOML file::

    name = "ecg"
    sample_rate = 250.0            # Hz
    channels = 1                   # optional
    gap = "hold"                   # optional: "reset" (the default), "hold", "interpolate" or "zero"
    max_gap = 1.0                  # optional, s; state begins anew after a longer gap
    non_finite = "hold"            # optional: "reject" (the default), "hold" or "interpolate"

    [[stages]]
    type = "moving_rms"            # a name of the registry
    name = "rms"                   # optional, the type's own otherwise
    input = "bandpass"             # optional, the last series before it otherwise; "input" is the raw signal
    window = 50                    # the stage's own parameters

    [features]                     # name in the record = stage, or stage.output of a measure
    rms = "rms"
"""

from __future__ import annotations

import hashlib
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar, cast, get_args

import msgspec

from app.dsp.errors import PipelineError
from app.dsp.stage import Signal, Stage
from app.dsp.stages import STAGES

RAW_INPUT = "input"
"""What a stage names as its input to take the raw signal."""


GapPolicy = Literal["reset", "hold", "interpolate", "zero"]
"""What becomes of missing samples: state begins anew, or they are filled in: by the last sample before them, on a line
from there to the first sample after them, or by zeros."""

NonFinitePolicy = Literal["reject", "hold", "interpolate"]
"""What becomes of NaN and infinity in a block: it is refused, or each is replaced by the channel's last finite sample,
or on a line from there to its next one in the block (where there is none: as hold)."""

MAX_FILL = 1 << 20
"""Values that a gap may be filled with, all channels together."""


class _StageTable(msgspec.Struct):
    type: str
    name: str | None = None
    input: str | None = None


class _PipelineTable(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    sample_rate: float
    stages: list[dict[str, Any]]
    features: dict[str, str]
    channels: int = 1
    gap: str = "reset"
    max_gap: float = 1.0
    non_finite: str = "reject"


@dataclass(frozen=True)
class Node:
    """One stage of a pipeline, wired.

    Parameters
    ----------
    name
        Unique within the pipeline.
    source
        Name of the node whose series it takes, or `RAW_INPUT`.
    type
        Its kind's name in the registry.
    stage, params
        The kind and its parameters.
    """

    name: str
    source: str
    type: str
    stage: Stage
    params: msgspec.Struct


@dataclass(frozen=True)
class Feature:
    """A value of the feature record: the series or output ``output`` of node ``node``."""

    name: str
    node: str
    output: str | None


@dataclass(frozen=True)
class Pipeline:
    """A validated pipeline.

    Parameters
    ----------
    name
        What a block's ``pipeline`` names, and the prefix of the features topic.
    signal
        Sample rate and channels of the sensors that it takes.
    nodes
        Stages, each after the one it takes its input from.
    features
        Values of a feature record, in order. With several channels each is a value a channel.
    fingerprint
        16 bytes that differ wherever the state of one pipeline would be wrong in the other: over stages,
        parameters, rate and channels, not over the pipeline's or the features' names, nor over what follows.
    gap
        What becomes of missing samples.
    max_gap
        Longest gap that is filled in, s; after a longer one state begins anew.
    non_finite
        What becomes of NaN and infinity.
    text
        The TOML document that it was read from.
    """

    name: str
    signal: Signal
    nodes: tuple[Node, ...]
    features: tuple[Feature, ...]
    fingerprint: bytes
    gap: GapPolicy = "reset"
    max_gap: float = 1.0
    non_finite: NonFinitePolicy = "reject"
    text: str = field(default="", repr=False, compare=False)

    @property
    def most_filled(self) -> int:
        """Samples of the longest gap that is filled in."""
        # The product of two decimal fractions may fall just short of the whole number that is meant.
        return 0 if self.gap == "reset" else math.floor(self.max_gap * self.signal.sample_rate + 1e-6)

    @property
    def settle_samples(self) -> int:
        """Samples after which a pipeline that started cold gives the features of one that did not."""
        settled = {RAW_INPUT: 0}
        for node in self.nodes:
            settled[node.name] = settled[node.source] + node.stage.settle(node.params, self.signal)
        return max(settled.values())

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names in the feature record; with several channels ``rms_0``, ``rms_1``, ..."""
        if self.signal.channels == 1:
            return tuple(feature.name for feature in self.features)
        return tuple(f"{feature.name}_{c}" for feature in self.features for c in range(self.signal.channels))


def parse_pipeline(text: str, origin: str) -> Pipeline:
    """Read a pipeline from TOML text.

    Parameters
    ----------
    text
        The TOML document.
    origin
        Where it came from, for errors.

    Raises
    ------
    PipelineError
        Naming the origin, the place, the value and what is allowed.
    """
    try:
        return replace(_build(_converted(tomllib.loads(text), _PipelineTable, "pipeline")), text=text)
    except (tomllib.TOMLDecodeError, PipelineError) as error:
        raise PipelineError(f"{origin}: {error}") from None


_S = TypeVar("_S", bound=msgspec.Struct)


def _converted(table: Mapping[str, Any], into: type[_S], where: str) -> _S:
    """Convert a table that may lack fields, or have unknown or mistyped ones."""
    try:
        return msgspec.convert(table, into)
    except msgspec.ValidationError as error:
        # What a structure says of its own values is complete; what msgspec says names no alternative.
        fields = ", ".join(f"{name}: {annotation}" for name, annotation in into.__annotations__.items())
        allowed = "" if error.__cause__ else f"; expected {fields}"
        raise PipelineError(f"{where}: {error}{allowed}") from None


def _build(table: _PipelineTable) -> Pipeline:
    if not 0 < table.sample_rate < math.inf:
        raise PipelineError(f"sample_rate = {table.sample_rate}: expected Hz above 0")
    if table.channels < 1:
        raise PipelineError(f"channels = {table.channels}: expected at least 1")
    if not table.stages:
        raise PipelineError("stages: expected at least one [[stages]] table")
    signal = Signal(float(table.sample_rate), table.channels)
    nodes: dict[str, Node] = {}
    for number, stage_table in enumerate(table.stages, 1):
        node = _node(number, stage_table, nodes, signal)
        nodes[node.name] = node
    return Pipeline(
        name=_checked_name(table.name),
        signal=signal,
        nodes=tuple(nodes.values()),
        features=_features(table.features, nodes),
        fingerprint=_fingerprint(signal, nodes),
        gap=cast("GapPolicy", _one_of("gap", table.gap, get_args(GapPolicy))),
        max_gap=_checked_max_gap(table.max_gap, signal),
        non_finite=cast("NonFinitePolicy", _one_of("non_finite", table.non_finite, get_args(NonFinitePolicy))),
    )


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise PipelineError(f"{name} = {value!r}: expected one of {', '.join(allowed)}")
    return value


def _checked_max_gap(max_gap: float, signal: Signal) -> float:
    longest = MAX_FILL / (signal.sample_rate * signal.channels)
    if not 0 <= max_gap <= longest:
        raise PipelineError(f"max_gap = {max_gap}: expected 0 to {longest:.6g} s, {MAX_FILL} values")
    return float(max_gap)


def _checked_name(name: str) -> str:
    # It becomes part of a topic's name.
    if not name or not all(c.isascii() and (c.isalnum() or c in "._-") for c in name):
        raise PipelineError(f"name = {name!r}: expected ASCII letters, digits, '.', '_' and '-'")
    return name


def _node(number: int, table: Mapping[str, Any], earlier: Mapping[str, Node], signal: Signal) -> Node:
    wiring = _converted(table, _StageTable, f"stage {number}")
    where = f"stage {number} ({wiring.type})"
    if wiring.type not in STAGES:
        raise PipelineError(f"stage {number}: type = {wiring.type!r}: expected one of {', '.join(sorted(STAGES))}")
    name = wiring.name or wiring.type
    if name in earlier or name == RAW_INPUT or "." in name:
        raise PipelineError(f"{where}: name = {name!r}: expected a name of its own without dots, not {RAW_INPUT!r}")
    series = {RAW_INPUT: None} | {other.name: None for other in earlier.values() if not other.stage.outputs}
    source = wiring.input or list(series)[-1]
    if source not in series:
        raise PipelineError(f"{where}: input = {source!r}: expected one of {', '.join(series)}")
    stage = STAGES[wiring.type]
    own = {key: value for key, value in table.items() if key not in _StageTable.__struct_fields__}
    params = _converted(own, stage.params, where)
    try:
        stage.init(params, signal, 0)  # designs what can only be checked against the rate
    except ValueError as error:
        raise PipelineError(f"{where}: {error}") from None
    return Node(name, source, wiring.type, stage, params)


def _features(table: Mapping[str, str], nodes: Mapping[str, Node]) -> tuple[Feature, ...]:
    if not table:
        raise PipelineError('features: expected at least one, as name = "stage" or name = "stage.output"')
    features = []
    for name, target in table.items():
        node_name, _, output = target.partition(".")
        node = nodes.get(node_name)
        allowed = [
            name if not other.stage.outputs else f"{name}.{output}"
            for name, other in nodes.items()
            for output in other.stage.outputs or ("",)
        ]
        if node is None or target not in allowed:
            raise PipelineError(f"features: {name} = {target!r}: expected one of {', '.join(allowed)}")
        if not name.isidentifier() or name in RECORD_FIELDS:
            raise PipelineError(
                f"features: {name!r}: expected an identifier that is not one of {', '.join(RECORD_FIELDS)}"
            )
        features.append(Feature(name, node_name, output or None))
    return tuple(features)


RECORD_FIELDS = ("sensorId", "timestamp", "seq", "tier", "pipeline", "gap", "quality")
"""Fields of every feature record beside the features themselves."""


def _fingerprint(signal: Signal, nodes: Mapping[str, Node]) -> bytes:
    identity = [
        tuple(signal),
        [(node.name, node.source, node.type, msgspec.to_builtins(node.params)) for node in nodes.values()],
    ]
    return hashlib.sha256(msgspec.msgpack.encode(identity, order="deterministic")).digest()[:16]
