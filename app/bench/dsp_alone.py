"""The engine alone, on the same blocks as a worker's but decoded beforehand.

``python -m app.bench.dsp_alone SENSORS BLOCK BLOCKS_PER_SENSOR``: the blocks lie as a worker gets them, a poll's
number of one partition at a time. Prints as JSON how many there were, and the seconds of CPU that they took.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator

import numpy as np

from app.bench.errors import BenchError
from app.bench.expected import Expected
from app.bench.load import PARTITIONS, PIPELINE, Shape
from app.dsp.engine import Engine, Features
from app.dsp.snapshot import Position
from app.dsp.stream import Blocks, Sensor
from app.memory import collect_less_often, keep_freed_memory
from app.pipelines import shipped_pipelines
from app.replay import Plan
from app.verify import TOLERANCE

POLL_RECORDS = 1000


def portions(plan: Plan, sensors: list[Sensor]) -> Iterator[tuple[list[int], Blocks]]:
    """Give the numbers of the sensors of each block, and the blocks, as many as a poll has."""
    signals = [plan.signal(number) for number in range(len(sensors))]
    block = plan.block
    for partition in range(PARTITIONS):
        own = range(partition, len(sensors), PARTITIONS)
        places = [(number, at) for at in range(plan.blocks_per_sensor) for number in own]
        for begin in range(0, len(places), POLL_RECORDS):
            part = places[begin : begin + POLL_RECORDS]
            count = len(part)
            yield (
                [number for number, _ in part],
                Blocks(
                    [sensors[number] for number, _ in part],
                    [round(at * block * 1000 / plan.sample_rate) for _, at in part],
                    [at * block for _, at in part],
                    [None] * count,
                    range(begin, begin + count),
                    np.concatenate([signals[number][at * block : (at + 1) * block] for number, at in part]),
                    range(0, (count + 1) * block, block),
                ),
            )


def measure(plan: Plan) -> float:
    """Take all blocks through the engine; gives the seconds of CPU, after the features were checked."""
    engine = Engine(shipped_pipelines()[PIPELINE])
    sensors = engine.admit(list(plan.sensors))
    decoded = list(portions(plan, sensors))
    results: list[Features] = []
    began = time.process_time()
    for _, blocks in decoded:
        position = Position("bench", 0, blocks.offsets[-1] + 1)
        results.append(engine.process(blocks, position, confirmed=True))
    seconds = time.process_time() - began
    expected = Expected.of(plan).values
    for (numbers, _), features in zip(decoded, results, strict=True):
        own = expected[np.array(numbers)[features.block], np.asarray(features.seq) // plan.block]
        given = np.where(features.full, features.values, np.nan)
        if not np.isclose(given, own, rtol=TOLERANCE, atol=0.0, equal_nan=True).all():
            raise BenchError("the engine alone: features are not the offline pass's; nothing was measured")
    return seconds


def main(arguments: list[str]) -> None:
    """Measure, and print what was found."""
    sensors, block, each = map(int, arguments)
    # As a worker does.
    keep_freed_memory()
    collect_less_often()
    measure(Shape("msgpack", min(sensors, PARTITIONS), block).plan(1))  # loads the kernel
    plan = Shape("msgpack", sensors, block).plan(each)
    sys.stdout.write(json.dumps({"blocks": plan.total_blocks, "seconds": measure(plan)}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
