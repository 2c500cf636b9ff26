"""Feeding an engine by hand: blocks in, features out, one partition at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.dsp.engine import Engine, Features
from app.dsp.pipeline import Pipeline
from app.dsp.pipeline_file import parse_pipeline
from app.dsp.snapshot import Position
from app.dsp.stream import Blocks

TOPIC = "rt-sensors"

#: Each channel runs the chain of `ecg`.
TWO_CHANNELS = """
name = "two-channels"
sample_rate = 250.0
channels = 2
[[stages]]
name = "bandpass"
type = "butterworth"
btype = "bandpass"
order = 4
cutoff = [0.5, 100.0]
[[stages]]
name = "rms"
type = "moving_rms"
window = 50
[[stages]]
name = "hjorth"
type = "hjorth"
window = 256
[features]
rms = "rms"
hjorth_mobility = "hjorth.mobility"
hjorth_complexity = "hjorth.complexity"
hjorth_activity = "hjorth.activity"
"""


def two_channels() -> Pipeline:
    return parse_pipeline(TWO_CHANNELS, "two-channels.toml")


@dataclass(frozen=True, eq=False)
class Block:
    """A sensor's block, as it comes in a message."""

    sensor: str
    samples: NDArray[np.float64]
    """Channels interleaved."""
    seq: int | None = None
    timestamp: int = 0
    offset: int | None = None
    """Of its message; else one more than the block's before."""
    stream: str | None = None


class Partition:
    """A partition whose blocks an engine consumes, batch after batch."""

    def __init__(self, engine: Engine, number: int = 0) -> None:
        self.engine = engine
        self.number = number
        self.end = 0

    def feed(self, *batch: Block, confirmed: bool = True) -> Features:
        """Consume a batch; sensors that are not known are admitted."""
        unknown = dict.fromkeys(block.sensor for block in batch if block.sensor not in self.engine.sensors)
        self.engine.admit(list(unknown))
        offsets = []
        for block in batch:
            offsets.append(self.end if block.offset is None else block.offset)
            self.end = offsets[-1] + 1
        return self.engine.process(
            Blocks(
                [self.engine.sensors[block.sensor] for block in batch],
                [block.timestamp for block in batch],
                [block.seq for block in batch],
                [block.stream for block in batch],
                offsets,
                np.concatenate([block.samples for block in batch]),
                np.cumsum([0, *(len(block.samples) for block in batch)]).tolist(),
            ),
            Position(TOPIC, self.number, self.end),
            confirmed=confirmed,
        )


def move(engine: Engine, sensors: Sequence[str]) -> None:
    """Save sensors, forget them, and take them in again from their snapshots."""
    present = [engine.sensors[name] for name in sensors if name in engine.sensors]
    snapshots = dict(zip([sensor.id for sensor in present], engine.snapshots(present), strict=True))
    engine.evict(present)
    engine.restore(snapshots)


def blocks(sensor: str, samples: NDArray[np.float64], lengths: Sequence[int], channels: int = 1) -> list[Block]:
    """Cut interleaved samples into one sensor's blocks, with the index of each."""
    result, start = [], 0
    for length in lengths:
        result.append(Block(sensor, samples[start * channels : (start + length) * channels], start, start * 4))
        start += length
    return result
