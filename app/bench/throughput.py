"""Throughput of one worker on one core: from a filled topic to the last feature appended, beside other contenders.

While a contender runs, nothing else does but the brokers: the ends of its output are asked for now and then, and only
after it has stopped are its records read and checked against the offline pass. The time is that between the first and
the last record's append, by the broker's clock.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from app.bench.capacity import capacity_of
from app.bench.contenders import BareKafka, Contender, Continuum, PlainFaust
from app.bench.cores import kept_on, one_apart
from app.bench.errors import BenchError
from app.bench.load import Load, Shape
from app.bench.result import Measurement, SuiteResult
from app.bench.run import Run, run_once
from app.bench.surroundings import Surroundings, discard
from app.settings import Settings

RATE, CPU = "throughput", "CPU"
PLAIN, BARE, DSP = "plain Faust agent", "bare aiokafka", "DSP alone"
SLOWER = 40
"""How many times fewer blocks the plain agent gets."""
MOST_BYTES = 5 << 29
"""Of a load: longer runs would measure the disk."""
SAMPLE_BYTES = {"json": 7.2, "msgpack": 4.0, "frame": 4.0}
DSP_SAMPLES = 50_000_000
"""Of a run of the DSP alone, which holds them in memory."""
ROOT = Path(__file__).parents[2]
_OVERHEAD = 120
"""Bytes of a block beside its samples."""
_SPARE = 1.5
"""Times what the blocks take, for states and features."""
_LEAST_BLOCKS = 2
"""A sensor sends in each run."""


@dataclass(frozen=True)
class Plan:
    """What is measured.

    Attributes
    ----------
    shapes
        Of the blocks, a case each.
    checkpoint_seconds
        Between checkpoints, a contender each; None for none but at the end.
    seconds
        About how long a run of ours lasts: longer than between two checkpoints, so that one is in it.
    repeats
        Runs of each contender, in turn.
    warm_up
        Blocks of the first, uncounted run of each contender: for what is compiled as it runs, here and in the broker.
    """

    shapes: Sequence[Shape]
    checkpoint_seconds: Sequence[float | None]
    seconds: float
    repeats: int
    warm_up: int = 60_000


async def measure_throughput(
    plan: Plan, surroundings: Surroundings, result: SuiteResult, progress: Callable[[str], None]
) -> None:
    """Run all contenders in turn, several times over.

    Parameters
    ----------
    plan
        What is measured.
    surroundings
        Kafka and Redis.
    result
        Of the suite, which is filled.
    progress
        Told of each run.

    Raises
    ------
    BenchError
        A contender lost a block or computed a wrong feature, or there is no room for the blocks.
    """
    result.conditions.settings |= {"seconds a run": plan.seconds, "checkpoints by blocks of a sensor": "off"}
    with one_apart(surroundings, result) as core:
        found = {}
        for number, shape in enumerate(plan.shapes):
            own = surroundings.part(f"warm-up{number}")
            found[shape] = await _warm_up(shape, plan, own, surroundings, core)
            progress(f"warm-up of {shape.case}: {found[shape].blocks_per_second:,.0f} blocks/s")
        blocks = {shape: _blocks_per_sensor(shape, run, plan) for shape, run in found.items()}
        _check_room(surroundings, blocks)
        contenders: list[Contender] = []
        for number, (shape, each) in enumerate(blocks.items()):
            load = Load(shape, surroundings.part(f"load{number}"), each)
            contenders += _contenders(load, plan, core, found[shape].size)
            if shape.encoding == "json":
                fewer = Load(shape, surroundings.part(f"plain{number}"), max(1, each // SLOWER))
                contenders.append(PlainFaust(PLAIN, fewer, core))
        for load in dict.fromkeys(contender.load for contender in contenders):
            progress(f"filling a topic with {load.blocks:,} blocks: {load.shape.case}")
            await load.create_topics()
            await load.fill()
        for number in range(1, plan.repeats + 1):
            for contender in contenders:
                run = await run_once(contender, surroundings)
                measured = result.measurement(contender.load.shape.case, contender.name)
                _add(measured, run, contender)
                told = f"{measured.label}: {run.blocks_per_second:,.0f} blocks/s"
                progress(f"run {number} of {plan.repeats}: {told}, {run.worker:.1f} µs of its CPU each")
            for shape, each in _unlike(blocks):
                measured = result.measurement(_dsp_case(shape), DSP)
                seconds = await _dsp_alone(shape, each, core)
                measured.add(RATE, 1 / seconds, "blocks/s", "higher")
                measured.add(CPU, 1e6 * seconds, "µs/block", "lower")
    _compare(plan, result)


def _contenders(load: Load, plan: Plan, cores: frozenset[int], size: int) -> list[Contender]:
    """Give those that read the whole load."""
    ours = [Continuum(continuum(seconds), load, cores, seconds) for seconds in plan.checkpoint_seconds]
    return [*ours, BareKafka(BARE, load, cores, size)]


def continuum(checkpoint_seconds: float | None) -> str:
    """Name our contender."""
    return f"Continuum, checkpoints {'off' if checkpoint_seconds is None else f'every {checkpoint_seconds:g} s'}"


async def _warm_up(
    shape: Shape, plan: Plan, settings: Settings, surroundings: Surroundings, cores: frozenset[int]
) -> Run:
    """Run each contender once, uncounted; gives the run of ours."""
    load = Load(shape, settings, max(1, plan.warm_up // shape.sensors))
    await load.create_topics()
    await load.fill()
    (own, *_) = _contenders(load, plan, cores, 0)
    run = await run_once(own, surroundings)
    await run_once(BareKafka(BARE, load, cores, run.size), surroundings)
    await discard(settings)
    return run


def _blocks_per_sensor(shape: Shape, run: Run, plan: Plan) -> int:
    most = MOST_BYTES / (SAMPLE_BYTES[shape.encoding] * shape.block + _OVERHEAD)
    return max(_LEAST_BLOCKS, round(min(run.blocks_per_second * plan.seconds, most) / shape.sensors))


def _check_room(surroundings: Surroundings, blocks: dict[Shape, int]) -> None:
    if surroundings.kafka_pid is None:
        return
    needed = sum(
        each * shape.sensors * (SAMPLE_BYTES[shape.encoding] * shape.block + _OVERHEAD)
        for shape, each in blocks.items()
    )
    free = shutil.disk_usage(surroundings.settings.datadir).free
    if needed * _SPARE > free:
        raise BenchError(
            f"the blocks take {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are free in"
            f" {surroundings.settings.datadir}: make room, name a folder on another disk in CONTINUUM_DATADIR, or give"
            " fewer cases or --seconds"
        )


def _add(measured: Measurement, run: Run, contender: Contender) -> None:
    measured.add(RATE, run.blocks_per_second, "blocks/s", "higher")
    measured.add(CPU, run.worker, "µs/block", "lower")
    measured.add("first thread's CPU", run.main_thread, "µs/block", "lower")
    if run.kafka is not None:
        measured.add("Kafka's CPU", run.kafka, "µs/block", "lower")
    if run.redis is not None:
        measured.add("Redis' CPU", run.redis, "µs/block", "lower")
    measured.details["blocks a run"] = contender.records


def _unlike(blocks: dict[Shape, int]) -> list[tuple[Shape, int]]:
    """Give a shape for each number of sensors and block: to the DSP alone, encodings are the same."""
    return list({(shape.sensors, shape.block): (shape, each) for shape, each in blocks.items()}.values())


def _dsp_case(shape: Shape) -> str:
    return f"{shape.sensors:,} sensors, blocks of {shape.block:,}"


async def _dsp_alone(shape: Shape, blocks_per_sensor: int, cores: frozenset[int]) -> float:
    """Measure the engine alone in a process of its own; gives its CPU, s a block."""
    each = max(1, min(blocks_per_sensor, DSP_SAMPLES // (shape.sensors * shape.block)))
    command = [sys.executable, "-m", "app.bench.dsp_alone", *map(str, (shape.sensors, shape.block, each))]
    with kept_on(cores):
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, cwd=ROOT)
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        raise BenchError("the engine alone has failed: see above what it raised")
    answer = msgspec.json.decode(output, type=dict[str, float])
    return answer["seconds"] / answer["blocks"]


def _compare(plan: Plan, result: SuiteResult) -> None:
    """Set ours beside the others."""
    for shape in plan.shapes:
        ours = [result.measurement(shape.case, continuum(seconds)) for seconds in plan.checkpoint_seconds]
        others = [result.measurement(shape.case, BARE), result.measurement(_dsp_case(shape), DSP)]
        json = Shape("json", shape.sensors, shape.block)
        if json in plan.shapes:
            others.insert(0, result.measurement(json.case, PLAIN))
        for own in ours:
            for other in others:
                result.compare(RATE, own, other)
        for seconds, own in zip(plan.checkpoint_seconds, ours, strict=True):
            result.capacity.append(capacity_of(shape, seconds, own.figures[RATE].runs))
