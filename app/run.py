"""A recording through a pipeline without a broker: the feature records that a worker would send."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.dsp.engine import Engine
from app.dsp.errors import PipelineError
from app.dsp.pipeline import Pipeline
from app.dsp.pipeline_file import parse_pipeline
from app.dsp.snapshot import Position
from app.dsp.stream import Blocks
from app.errors import ContinuumError
from app.pipelines import known_pipelines
from app.sources import Recording
from app.wire.blocks import MAX_SAMPLES, MAX_SENSOR_ID
from app.wire.decode import LARGEST_SAMPLE, BlockColumns
from app.wire.features import FeatureEncoder

TIER = "offline"
"""What the records name as their tier."""

BATCH_SAMPLES = 1 << 12
"""Samples worked on at once. A block may be one sample, and then each needs a window of its own in memory."""


class RunError(ContinuumError):
    """A recording cannot be run through a pipeline as asked."""


def find_pipeline(name: str, folder: Path | None) -> Pipeline:
    """Give the known pipeline of a name, or the one in a TOML file.

    Parameters
    ----------
    name
        Name or path.
    folder
        Of the user's pipelines.

    Raises
    ------
    RunError
        There is neither, or the file does not hold a pipeline.
    """
    known = known_pipelines(folder)
    if name in known:
        return known[name]
    try:
        return parse_pipeline(Path(name).read_text(encoding="utf-8"), name)
    except PipelineError as error:
        raise RunError(str(error)) from None
    except (OSError, UnicodeDecodeError) as error:
        names = ", ".join(sorted(known))
        raise RunError(f"pipeline {name!r} ({error}): expected one of {names}, or the path of a TOML file") from None


@dataclass(frozen=True, eq=False)
class Run:
    """A recording as one sensor's stream, in blocks of one length, the last one as short as it comes.

    A block that touches a sample without a valid value is left out, and the next one finds a gap; unless the pipeline
    repairs such samples.

    Attributes
    ----------
    pipeline
        What to compute.
    recording
        One channel for each of the pipeline's, at its rate.
    block
        Samples a block, counted per channel.
    sensor
        What the records call the sensor.

    Raises
    ------
    RunError
        From the constructor: rates or channels do not fit, a value is out of its range, or no block is valid.
    """

    pipeline: Pipeline
    recording: Recording = field(repr=False)
    block: int
    sensor: str

    def __post_init__(self) -> None:
        name, signal, recording = self.pipeline.name, self.pipeline.signal, self.recording
        if recording.sample_rate != signal.sample_rate:
            raise RunError(
                f"{recording.name} has {recording.sample_rate:.10g} Hz, and pipeline {name} takes"
                f" {signal.sample_rate:.10g} Hz; resample it: --resample {signal.sample_rate:.10g}"
            )
        if len(recording.signals) != signal.channels:
            raise RunError(f"{len(recording.signals)} channels: pipeline {name} takes {signal.channels}; name as many")
        if not 1 <= self.block * signal.channels <= MAX_SAMPLES:
            raise RunError(
                f"{self.block} samples a block: expected 1 to {MAX_SAMPLES // signal.channels}, as on a sensor topic"
            )
        if not 1 <= len(self.sensor.encode()) <= MAX_SENSOR_ID:
            raise RunError(f"sensor {self.sensor!r}: expected a name of 1 to {MAX_SENSOR_ID} bytes")
        if not self._valid.any():
            raise RunError(
                f"no {self.block} samples in a row of {recording.name} are valid; choose another channel or smaller"
                " blocks"
            )

    @property
    def total_blocks(self) -> int:
        """How many blocks the recording has, those left out too."""
        return len(self._valid)

    @property
    def left_out(self) -> int:
        """How many blocks touch an invalid sample."""
        return int((~self._valid).sum())

    def records(self) -> Iterator[list[bytes]]:
        """Give the feature records, some at a time."""
        engine, encoder = Engine(self.pipeline), FeatureEncoder(self.pipeline, TIER)
        (sensor,) = engine.admit([self.sensor])
        channels, rate = self.pipeline.signal.channels, self.pipeline.signal.sample_rate
        begin = self.recording.start.timestamp() * 1000 if self.recording.start else 0.0
        numbers = np.flatnonzero(self._valid)
        size = max(1, BATCH_SAMPLES // (self.block * channels))
        for first in range(0, len(numbers), size):
            starts = (numbers[first : first + size] * self.block).tolist()
            # Channel by channel in the recording, interleaved in a block.
            pieces = [self.recording.signals[:, start : start + self.block].T.ravel() for start in starts]
            timestamps = [round(begin + start * 1000 / rate) for start in starts]
            bounds = np.cumsum([0, *(len(piece) for piece in pieces)]).tolist()
            offsets = range(first, first + len(starts))
            features = engine.process(
                Blocks(
                    [sensor] * len(starts),
                    timestamps,
                    starts,
                    [None] * len(starts),
                    offsets,
                    np.concatenate(pieces),
                    bounds,
                ),
                Position(TIER, 0, offsets.stop),
                confirmed=True,
            )
            yield encoder.encode(BlockColumns(self.pipeline, [self.sensor] * len(starts), timestamps), features)

    @cached_property
    def _valid(self) -> NDArray[np.bool_]:
        """(blocks,) whether every sample of a block can be computed with."""
        signals = self.recording.signals
        # NaN makes the comparison false.
        faulty = ~(np.abs(signals) < LARGEST_SAMPLE)
        if self.pipeline.non_finite != "reject":
            faulty &= np.isfinite(signals)
        invalid = np.asarray(faulty.any(axis=0))
        before = np.concatenate([[0], np.cumsum(invalid)])
        starts = np.arange(0, len(invalid), self.block)
        valid: NDArray[np.bool_] = before[np.minimum(starts + self.block, len(invalid))] == before[starts]
        return valid
