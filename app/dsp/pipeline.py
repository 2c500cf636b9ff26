"""Pipelines: stages wired into a chain or a tree, the features taken from them, and a fingerprint.

How one is written is told in `app.dsp.pipeline_file`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from typing import Any, Literal

import msgspec

from app.dsp.stage import NEVER, Signal, Stage

RAW_INPUT = "input"
"""What a stage names as its input to take the raw signal."""


GapPolicy = Literal["reset", "hold", "interpolate", "zero"]
"""What becomes of missing samples: state begins anew, or they are filled in: by the last sample before them, on a line
from there to the first sample after them, or by zeros."""

NonFinitePolicy = Literal["reject", "hold", "interpolate"]
"""What becomes of NaN and infinity in a block: it is refused, or each is replaced by the channel's last finite sample,
or on a line from there to its next one in the block (where there is none: as hold)."""

MOST_PERIOD = 1_000_000
"""Raw samples for each value of the slowest node."""

Take = Literal["last", "mean", "min", "max", "vector"]
"""What a feature takes of a series: its value at the block's last sample, one over all samples of the block, or the
last values of all channels as one list."""


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
    takes
        The signal that enters it.
    hop
        One in so many values is kept; None: all. A measure with a hop is a series.
    sparse
        Whether its values come at another pace than the raw signal's samples, so that a block may bring none.
    """

    name: str
    source: str
    type: str
    stage: Stage
    params: msgspec.Struct
    takes: Signal
    hop: int | None = None
    sparse: bool = False

    @cached_property
    def outputs(self) -> tuple[str, ...]:
        """Names of a measure's values; empty for a series."""
        return self.stage.outputs_of(self.params)

    @property
    def is_series(self) -> bool:
        """Whether other stages may take it as input."""
        return not self.outputs or self.hop is not None

    @cached_property
    def channels(self) -> int:
        """Channels of its values; a measure has each output for each."""
        return self.stage.signal(self.params, self.takes).channels

    @cached_property
    def gives(self) -> Signal:
        """The signal that a stage takes which names this one as its input."""
        rate, channels = self.stage.signal(self.params, self.takes)
        return Signal(rate / (self.hop or 1), channels * max(1, len(self.outputs)))


@dataclass(frozen=True)
class Feature:
    """A value of the feature record: of the series, or of the output ``output``, of node ``node``."""

    name: str
    node: str
    output: str | None
    take: Take = "last"


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

    @cached_property
    def node(self) -> dict[str, Node]:
        """The nodes by name."""
        return {node.name: node for node in self.nodes}

    @property
    def most_filled(self) -> int:
        """Samples of the longest gap that is filled in."""
        # The product of two decimal fractions may fall just short of the whole number that is meant.
        return 0 if self.gap == "reset" else math.floor(self.max_gap * self.signal.sample_rate + 1e-6)

    @cached_property
    def settle_samples(self) -> int:
        """Samples after which a pipeline that started cold gives the features of one that did not; at most `NEVER`."""
        settled = {RAW_INPUT: 0}
        for node in self.nodes:
            own = node.stage.settle(node.params, node.takes) + (node.hop or 1) - 1
            raw = math.ceil(own * self.signal.sample_rate / node.takes.sample_rate)
            settled[node.name] = min(NEVER, settled[node.source] + raw)
        return max(settled.values())

    @cached_property
    def period(self) -> int:
        """Raw samples after which all nodes that keep one value in so many are at the same place again."""
        rates = [Fraction(node.gives.sample_rate / self.signal.sample_rate) for node in self.nodes if node.sparse]
        return math.lcm(*(rate.limit_denominator(MOST_PERIOD).denominator for rate in rates))

    @cached_property
    def widths(self) -> tuple[int, ...]:
        """Values of each field of the feature record: 1, or more for a list; in the order of `feature_names`."""
        return tuple(width for _, width in self._fields())

    @cached_property
    def feature_names(self) -> tuple[str, ...]:
        """Fields of the feature record; with several channels ``rms_0``, ``rms_1``, ..."""
        return tuple(name for name, _ in self._fields())

    def _fields(self) -> Iterable[tuple[str, int]]:
        for feature in self.features:
            node = self.node[feature.node]
            if feature.take == "vector":
                yield feature.name, node.channels * (1 if feature.output else max(1, len(node.outputs)))
            elif node.channels == 1:
                yield feature.name, 1
            else:
                yield from ((f"{feature.name}_{channel}", 1) for channel in range(node.channels))


def fingerprint(signal: Signal, nodes: Iterable[Node]) -> bytes:
    """Identify what a state is of."""
    return hashlib.sha256(
        msgspec.msgpack.encode([tuple(signal), [_identity(node) for node in nodes]], order="deterministic")
    ).digest()[:16]


def _identity(node: Node) -> list[Any]:
    # What came later is left out where it is not used, so that states made before go on.
    later = {"hop": node.hop, "version": node.stage.version if node.stage.version > 1 else None}
    used = {name: value for name, value in later.items() if value is not None}
    own = [node.name, node.source, node.type, msgspec.to_builtins(node.params)]
    return [*own, used] if used else own
