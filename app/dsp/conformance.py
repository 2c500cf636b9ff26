"""What every stage must satisfy, as functions: tests draw the cuts and companies, and so may the author of a stage.

All compare to the last bit, a zero's sign included, since a block that is read again after a crash may be cut
otherwise and share its batch with others than before, and its feature record must come out the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from app.dsp.durations import in_samples
from app.dsp.node_step import HELD, HELD_FULL, PHASE
from app.dsp.stage import EXAMPLE_RATE, Floats, Marks, Signal, Stage, State

MOST_CHANNELS = 8


class NonConformanceError(AssertionError):
    """A stage does not do what every stage must; the text says what."""


class Ran(NamedTuple):
    """What a stage made of samples."""

    values: list[Floats]
    """For each row, of a series (its outputs, channels, 1); of a measure (samples, channels, outputs)."""
    full: NDArray[np.bool_]
    """(rows, samples) whether the value at each sample of the input was full."""
    state: State


@dataclass(frozen=True)
class Trial:
    """A stage with parameters, on a signal.

    Parameters
    ----------
    stage
        To run.
    params
        Its parameters.
    signal
        What enters it.
    """

    stage: Stage
    params: Any
    signal: Signal

    def fresh(self, rows: int) -> State:
        """State of rows that have seen nothing."""
        return self.stage.init(self.params, self.signal, rows)

    def step(self, state: State, x: Floats) -> Ran:
        """One call, with a mark on every sample."""
        rows, channels, samples = x.shape
        if channels != self.signal.channels:
            raise ValueError(f"{channels} channels: expected {self.signal.channels}")
        marks = Marks(np.repeat(np.arange(rows), samples), np.tile(np.arange(samples), rows))
        result = self.stage.step(self.params, self.signal, state, x, marks)
        if self.stage.outputs:
            values = list(result.output.reshape(rows, samples, *result.output.shape[1:]))
        else:
            lengths = np.full(rows, samples) if result.lengths is None else result.lengths
            values = [
                np.moveaxis(own[:, :length], 0, 1)[..., np.newaxis]
                for own, length in zip(result.output, lengths.tolist(), strict=True)
            ]
            if result.last is not None:
                _check_last(result.last.reshape(rows, samples), lengths)
        return Ran(values, result.full.reshape(rows, samples), result.state)

    def run(self, x: Floats, cuts: Sequence[int] = ()) -> Ran:
        """All samples of ``x`` (rows, channels, samples) from fresh state, in calls that end at the cuts."""
        return self.go_on(self.fresh(len(x)), x, cuts)

    def go_on(self, state: State, x: Floats, cuts: Sequence[int] = ()) -> Ran:
        """As `run`, from a state."""
        parts = []
        for part in np.split(x, list(cuts), axis=-1):
            parts.append(self.step(state, part))
            state = parts[-1].state
        values = [np.concatenate(own) for own in zip(*(part.values for part in parts), strict=True)]
        return Ran(values, np.concatenate([part.full for part in parts], axis=1), state)


def trials(stage: Stage, examples: Sequence[Mapping[str, Any]] = ()) -> list[Trial]:
    """Each example of a stage, on the fewest channels that it takes; and, where it takes it, on one channel more."""
    found = []
    for given in examples or stage.examples:
        params = msgspec.convert(in_samples(stage.params, dict(given), EXAMPLE_RATE), stage.params)
        taken = accepted_channels(stage, params)
        if not taken:
            raise NonConformanceError(f"example {dict(given)}: taken on none of 1 to {MOST_CHANNELS} channels")
        found += [Trial(stage, params, Signal(EXAMPLE_RATE, channels)) for channels in taken[:2]]
    return found


def accepted_channels(stage: Stage, params: Any) -> list[int]:
    """Give the counts of channels, up to `MOST_CHANNELS`, that a stage takes."""
    taken = []
    for channels in range(1, MOST_CHANNELS + 1):
        signal = Signal(EXAMPLE_RATE, channels)
        try:
            stage.signal(params, signal)
            stage.init(params, signal, 0)
        except ValueError:
            continue
        taken.append(channels)
    return taken


def _check_last(last: NDArray[np.intp], lengths: NDArray[np.intp]) -> None:
    if (np.diff(last, axis=1) < 0).any() or (last.min(initial=0) < -1) or (last[:, -1] != lengths - 1).any():
        raise NonConformanceError(
            f"last {last.tolist()} of series of {lengths.tolist()}: expected to rise to each length - 1"
        )


def same(one: Ran, other: Ran, what: str) -> None:
    """Check that two runs are alike to the last bit."""
    for row, (own, its) in enumerate(zip(one.values, other.values, strict=True)):
        if own.shape != its.shape or own.tobytes() != its.tobytes():
            raise NonConformanceError(f"{what}: row {row}: {_first_difference(own, its)}")
    if one.full.tobytes() != other.full.tobytes():
        raise NonConformanceError(f"{what}: full is not the same")
    for name, array in one.state.items():
        if array.tobytes() != other.state[name].tobytes():
            raise NonConformanceError(f"{what}: state {name!r} is not the same")


def _first_difference(one: Floats, other: Floats) -> str:
    if one.shape != other.shape:
        return f"values of shape {one.shape} and {other.shape}"
    if one.size == 0:
        return "no values"
    place = np.unravel_index(np.argmax((one != other) | (np.signbit(one) != np.signbit(other))), one.shape)
    return f"value {one[place]!r} and {other[place]!r} at {tuple(map(int, place))}"


def check_chunks(trial: Trial, x: Floats, cuts: Sequence[int]) -> None:
    """Check that any split of the samples into calls gives the same."""
    same(trial.run(x, cuts), trial.run(x), f"cut at {list(cuts)}")


def check_rows(trial: Trial, x: Floats, order: Sequence[int], cuts: Sequence[int]) -> None:
    """Check that a row gives the same beside any others, in any order."""
    _same_alone(trial, x, trial.run(x[list(order)], cuts), dict(enumerate(order)), cuts)


def check_large_batch(trial: Trial, x: Floats, rows: Sequence[int]) -> None:
    """Check that some rows give the same alone as in a batch of many."""
    _same_alone(trial, x, trial.run(x), {row: row for row in rows}, ())


def _same_alone(trial: Trial, x: Floats, together: Ran, rows: Mapping[int, int], cuts: Sequence[int]) -> None:
    """Compare a run of many rows with runs of single ones; ``rows`` says which row of ``x`` is at each place."""
    for place, row in rows.items():
        own = Ran(
            together.values[place : place + 1],
            together.full[place : place + 1],
            {name: array[place : place + 1] for name, array in together.state.items()},
        )
        same(own, trial.run(x[row : row + 1], cuts), f"row {row} of {len(together.values)}")


def check_channels(trial: Trial, x: Floats, cuts: Sequence[int]) -> None:
    """Check that a channel gives the same beside any others, unless the stage says that it mixes them."""
    if trial.stage.mixes:
        return
    together, alone = trial.run(x, cuts), Trial(trial.stage, trial.params, trial.signal._replace(channels=1))
    for channel in range(trial.signal.channels):
        own = alone.run(x[:, channel : channel + 1])
        width = own.values[0].shape[1]
        values = [row[:, channel * width : (channel + 1) * width] for row in together.values]
        same(Ran(values, together.full, {}), own, f"channel {channel} of {trial.signal.channels}")


def check_marks(trial: Trial, x: Floats, rows: NDArray[np.intp], last: NDArray[np.intp]) -> None:
    """Check that a value does not depend on which others are taken."""
    state = trial.run(x[..., :100]).state
    every = trial.step(state, x[..., 100:])
    result = trial.stage.step(trial.params, trial.signal, state, x[..., 100:], Marks(rows, last))
    if result.full.tobytes() != every.full[rows, last].tobytes():
        raise NonConformanceError("full depends on the other marks")
    if trial.stage.outputs:
        own = np.stack([every.values[row][place] for row, place in zip(rows, last, strict=True)])
        if result.output.tobytes() != own.tobytes():
            raise NonConformanceError("a value depends on the other marks")


def check_resume(trial: Trial, x: Floats, others: Floats, at: int, row: int) -> None:
    """Check that state put as bytes into another row of a larger batch goes on as if nothing had happened."""
    first = trial.run(x[:1, :, :at])
    state = {name: array.copy() for name, array in trial.run(others[..., :33]).state.items()}
    for name, array in first.state.items():
        state[name][row] = np.frombuffer(array.tobytes(), array.dtype).reshape(array.shape)[0]
    batch = others.copy()
    batch[row] = x[0]
    second, whole = trial.step(state, batch[..., at:]), trial.run(x[:1])
    both = Ran([np.concatenate([first.values[0], second.values[row]])], whole.full, {})
    same(both, whole, f"resumed at {at}")
    if second.full[row].tobytes() != whole.full[0, at:].tobytes():
        raise NonConformanceError(f"resumed at {at}: full is not the same")


def check_state(trial: Trial, x: Floats) -> None:
    """Check that state is plain arrays with the row first, of one shape and type for good."""
    for rows in (0, 1, 3):
        for name, array in trial.fresh(rows).items():
            if name in (HELD, HELD_FULL, PHASE):
                raise NonConformanceError(f"state {name!r}: the chain keeps its own under this name; take another")
            if array.shape[:1] != (rows,) or array.dtype.kind not in "fiu" or not array.dtype.isnative:
                raise NonConformanceError(f"state {name!r} of {rows} rows: {array.dtype} of shape {array.shape}")
    fresh, after = trial.fresh(len(x)), trial.run(x).state
    if fresh.keys() != after.keys():
        raise NonConformanceError(f"state {sorted(after)}: expected {sorted(fresh)}, as at first")
    for name, array in fresh.items():
        if (after[name].shape, after[name].dtype) != (array.shape, array.dtype):
            raise NonConformanceError(f"state {name!r}: {after[name].dtype} of shape {after[name].shape}")


def check_params(trial: Trial) -> None:
    """Check that parameters survive each encoding, and cannot be changed."""
    params, kind = trial.params, type(trial.params)
    again = (
        msgspec.convert(msgspec.to_builtins(params), kind),
        msgspec.json.decode(msgspec.json.encode(params), type=kind),
        msgspec.msgpack.decode(msgspec.msgpack.encode(params), type=kind),
    )
    if any(own != params for own in again):
        raise NonConformanceError(f"{params} became {again}")
    if not kind.__struct_config__.frozen or not kind.__struct_config__.forbid_unknown_fields:
        raise NonConformanceError(f"{kind.__qualname__}: expected frozen=True, forbid_unknown_fields=True")


def check_described(stage: Stage, module: str) -> None:
    """Check that a stage, the module that it is in and each of its parameters are described."""
    wanted = {
        "oracle": stage.oracle,
        f"module {module}": import_module(module).__doc__,
        **{function.__name__: function.__doc__ for function in (stage.init, stage.step, stage.settle)},
    }
    missing = [name for name, text in wanted.items() if not text]
    missing += [
        f"parameter {name}" for name in stage.params.__struct_fields__ if name not in (stage.params.__doc__ or "")
    ]
    if missing:
        raise NonConformanceError(f"not described: {', '.join(missing)}")


def check_untouched(trial: Trial, x: Floats) -> None:
    """Check that samples and state are left as they are."""
    state = trial.run(x[..., :60]).state
    expected = trial.step(state, x)
    before = {name: array.copy() for name, array in state.items()}
    frozen, given = x.copy(), x.tobytes()
    for array in (frozen, *state.values()):
        array.flags.writeable = False
    same(trial.step(state, frozen), expected, "a second time")
    if frozen.tobytes() != given or any(array.tobytes() != before[name].tobytes() for name, array in state.items()):
        raise NonConformanceError("the samples or the state that it was given have changed")


def check_finite(trial: Trial, x: Floats) -> None:
    """Check that values and state are finite, and nothing overflows on the way."""
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        ran = trial.run(x)
    if not all(np.isfinite(own).all() for own in (*ran.values, *ran.state.values())):
        raise NonConformanceError("a value or state is not finite")


def check_signal(trial: Trial, x: Floats) -> None:
    """Check that what comes out has the channels and the rate that the stage says."""
    gives = trial.stage.signal(trial.params, trial.signal)
    ran = trial.run(x)
    if any(own.shape[1] != gives.channels for own in ran.values):
        raise NonConformanceError(f"{ran.values[0].shape[1]} channels: its signal says {gives.channels}")
    expected = x.shape[-1] * gives.sample_rate / trial.signal.sample_rate
    if not trial.stage.changes_pace:
        if gives.sample_rate != trial.signal.sample_rate:
            raise NonConformanceError("another rate comes out: expected changes_pace = True")
        if any(len(own) != x.shape[-1] for own in ran.values):
            raise NonConformanceError("expected one value for each sample")
    elif any(
        abs(len(own) - expected) > max(2.0, 2 * gives.sample_rate / trial.signal.sample_rate) + _late(trial)
        for own in ran.values
    ):
        raise NonConformanceError(f"{len(ran.values[0])} values: its rate says {expected:.1f}")


def _late(trial: Trial) -> float:
    """Values that a stage may be late with, as it waits for its first window."""
    gives = trial.stage.signal(trial.params, trial.signal)
    settle = min(trial.stage.settle(trial.params, trial.signal), 10_000)
    return settle * gives.sample_rate / trial.signal.sample_rate
