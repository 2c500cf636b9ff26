"""One node's step: its stage's, and what the chain keeps beside the stage's state for a hop and for sparse values."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.dsp.hops import hops, keep
from app.dsp.pipeline import Node
from app.dsp.stage import Floats, Indices, Marks, Result, State

HELD = "held"
HELD_FULL = "held_full"
"""The values at the last mark, and whether they were full: a block that brings a sparse node nothing has these."""

PHASE = "phase"
"""Samples since the last one that a hop kept."""


class Taken(NamedTuple):
    """Values of a node at the marks."""

    values: Floats
    """(marks, channels, outputs); a series has one output."""
    full: NDArray[np.bool_]
    """(marks, channels, outputs)."""


class Stepped(NamedTuple):
    """What a node makes of samples."""

    state: State
    taken: Taken | None
    """None where it is not wanted, and is not to be held."""
    series: Floats
    """(rows, channels, samples) what other nodes may take as input; empty for a measure."""
    lengths: Indices | None
    """(rows,) samples of the series that are each row's own; None: all."""
    last: Indices
    """(marks,) index of the series' last sample at or before each mark, -1 where the call has none."""


def fresh_node(node: Node, rows: int) -> State:
    """State of rows that have seen nothing."""
    state = dict(node.stage.init(node.params, node.takes, rows))
    if node.hop is not None:
        state[PHASE] = np.zeros(rows, dtype=np.int64)
    if node.sparse:
        shape = (rows, node.channels, max(1, len(node.outputs)))
        state |= {HELD: np.zeros(shape), HELD_FULL: np.zeros(shape, dtype=np.uint8)}
    return state


def step_node(node: Node, state: State, x: Floats, marks: Marks, *, take: bool) -> Stepped:
    """Step a node over ``x`` (rows, channels, samples), of which there may be none; ``take`` its values at the marks.

    A mark's ``last`` is -1 where the call has no sample of ``x`` at or before it.
    """
    if not node.sparse:
        result = node.stage.step(node.params, node.takes, state, x, marks)
        taken = _taken(node, result, marks) if take else None
        return Stepped(result.state, taken, result.output, None, marks.last)
    own = {name: array for name, array in state.items() if name not in (HELD, HELD_FULL)}
    if x.shape[-1]:
        return _held(node, state, _sparse(node, own, x, marks), marks)
    nothing = np.zeros((len(x), node.gives.channels, 0))
    none = np.full(len(marks.rows), -1, dtype=np.intp)
    return _held(node, state, Result(own, nothing, none >= 0, None, none), marks)


def _taken(node: Node, result: Result, marks: Marks) -> Taken:
    """Take the values at the marks, each of which has one."""
    values = result.output if node.outputs else result.output[marks.rows, :, marks.last, np.newaxis]
    full = np.empty(values.shape, dtype=np.bool_)
    full[:] = result.full[:, np.newaxis, np.newaxis]
    return Taken(values, full)


def _sparse(node: Node, state: State, x: Floats, marks: Marks) -> Result:
    """Step a sparse node's stage and its hop; gives ``full`` and ``last`` for all marks."""
    if node.hop is not None:
        own = {name: array for name, array in state.items() if name != PHASE}
        return _hopped(node, node.hop, own, state[PHASE], x, marks)
    known = np.flatnonzero(marks.last >= 0)
    result = node.stage.step(node.params, node.takes, state, x, Marks(marks.rows[known], marks.last[known]))
    last = np.full(len(marks.rows), -1, dtype=np.intp)
    last[known] = marks.last[known] if result.last is None else result.last
    full = np.zeros(len(last), dtype=np.bool_)
    full[known] = result.full
    output = result.output
    if node.outputs:
        output = np.zeros((len(last), *result.output.shape[1:]))
        output[known] = result.output
    return Result(result.state, output, full, result.lengths, last)


def _hopped(node: Node, hop: int, state: State, phase: Indices, x: Floats, marks: Marks) -> Result:
    """Step a stage and keep one value in so many, as a series; each kept value is marked, so that it knows its full."""
    kept = hops(hop, phase, x.shape[-1], marks)
    rows, place = np.nonzero(np.arange(kept.at.shape[1]) < kept.lengths[:, np.newaxis])
    result = node.stage.step(node.params, node.takes, state, x, Marks(rows, kept.at[rows, place]))
    if node.outputs:
        series = np.zeros((len(x), node.gives.channels, kept.at.shape[1]))
        series[rows, :, place] = result.output.reshape(len(rows), node.gives.channels)
    else:
        series = keep(result.output, kept.at)
    full_at = np.zeros(kept.at.shape, dtype=np.bool_)
    full_at[rows, place] = result.full
    full = np.zeros(len(marks.rows), dtype=np.bool_)
    known = kept.last >= 0
    full[known] = full_at[marks.rows[known], kept.last[known]]
    after = {**result.state, PHASE: (phase + x.shape[-1]) % hop}
    return Result(after, series, full, kept.lengths, kept.last)


def _held(node: Node, state: State, result: Result, marks: Marks) -> Stepped:
    """Take the values at the marks, where there are none those held, and hold those of each row's last mark."""
    last = marks.last if result.last is None else result.last
    values = state[HELD][marks.rows]
    full = state[HELD_FULL][marks.rows].astype(np.bool_)
    known = np.flatnonzero(last >= 0)
    taken = result.output[marks.rows[known], :, last[known]] if node.is_series else result.output[known]
    values[known] = taken.reshape(len(known), *values.shape[1:])
    full[known] = result.full[known, np.newaxis, np.newaxis]
    held, held_full = state[HELD].copy(), state[HELD_FULL].copy()
    # Of a row's marks the last one stays.
    held[marks.rows], held_full[marks.rows] = values, full
    series = result.output if node.is_series else np.zeros((len(held), node.gives.channels, 0))
    after = {**result.state, HELD: held, HELD_FULL: held_full}
    return Stepped(after, Taken(values, full), series, result.lengths, last)
