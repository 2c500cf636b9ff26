"""A pipeline as TOML, read and checked.

::

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
    hop = 25                       # optional: one value in so many is kept; makes a series of a measure
    window = "200ms"               # the stage's own parameters; where samples are counted, a duration will do

    [features]                     # name in the record = stage, or stage.output of a measure of several outputs
    rms = "rms"                    # its value at the block's last sample
    rms_mean = { of = "rms", take = "mean" }  # or "min", "max" over the block; "vector": all channels as a list
"""

from __future__ import annotations

import math
import re
import reprlib
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar, cast, get_args

import msgspec

from app.dsp.durations import in_samples, samples_of
from app.dsp.errors import PipelineError
from app.dsp.parameters import types_said
from app.dsp.pipeline import RAW_INPUT, Feature, GapPolicy, Node, NonFinitePolicy, Pipeline, Take, fingerprint
from app.dsp.stage import Signal, Stage
from app.dsp.stages import STAGES

MAX_FILL = 1 << 20
"""Values that a gap may be filled with, all channels together."""

MAX_WIDTH = 4096
"""Values of a feature record."""

RECORD_FIELDS = ("sensorId", "timestamp", "seq", "tier", "pipeline", "gap", "quality")
"""Fields of every feature record beside the features themselves."""


class StageTable(msgspec.Struct):
    """What a ``[[stages]]`` table has beside the stage's own parameters."""

    type: str
    name: str | None = None
    input: str | None = None
    hop: int | str | None = None


class FeatureTable(msgspec.Struct, forbid_unknown_fields=True):
    """A feature, where it is not just the last value."""

    of: str
    take: str = "last"


class PipelineTable(msgspec.Struct, forbid_unknown_fields=True):
    """The document."""

    name: str
    sample_rate: float
    stages: list[dict[str, Any]]
    features: dict[str, str | FeatureTable]
    channels: int = 1
    gap: str = "reset"
    max_gap: float = 1.0
    non_finite: str = "reject"


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
        A line for each fault, naming the origin, the place, the value and what is allowed.
    """
    try:
        return replace(_build(_converted(tomllib.loads(text), PipelineTable, "pipeline")), text=text)
    except (tomllib.TOMLDecodeError, PipelineError) as error:
        raise PipelineError("\n".join(f"{origin}: {fault}" for fault in str(error).splitlines())) from None


#: Where msgspec says that a value is not what was expected.
_AT = re.compile(r" - at `\$\.(\w+)")

_S = TypeVar("_S", bound=msgspec.Struct)
_T = TypeVar("_T")


def _converted(table: Mapping[str, Any], into: type[_S], where: str) -> _S:
    """Convert a table that may lack fields, or have unknown or mistyped ones."""
    try:
        return msgspec.convert(table, into)
    except msgspec.ValidationError as error:
        # What a structure says of its own values is complete; what msgspec says has neither value nor alternatives.
        if error.__cause__:
            raise PipelineError(f"{where}: {error}") from None
        fields = ", ".join(f"{name}: {kind}" for name, kind in types_said(into).items())
        at = _AT.search(str(error))
        value = f"{at[1]} = {reprlib.repr(table[at[1]])}: " if at and at[1] in table else ""
        raise PipelineError(f"{where}: {value}{error}; expected {fields or 'no parameters'}") from None


class _Checks:
    """Checks, each of which is made whatever the others find."""

    def __init__(self) -> None:
        self.faults: list[str] = []

    def __call__(self, check: Callable[..., _T], *given: Any) -> _T | None:
        """Make a check, and keep what it finds wrong."""
        try:
            return check(*given)
        except PipelineError as error:
            self.faults.append(str(error))
            return None

    def conclude(self) -> None:
        """Raise PipelineError if any found a fault."""
        if self.faults:
            raise PipelineError("\n".join(self.faults))


def _build(table: PipelineTable) -> Pipeline:
    signal = _signal(table)
    check = _Checks()
    name = check(_checked_name, table.name)
    gap = check(_one_of, "gap", table.gap, get_args(GapPolicy))
    max_gap = check(_checked_max_gap, table.max_gap, signal)
    non_finite = check(_one_of, "non_finite", table.non_finite, get_args(NonFinitePolicy))
    nodes, unknown = _nodes(table.stages, signal, check)
    features = _features(table.features, nodes, unknown, check)
    check.conclude()
    pipeline = Pipeline(
        name=cast("str", name),
        signal=signal,
        nodes=tuple(nodes.values()),
        features=features,
        fingerprint=fingerprint(signal, nodes.values()),
        gap=cast("GapPolicy", gap),
        max_gap=cast("float", max_gap),
        non_finite=cast("NonFinitePolicy", non_finite),
    )
    _check_fields(pipeline)
    return pipeline


def _signal(table: PipelineTable) -> Signal:
    if not 0 < table.sample_rate < math.inf:
        raise PipelineError(f"sample_rate = {table.sample_rate}: expected Hz above 0")
    if table.channels < 1:
        raise PipelineError(f"channels = {table.channels}: expected at least 1")
    if not table.stages:
        raise PipelineError("stages: expected at least one [[stages]] table")
    return Signal(float(table.sample_rate), table.channels)


def _nodes(stages: list[dict[str, Any]], signal: Signal, check: _Checks) -> tuple[dict[str, Node], list[Any]]:
    """Wire the stages; gives names of those, too, that nothing is known of, as they or their inputs are wrong."""
    nodes: dict[str, Node] = {}
    unknown: list[Any] = []
    after_unknown = False
    for number, table in enumerate(stages, 1):
        source = table.get("input")
        node = None
        if source not in unknown and not (source is None and after_unknown):
            node = check(_node, number, table, nodes, signal)
        if node is None:
            unknown.append(table.get("name", table.get("type")))
            after_unknown = True
        else:
            nodes[node.name] = node
            after_unknown &= not node.is_series
    return nodes, unknown


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


def _node(number: int, table: Mapping[str, Any], earlier: Mapping[str, Node], raw: Signal) -> Node:
    wiring = _converted(table, StageTable, f"stage {number}")
    where = f"stage {number} ({wiring.type})"
    if wiring.type not in STAGES:
        raise PipelineError(f"stage {number}: type = {wiring.type!r}: expected one of {', '.join(sorted(STAGES))}")
    name = wiring.name or wiring.type
    if name in earlier or name == RAW_INPUT or "." in name:
        raise PipelineError(f"{where}: name = {name!r}: expected a name of its own without dots, not {RAW_INPUT!r}")
    series = {RAW_INPUT: raw} | {other.name: other.gives for other in earlier.values() if other.is_series}
    source = wiring.input or list(series)[-1]
    if source not in series:
        raise PipelineError(f"{where}: input = {source!r}: expected one of {', '.join(series)}")
    stage, takes = STAGES[wiring.type], series[source]
    # A stage's own hop is its own affair.
    has_own_hop = "hop" in stage.params.__struct_fields__
    wired = StageTable.__struct_fields__[:-1] if has_own_hop else StageTable.__struct_fields__
    own = {key: value for key, value in table.items() if key not in wired}
    try:
        params = _converted(in_samples(stage.params, own, takes.sample_rate), stage.params, where)
        gives = stage.signal(params, takes)
        stage.init(params, takes, 0)  # designs what can only be checked against the signal
        hop = None if has_own_hop else _hop(wiring, stage, gives.sample_rate)
    except PipelineError:
        raise
    except ValueError as error:
        raise PipelineError(f"{where}: {error}") from None
    sparse = stage.changes_pace or hop is not None or (source in earlier and earlier[source].sparse)
    return Node(name, source, wiring.type, stage, params, takes, hop, sparse)


def _hop(wiring: StageTable, stage: Stage, sample_rate: float) -> int | None:
    hop = wiring.hop
    if hop is not None and stage.changes_pace:
        raise ValueError(f"hop = {hop!r}: {wiring.type} sets its pace by its own parameters; leave it out")
    if isinstance(hop, str):
        try:
            return samples_of(hop, sample_rate)
        except ValueError as error:
            raise ValueError(f"hop = {error}") from None
    if hop is not None and hop < 1:
        raise ValueError(f"hop = {hop}: expected at least 1")
    return hop


def _features(
    table: Mapping[str, str | FeatureTable], nodes: Mapping[str, Node], unknown: list[Any], check: _Checks
) -> tuple[Feature, ...]:
    if not table:
        check.faults.append('features: expected at least one, as name = "stage" or name = "stage.output"')
    features = []
    for name, entry in table.items():
        given = FeatureTable(entry) if isinstance(entry, str) else entry
        # Where no stage is right, none can be named either.
        if nodes and given.of.partition(".")[0] not in unknown:
            features.append(check(_feature, name, given, nodes))
    return tuple(feature for feature in features if feature)


def _feature(name: str, given: FeatureTable, nodes: Mapping[str, Node]) -> Feature:
    target, take = given.of, given.take
    node_name, _, output = target.partition(".")
    node = nodes.get(node_name)
    if node is not None and len(node.outputs) == 1 and take != "vector":
        output = output or node.outputs[0]
        target = f"{node_name}.{output}"
    allowed = [
        name if not other.outputs else f"{name}.{output}"
        for name, other in nodes.items()
        for output in other.outputs or ("",)
    ]
    if take == "vector":
        allowed += [name for name, other in nodes.items() if other.outputs]
    if node is None or target not in allowed:
        raise PipelineError(f"features: {name} = {target!r}: expected one of {', '.join(allowed)}")
    if not name.isidentifier() or name in RECORD_FIELDS:
        raise PipelineError(f"features: {name!r}: expected an identifier that is not one of {', '.join(RECORD_FIELDS)}")
    _one_of(f"features: {name}: take", take, get_args(Take))
    if take in ("mean", "min", "max") and not node.is_series:
        raise PipelineError(
            f"features: {name}: take = {take!r}: {target} is a value a block, of which only the last is taken;"
            f" give stage {node.name} a hop (hop = 1: every sample) to make a series of it"
        )
    return Feature(name, node_name, output or None, cast("Take", take))


def _check_fields(pipeline: Pipeline) -> None:
    names = pipeline.feature_names
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise PipelineError(
            f"features: {', '.join(sorted(twice))}: twice in a record, as a feature of several channels has a field for"
            " each; name one of them otherwise"
        )
    if (width := sum(pipeline.widths)) > MAX_WIDTH:
        raise PipelineError(f"features: {width} values a record: expected at most {MAX_WIDTH}; take fewer channels")
