"""What a stage is: frozen parameters, state as plain arrays, and two pure functions over many rows.

One row is one sensor. A stage sees many sensors at once, ``x`` of shape (rows, channels, samples), and must
satisfy three properties bit for bit, which the tests hold over the whole registry:

- *chunk invariance*: any split of the samples into calls gives the same series;
- *company invariance*: a row's result does not depend on the rows beside it;
- *resume invariance*: carrying the state through a snapshot changes nothing.

Bit for bit, because a block that is read again after a crash may share its batch with others than before,
and its feature record must come out the same. Sums therefore run in an order fixed by the sample's own place
and never by the batch's shape.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

SETTLED = 1e-10
"""Share of a cold start's error that is left when a stage has settled."""

#: A stage's state: named arrays whose first axis is the row.
State = dict[str, Array]


class Signal(NamedTuple):
    """What a stage must know of the series that enters it."""

    sample_rate: float
    """Hz."""
    channels: int


class Marks(NamedTuple):
    """The places at which features are taken: the last samples of the blocks inside ``x``.

    Several blocks of one sensor may lie in one row, one after another.
    """

    rows: Indices
    """(marks,) row of each mark."""
    last: Indices
    """(marks,) index along the samples of ``x`` of each mark's block's last sample."""


class Result(NamedTuple):
    """What a step gives back."""

    state: State
    """The state after the samples; new arrays, the given ones are left as they are."""
    output: Floats
    """A series stage: (rows, channels, samples). A measure: (marks, channels, outputs)."""
    full: NDArray[np.bool_]
    """(marks,) whether the stage's window was full at each mark."""


@dataclass(frozen=True)
class Stage:
    """A kind of stage, as the registry knows it.

    Parameters
    ----------
    params
        The frozen `msgspec.Struct` of its parameters; it validates itself.
    init
        ``init(params, signal, rows)`` gives the state of rows that have seen nothing.
    step
        ``step(params, signal, state, x, marks)`` consumes ``x``, float64 of shape (rows, channels, samples).
    settle
        ``settle(params, signal)`` gives how many samples it takes until a start from fresh state is forgotten: until
        the values are those of a stage that has seen all samples before too, but for `SETTLED` of what they were off.
    outputs
        Names of a measure's values at a mark; empty for a series stage, whose output other stages may take
        as input and whose value at a mark is the series' last sample.
    """

    params: type[msgspec.Struct]
    init: Callable[[Any, Signal, int], State]
    step: Callable[[Any, Signal, State, Floats, Marks], Result]
    settle: Callable[[Any, Signal], int]
    outputs: tuple[str, ...] = ()
