"""Running a pipeline's stages over rows of samples: a pure function from state to state.

All rows of a call bring as many samples. Behind a node that changes the pace they may go on with different numbers,
as each is at another place between two values that are kept: rows of one number then go on together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.dsp.node_step import Stepped, Taken, fresh_node, step_node
from app.dsp.over_blocks import over_blocks
from app.dsp.pipeline import RAW_INPUT, Feature, Node, Pipeline, Take
from app.dsp.stage import Floats, Indices, Marks, State

_Key = tuple[str, Take]
_OVER_BLOCKS: tuple[Literal["mean", "min", "max"], ...] = ("mean", "min", "max")


class ChainResult(NamedTuple):
    """What a pipeline makes of samples."""

    state: dict[str, State]
    """State of each node after the samples."""
    features: Floats
    """(marks, values) the fields of the feature record one after another, each as wide as `Pipeline.widths` says."""
    full: NDArray[np.bool_]
    """(marks, values) whether the window behind a value was full."""


class _Series(NamedTuple):
    """What nodes may take as input."""

    values: Floats
    """(rows, channels, samples)."""
    last: Indices
    """(marks,) index of the last sample at or before each mark, -1 where the call has none."""


class _Part(NamedTuple):
    """What nodes make of rows."""

    state: dict[str, State]
    taken: dict[_Key, Taken]


def fresh_state(pipeline: Pipeline, rows: int) -> dict[str, State]:
    """State of rows that have seen nothing."""
    return {node.name: fresh_node(node, rows) for node in pipeline.nodes}


def run_chain(pipeline: Pipeline, state: dict[str, State], x: Floats, marks: Marks) -> ChainResult:
    """Run all stages over ``x`` (rows, channels, samples) and take the features at the marks.

    The marks of a row are in order, and the row's last sample is one.
    """
    wanted = {_key(feature) for feature in pipeline.features}
    part = _run(pipeline.nodes, state, {RAW_INPUT: _Series(x, marks.last)}, marks.rows, wanted)
    values, full = [], []
    for feature in pipeline.features:
        taken = part.taken[_key(feature)]
        at = slice(None)
        if feature.output is not None:
            number = pipeline.node[feature.node].outputs.index(feature.output)
            at = slice(number, number + 1)
        values.append(taken.values[..., at].reshape(len(marks.rows), -1))
        full.append(taken.full[..., at].reshape(len(marks.rows), -1))
    return ChainResult(part.state, np.concatenate(values, axis=1), np.concatenate(full, axis=1))


def _key(feature: Feature) -> _Key:
    return feature.node, "last" if feature.take == "vector" else feature.take


def _run(
    nodes: Sequence[Node],
    state: Mapping[str, State],
    series: dict[str, _Series],
    mark_rows: Indices,
    wanted: set[_Key],
) -> _Part:
    """Run nodes over rows; what they take as input is among ``series``, or comes from another of them."""
    series = dict(series)
    of_features = {name for name, _ in wanted}
    part = _Part({}, {})
    for number, node in enumerate(nodes):
        source = series[node.source]
        marks = Marks(mark_rows, source.last)
        done = step_node(node, state[node.name], source.values, marks, take=node.name in of_features)
        part.state[node.name] = done.state
        if done.taken is not None:
            _take(part, node.name, done.taken, done, mark_rows, wanted)
        if done.lengths is None:
            series[node.name] = _Series(done.series, done.last)
            continue
        lengths = np.unique(done.lengths).tolist()
        series[node.name] = _Series(done.series[..., : lengths[0]] if len(lengths) == 1 else done.series, done.last)
        if len(lengths) > 1 and (later := nodes[number + 1 :]):
            groups = [np.flatnonzero(done.lengths == length) for length in lengths]
            apart = _Apart(node.name, lengths, groups)
            _run_apart(part, later, state, series, mark_rows, wanted, apart)
            break
    return part


def _take(part: _Part, name: str, taken: Taken, done: Stepped, mark_rows: Indices, wanted: set[_Key]) -> None:
    """Add what features take of a node to a part."""
    if (name, "last") in wanted:
        part.taken[name, "last"] = taken
    for take in _OVER_BLOCKS:
        if (key := (name, take)) in wanted:
            values, any_ = over_blocks(take, done.series, done.last, mark_rows)
            part.taken[key] = Taken(values.reshape(taken.values.shape), taken.full & any_[:, np.newaxis, np.newaxis])


class _Apart(NamedTuple):
    """Rows that go on apart."""

    series: str
    """Name of the series whose length differs."""
    lengths: Sequence[int]
    groups: Sequence[Indices]
    """Rows of each length."""


def _run_apart(
    part: _Part,
    nodes: Sequence[Node],
    state: Mapping[str, State],
    series: Mapping[str, _Series],
    mark_rows: Indices,
    wanted: set[_Key],
    apart: _Apart,
) -> None:
    """Run nodes over groups of rows, in each of which a series has one length, and add it to a part."""
    rows = sum(map(len, apart.groups))
    for length, own in zip(apart.lengths, apart.groups, strict=True):
        place = np.full(rows, -1, dtype=np.intp)
        place[own] = np.arange(len(own))
        at = np.flatnonzero(place[mark_rows] >= 0)
        theirs = {name: _Series(values[own], last[at]) for name, (values, last) in series.items()}
        theirs[apart.series] = _Series(theirs[apart.series].values[..., :length], theirs[apart.series].last)
        some = _run(
            nodes,
            {node.name: {name: array[own] for name, array in state[node.name].items()} for node in nodes},
            theirs,
            place[mark_rows[at]],
            wanted,
        )
        for name, arrays in some.state.items():
            whole = part.state.setdefault(name, {})
            for key, array in arrays.items():
                whole.setdefault(key, np.zeros((rows, *array.shape[1:]), array.dtype))[own] = array
        for node, taken in some.taken.items():
            count = len(mark_rows)
            values, full = part.taken.setdefault(
                node,
                Taken(np.zeros((count, *taken.values.shape[1:])), np.zeros((count, *taken.full.shape[1:]), dtype=bool)),
            )
            values[at], full[at] = taken
