"""Throughput of the engine on each shipped pipeline, beside scipy's bare `sosfilt` of the same samples.

The contenders of a pipeline and batch run in turn, each for a moment at a time, and only the processor's time is
counted. All sensors send real ECG, whatever the pipeline is made for, as a stream that goes on from call to call.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib.metadata import version
from itertools import count, cycle

import numpy as np
from scipy.signal import butter, sosfilt

from app.bench.result import Measurement, SuiteResult
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
RATE = "throughput"

PUBLISHED = "22 M samples/s, as its authors published, on a machine of theirs; not measured here"
"""What dspx, a library of native code for Node.js, does on such a chain."""

_STRETCHES = 4
"""Stretches of the recording that a sensor sends over and over, so that they are not always in the cache."""

Call = Callable[[], object]
"""One batch."""


def numba_in_force() -> str:
    """Say which numba runs what is fused."""
    return version("numba") if load_kernel() else "none that can be used, so that nothing is fused"


def measure_pipelines(repeats: int, result: SuiteResult, progress: Callable[[str], None]) -> None:
    """Run all contenders of each pipeline and batch in turn, so many times over, and add what was measured."""
    for name, pipeline in shipped_pipelines().items():
        for sensors in BATCHES:
            last = _measure(pipeline, sensors, repeats, result)
            rate = last.figures[RATE].spread.median
            progress(f"{name}, {sensors:,} sensors a batch: {last.contender} {rate:.1f} M samples/s")


def _measure(pipeline: Pipeline, sensors: int, repeats: int, result: SuiteResult) -> Measurement:
    signals = _signals(sensors, pipeline.signal.channels)
    contenders: dict[str, Call] = {SOSFILT: _sosfilt(signals), "numpy": _engine(Engine(pipeline, fuse=False), signals)}
    if (engine := Engine(pipeline)).fused:
        contenders["fused"] = _engine(engine, signals)
    case = f"{pipeline.name}, {sensors:,} sensors a batch"
    measured = {name: result.measurement(case, name) for name in contenders}
    for call in contenders.values():
        for _ in range(_STRETCHES):
            call()
    samples = signals[0].size
    for _ in range(repeats):
        for name, call in contenders.items():
            # Of a core's time, each channel's samples counted.
            measured[name].add(RATE, samples * _calls_per_second(call) / 1e6, "M samples/s", "higher")
    bare, *engines = measured.values()
    for own in engines:
        result.compare(RATE, own, bare)
    return engines[-1]


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
