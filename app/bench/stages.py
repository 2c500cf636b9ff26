"""Speed of single stages: each with its first example, on batches as an engine hands them out.

A pass times every stage over the same blocks of real ECG, a slab of rows at a time as the engine does, and passes are
many: so what else the machine does meanwhile touches all stages alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from app.bench.conditions import Conditions
from app.bench.result import Measurement, SuiteResult
from app.bench.stage_speeds import Speed, StageSpeeds
from app.dsp.conformance import Trial
from app.dsp.engine import SLAB_SAMPLES
from app.dsp.stage import Floats, Marks, State
from app.dsp.stages import STAGES
from app.pipelines.stage_list import usual_trial
from app.sources import builtin_ecg

ROWS, SAMPLES = 1000, 256
_SLAB = SLAB_SAMPLES // SAMPLES
_LEAST_SECONDS = 0.03
"""Of a timing: as many steps over a batch as that takes."""


def measure_stages(
    kinds: Sequence[str], repeats: int, result: SuiteResult, progress: Callable[[str], None]
) -> list[Measurement]:
    """Measure stages in turn, several times over, and add what was measured, which is given back too.

    Parameters
    ----------
    kinds
        Types of the stages.
    repeats
        Passes over all of them.
    result
        Of the suite; the batch is added to its conditions.
    progress
        Told what has been measured.
    """
    result.conditions.remarks["stages"] = f"{ROWS:,} sensors x {SAMPLES} samples, {_SLAB} sensors at a time"
    batches = {kind: _Batch(usual_trial(STAGES[kind])) for kind in kinds}
    for batch in batches.values():
        batch.speed()  # fills windows, and designs what is designed once
    measured = {kind: result.measurement("stage", kind) for kind in kinds}
    for number in range(1, repeats + 1):
        for kind, batch in batches.items():
            measured[kind].add("throughput", batch.speed() / 1e6, "M samples/s", "higher")
        progress(f"pass {number} of {repeats}")
    return list(measured.values())


def stage_speeds(measured: Sequence[Measurement], conditions: Conditions) -> StageSpeeds:
    """Give the speeds as the manual's table keeps them."""
    figures = {own.contender: own.figures["throughput"] for own in measured}
    lines = conditions.lines()
    about = {name: lines[name] for name in ("cpu", "python", "libraries", "commit")}
    passes = len(next(iter(figures.values())).runs)
    return StageSpeeds(
        {**about, "batch": lines["stages"], "passes": str(passes)},
        {kind: Speed(own.spread.min, own.spread.median, own.spread.max) for kind, own in figures.items()},
    )


class _Batch:
    """A stage on a batch, over and over."""

    def __init__(self, trial: Trial) -> None:
        self._trial = trial
        channels = trial.signal.channels
        self._state = trial.fresh(ROWS)
        self._samples = ROWS * channels * SAMPLES
        self._slabs = list(_slabs(channels))

    def speed(self) -> float:
        """Step all rows over the batch, again and again; gives samples/s, all channels counted."""
        began = time.perf_counter()
        steps, elapsed = 0, 0.0
        while elapsed < _LEAST_SECONDS:
            self._step()
            steps += 1
            elapsed = time.perf_counter() - began
        return steps * self._samples / elapsed

    def _step(self) -> None:
        trial = self._trial
        for rows, x, marks in self._slabs:
            own: State = {name: array[rows] for name, array in self._state.items()}
            after = trial.stage.step(trial.params, trial.signal, own, x, marks).state
            for name, array in after.items():
                self._state[name][rows] = array


def _slabs(channels: int) -> Iterator[tuple[slice, Floats, Marks]]:
    """Blocks of ECG for all rows, each from another place of the recording, with a mark at their ends."""
    ecg = builtin_ecg().channel(0)
    starts = np.arange(ROWS * channels) * 61 % (len(ecg) - SAMPLES)
    x = np.stack([ecg[start : start + SAMPLES] for start in starts]).reshape(ROWS, channels, SAMPLES)
    for begin in range(0, ROWS, _SLAB):
        rows = slice(begin, min(begin + _SLAB, ROWS))
        count = rows.stop - rows.start
        yield rows, np.ascontiguousarray(x[rows]), Marks(np.arange(count), np.full(count, SAMPLES - 1))
