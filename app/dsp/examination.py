"""A whole examination of a stage: every check of `app.dsp.conformance`, on what a seed draws."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np

from app.dsp.conformance import (
    NonConformanceError,
    Trial,
    check_channels,
    check_chunks,
    check_described,
    check_finite,
    check_large_batch,
    check_marks,
    check_params,
    check_resume,
    check_rows,
    check_signal,
    check_state,
    check_untouched,
    trials,
)
from app.dsp.stage import Floats, Indices, Stage

SAMPLES = 700
_ROWS = 5


class Check(NamedTuple):
    """One check of a stage."""

    name: str
    on: str
    """Parameters and channels that it is made with."""
    made: Callable[[], None]

    def fault(self) -> str | None:
        """Make it; gives what is wrong, None if nothing is."""
        try:
            self.made()
        except NonConformanceError as error:
            return str(error)
        except Exception as error:  # noqa: BLE001 - a stage may raise anything
            return f"it raised {error!r}"
        return None


def extremes(samples: int) -> dict[str, Floats]:
    """Signals on which all must stay finite, by name: (samples,) values each, or a single one."""
    places = np.arange(samples)
    return {
        "zero": np.zeros(samples),
        "constant": np.full(samples, 0.1),
        "one sample": np.ones(1),
        "ramp": places * 0.1,
        "huge": np.full(samples, 1e150),
        "huge, alternating": np.where(places % 2, 1e150, -1e150),
        "huge noise": np.random.default_rng(1).uniform(-1e150, 1e150, samples),
        "huge, then rest": np.where(places < 300, -1e150, 0.0),
        "tiny": np.random.default_rng(2).normal(size=samples) * 1e-160,
        "smallest": np.where(places % 3, 5e-324, 0.0),
    }


@dataclass
class _Draw:
    """What a check is made on.

    Parameters
    ----------
    rng
        To draw from.
    channels
        That the stage is tried on.
    """

    rng: np.random.Generator
    channels: int

    def signal(self, rows: int, samples: int = SAMPLES) -> Floats:
        """Draw noise on a walk with a burst, (rows, channels, samples), each row at another scale."""
        x = self.rng.normal(size=(rows, self.channels, samples))
        x = np.cumsum(x, axis=-1) + 10 * x
        x[..., samples // 3 : samples // 3 + 5] += 1e3
        scaled: Floats = x * 1.3 ** (np.arange(rows) % 16)[:, np.newaxis, np.newaxis]
        return scaled

    def cuts(self) -> list[int]:
        """Draw places where calls end: a few, or one every so often."""
        if self.rng.random() < 0.5:
            step = int(self.rng.integers(5, 300))
            return list(range(step, SAMPLES, step))
        return self.ends(int(self.rng.integers(0, 9)))

    def ends(self, count: int) -> list[int]:
        """Draw so many places inside the samples."""
        places: list[int] = self.rng.choice(np.arange(1, SAMPLES), count, replace=False).tolist()
        return sorted(places)

    def company(self) -> list[int]:
        """Draw some rows in any order."""
        order: list[int] = self.rng.permutation(_ROWS).tolist()
        return order[: self.rng.integers(1, _ROWS + 1)]

    def marks(self, rows: int) -> tuple[Indices, Indices]:
        """Draw rows of some marks, and their places."""
        count = int(self.rng.integers(1, 20))
        return self.rng.integers(0, rows, count), self.rng.integers(0, SAMPLES - 100, count)


_Made = Callable[[Trial, _Draw], None]

#: Checks with something to draw that matters, each made several times.
_REPEATED: dict[str, _Made] = {
    "chunks": lambda trial, draw: check_chunks(trial, draw.signal(2), draw.cuts()),
    "rows": lambda trial, draw: check_rows(trial, draw.signal(_ROWS), draw.company(), draw.cuts()),
    "channels": lambda trial, draw: check_channels(trial, draw.signal(2), draw.cuts()),
    "marks": lambda trial, draw: check_marks(trial, draw.signal(3), *draw.marks(3)),
    "resume": lambda trial, draw: check_resume(
        trial, draw.signal(1), draw.signal(_ROWS), draw.ends(1)[0], int(draw.rng.integers(_ROWS))
    ),
}

_ONCE: dict[str, _Made] = {
    "parameters": lambda trial, _: check_params(trial),
    "state": lambda trial, draw: check_state(trial, draw.signal(3)),
    "input untouched": lambda trial, draw: check_untouched(trial, draw.signal(3)),
    "signal": lambda trial, draw: check_signal(trial, draw.signal(2)),
    "sample by sample": lambda trial, draw: check_chunks(trial, draw.signal(1, 400), range(1, 400)),
    "large batch": lambda trial, draw: check_large_batch(trial, draw.signal(67, 300), (0, 1, 33, 66)),
}


def _finite(values: Floats, trial: Trial, _: _Draw) -> None:
    x = np.broadcast_to(values, (1, trial.signal.channels, len(values)))
    check_finite(trial, np.ascontiguousarray(x))


def examination(stage: Stage, module: str, *, seed: int, rounds: int) -> list[Check]:
    """List all checks of a stage: with each of its examples, on the fewest channels that it takes and on one more.

    Parameters
    ----------
    stage
        To examine.
    module
        Name of the module that it is in.
    seed
        Of what is drawn: signals, cuts, companies, marks and restore points.
    rounds
        How often each check is made that depends on what is drawn.

    Raises
    ------
    NonConformanceError
        Its examples are not ones: a pipeline would refuse them.
    """
    of_each = list(_ONCE.items()) + [item for item in _REPEATED.items() for _ in range(rounds)]
    of_each += [(f"finite: {name}", partial(_finite, values)) for name, values in extremes(SAMPLES).items()]
    found = [Check("described", "", partial(check_described, stage, module))]
    for given in stage.examples:
        try:
            tried = trials(stage, [given])
        except ValueError as error:
            raise NonConformanceError(f"example {dict(given)}: {error}") from None
        words = ", ".join(f"{name} = {value!r}" for name, value in given.items()) or "no parameters"
        for trial in tried:
            channels = trial.signal.channels
            for number, (name, made) in enumerate(of_each):
                draw = _Draw(np.random.default_rng([seed, number]), channels)
                found.append(Check(name, f"{words}; {channels} channel(s)", partial(made, trial, draw)))
    return found
