"""Throughput of the engine on each shipped pipeline, beside scipy's bare `sosfilt` of the same samples.

The contenders of a pipeline and batch run in turn, each for a moment at a time, and only the processor's time is
counted. All sensors send real ECG, whatever the pipeline is made for, as a stream that goes on from call to call.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import count, cycle
from statistics import median

import numpy as np
from scipy.signal import butter, sosfilt

from app.dsp.engine import Engine
from app.dsp.fused import load_kernel
from app.dsp.pipeline import Pipeline
from app.dsp.snapshot import Position
from app.dsp.stage import Floats
from app.dsp.stream import Blocks
from app.pipelines import shipped_pipelines
from app.sources import builtin_ecg

BLOCK = 256
BATCHES = (1, 100, 1000)
TURN_SECONDS = 0.1
SOSFILT = "sosfilt"

PUBLISHED = "22 M samples/s, as its authors published, on a machine of theirs; not measured here"
"""What dspx, a library of native code for Node.js, does on such a chain."""

_STRETCHES = 4
"""Stretches of the recording that a sensor sends over and over, so that they are not always in the cache."""

Call = Callable[[], object]
"""One batch."""


@dataclass
class PipelineResult:
    """A contender on one pipeline and batch."""

    pipeline: str
    sensors: int
    contender: str
    rates: list[float] = field(default_factory=list)
    """Samples a second of a core's time, each channel's counted, of each turn."""
    ratios: list[float] = field(default_factory=list)
    """The same as multiples of what `sosfilt` did just before."""

    def spread(self) -> tuple[float, float, float]:
        """Minimum, median and maximum of the rates."""
        return min(self.rates), median(self.rates), max(self.rates)


def numba_version() -> str:
    """Say which numba runs what is fused."""
    return version("numba") if load_kernel() else "none that can be used, so that nothing is fused"


def measure_pipelines(repeats: int, progress: Callable[[str], None]) -> list[PipelineResult]:
    """Run all contenders of each pipeline and batch in turn, so many times over."""
    results = []
    for name, pipeline in shipped_pipelines().items():
        for sensors in BATCHES:
            results += _measure(pipeline, sensors, repeats)
            of_engine = f"{results[-1].spread()[1] / 1e6:.1f} M samples/s"
            progress(f"{name}, {sensors:,} sensors a batch: {results[-1].contender} {of_engine}")
    return results


def _measure(pipeline: Pipeline, sensors: int, repeats: int) -> list[PipelineResult]:
    signals = _signals(sensors, pipeline.signal.channels)
    contenders: dict[str, Call] = {SOSFILT: _sosfilt(signals), "numpy": _engine(Engine(pipeline, fuse=False), signals)}
    if (engine := Engine(pipeline)).fused:
        contenders["fused"] = _engine(engine, signals)
    results = [PipelineResult(pipeline.name, sensors, contender) for contender in contenders]
    for call in contenders.values():
        for _ in range(_STRETCHES):
            call()
    samples = signals[0].size
    for _ in range(repeats):
        for call, result in zip(contenders.values(), results, strict=True):
            result.rates.append(samples * _calls_per_second(call))
            result.ratios.append(result.rates[-1] / results[0].rates[-1])
    return results


def _signals(sensors: int, channels: int) -> list[Floats]:
    """Give the samples (sensors, channels, samples) of some batches."""
    ecg = builtin_ecg().channel(0)
    starts = np.arange(sensors * channels) * 977 % (len(ecg) - _STRETCHES * BLOCK)
    x = np.stack([ecg[start : start + _STRETCHES * BLOCK] for start in starts])
    return [np.ascontiguousarray(part) for part in np.split(x.reshape(sensors, channels, -1), _STRETCHES, axis=-1)]


def _sosfilt(signals: list[Floats]) -> Call:
    sos = butter(4, [0.5, 100.0], "bandpass", fs=250.0, output="sos")
    zi = np.zeros((len(sos), *signals[0].shape[:2], 2))
    parts = cycle(signals)

    def call() -> object:
        nonlocal zi
        y, zi = sosfilt(sos, next(parts), zi=zi)
        return y

    return call


def _engine(engine: Engine, signals: list[Floats]) -> Call:
    parts = cycle([np.ascontiguousarray(part.transpose(0, 2, 1)).ravel() for part in signals])
    own, channels, _ = signals[0].shape
    sensors = engine.admit([f"s{number}" for number in range(own)])
    bounds = (np.arange(own + 1) * BLOCK * channels).tolist()
    numbers = count()

    def call() -> object:
        number = next(numbers)
        seq = number * BLOCK
        time_ms = round(seq * 1000 / engine.pipeline.signal.sample_rate)
        blocks = Blocks(sensors, [time_ms] * own, [seq] * own, [None] * own, [number] * own, next(parts), bounds)
        return engine.process(blocks, Position("bench", 0, number + 1), confirmed=True)

    return call


def _calls_per_second(call: Call) -> float:
    begin, done, seconds = time.process_time(), 0, 0.0
    while not done or seconds < TURN_SECONDS:
        call()
        done += 1
        seconds = time.process_time() - begin
    return done / seconds
