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

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

SETTLED = 1e-10
"""Share of a cold start's error that is left when a stage has settled."""

NEVER = 1 << 48
"""Samples to settle of a stage that never forgets."""

Samples = Annotated[int, msgspec.Meta(extra={"duration": True})]
"""A parameter that counts samples of the stage's input; a pipeline may also write it as a duration, ``"200ms"``."""

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
    """(marks,) whether the stage's window was full at each mark: whether the value there may be used."""
    lengths: Indices | None = None
    """(rows,) how many samples of ``output`` are each row's own, where that is not one a sample of ``x``; what comes
    after them is padding. None: one for each."""
    last: Indices | None = None
    """(marks,) index of the last output at or before each mark, -1 where the call has none. None: as the input's."""


Init = Callable[[Any, Signal, int], State]
Step = Callable[[Any, Signal, State, Floats, Marks], Result]
Settle = Callable[[Any, Signal], int]
Design = Callable[[Any, float], Floats]
"""A stage's functions, as `Stage` describes them."""


def _unchanged(params: Any, signal: Signal) -> Signal:  # noqa: ARG001 - as every stage's
    return signal


@dataclass(frozen=True)
class Stage:
    """A kind of stage, as the registry knows it.

    Parameters
    ----------
    params
        The frozen `msgspec.Struct` of its parameters; it validates itself.
    init
        ``init(params, signal, rows)`` gives the state of rows that have seen nothing; it raises ValueError where the
        parameters do not fit the signal.
    step
        ``step(params, signal, state, x, marks)`` consumes ``x``, float64 of shape (rows, channels, samples), of which
        there is at least one.
    settle
        ``settle(params, signal)`` gives how many samples it takes until a start from fresh state is forgotten: until
        the values are those of a stage that has seen all samples before too, but for `SETTLED` of what they were off.
        Of a stage that keeps one value in so many: of one that keeps the same ones.
    examples
        Parameters to try the stage with, as a pipeline writes them, for signals of `EXAMPLE_RATE` Hz: the first is
        the usual one.
    oracle
        What its values are checked against, in a few words.
    outputs
        Names of a measure's values at a mark, or what gives them from the parameters; empty for a series stage, whose
        output other stages may take as input and whose value at a mark is the series' last sample.
    signal
        ``signal(params, signal)`` gives rate and channels of what comes out; it raises ValueError where the stage does
        not take such a signal.
    mixes
        Whether what comes out of a channel depends on other channels.
    changes_pace
        Whether a series stage gives other than one value for each sample: its `Result` has ``lengths`` and ``last``.
    design
        ``design(params, sample_rate)`` gives the filter that a linear time-invariant stage is, for a rate in Hz:
        second-order sections (sections, 6) or taps (taps,); of a bank that puts a channel through several filters,
        (filters, sections, 6). None: the stage is no such filter.
    version
        Raised when the meaning of the state, or of the values, changes: snapshots made before do not fit then.
    """

    params: type[msgspec.Struct]
    init: Init
    step: Step
    settle: Settle
    examples: tuple[Mapping[str, Any], ...]
    oracle: str
    outputs: tuple[str, ...] | Callable[[Any], tuple[str, ...]] = ()
    signal: Callable[[Any, Signal], Signal] = _unchanged
    mixes: bool = False
    changes_pace: bool = False
    design: Design | None = None
    version: int = 1

    def outputs_of(self, params: msgspec.Struct) -> tuple[str, ...]:
        """Names of its values at a mark, with these parameters."""
        return self.outputs(params) if callable(self.outputs) else self.outputs


EXAMPLE_RATE = 250.0
"""Sample rate that the examples of stages are for, Hz."""
