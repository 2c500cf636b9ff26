"""What a replay sends, worked out beforehand: which sensor sends which samples when. Pure: no clock, no I/O."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from app.dsp.pipeline import Pipeline
from app.errors import ContinuumError
from app.sources import Recording
from app.wire.blocks import MAX_SAMPLES, MAX_SENSOR_ID

Encoding = Literal["json", "msgpack", "frame"]
ENCODINGS: tuple[Encoding, ...] = get_args(Encoding)

#: Sensors that share a gateway, as long as its frames stay small.
GATEWAY_SENSORS = 50


class ReplayError(ContinuumError):
    """A replay cannot be done as asked, or was not accepted."""


class Due(NamedTuple):
    """A block's place in the sending order.

    Attributes
    ----------
    time
        Stream time of the block's first sample, s since the replay's beginning.
    sensor
        Index of the sensor.
    block
        Number of the block within its sensor's stream.
    """

    time: float
    sensor: int
    block: int


@dataclass(frozen=True, eq=False)
class Plan:
    """Channels of a recording, played by many simulated sensors.

    The sensors begin at places spread evenly over the recording, go round its end, and send their blocks at
    moments spread evenly over a block's duration, so that load is even. A block that touches a sample without
    a valid value is left out: its stream has a gap there, as when an electrode comes off.

    Attributes
    ----------
    recording
        Shape (samples,), or (samples, channels) of several channels; NaN where there is no valid value.
    sample_rate
        Hz.
    sensors
        Their ids.
    block
        Samples a block, counted per channel.
    blocks_per_sensor
        Length of each sensor's stream, in blocks.
    encoding
        `json` sends every sample exactly; `msgpack` and `frame` round them to float32. `frame` puts the blocks
        of up to `GATEWAY_SENSORS` sensors, which then send together, into one message.
    pipeline
        Name of the pipeline that the blocks ask for; None leaves it to the tier.

    Raises
    ------
    ReplayError
        From the constructor: a value is out of its range.
    """

    recording: NDArray[np.float64] = field(repr=False)
    sample_rate: float
    sensors: tuple[str, ...]
    block: int
    blocks_per_sensor: int
    encoding: Encoding = "json"
    pipeline: str | None = None

    def __post_init__(self) -> None:
        if self.recording.ndim not in {1, 2} or not self.recording.size:
            raise ReplayError(f"recording of shape {self.recording.shape}: expected channels with samples")
        if not 0 < self.sample_rate < np.inf:
            raise ReplayError(f"sampling rate {self.sample_rate} Hz: expected a number above 0")
        _check_block(self.block, self.channels)
        if self.blocks_per_sensor < 1:
            raise ReplayError(f"{self.blocks_per_sensor} blocks a sensor: expected at least 1, so {self.duration:g} s")
        if self.encoding not in ENCODINGS:
            raise ReplayError(f"encoding {self.encoding!r}: expected {', '.join(ENCODINGS)}")
        if not self.sensors or len(set(self.sensors)) < len(self.sensors):
            raise ReplayError(f"{len(self.sensors)} sensors: expected at least one, with different ids")
        for sensor in self.sensors:
            if not 1 <= len(sensor.encode()) <= MAX_SENSOR_ID:
                raise ReplayError(f"sensor id {sensor!r}: expected 1 to {MAX_SENSOR_ID} bytes; give a shorter --name")
        if not self.total_blocks:
            raise ReplayError(
                f"no {self.block} samples in a row are valid; choose another channel or a smaller --block"
            )

    @property
    def channels(self) -> int:
        """How many values a sample has."""
        return 1 if self.recording.ndim == 1 else self.recording.shape[1]

    @property
    def duration(self) -> float:
        """Length of a block, s."""
        return self.block / self.sample_rate

    @property
    def gateway_sensors(self) -> int:
        """Neighbouring sensors that send together: the gateway's for frames, else one."""
        if self.encoding != "frame":
            return 1
        return max(1, min(GATEWAY_SENSORS, MAX_SAMPLES // (self.block * self.channels)))

    @cached_property
    def samples(self) -> NDArray[np.float64] | NDArray[np.float32]:
        """The recording as it is sent, in the type that it is sent in."""
        if self.encoding == "json":
            return self.recording
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and so invalid
            return self.recording.astype(np.float32)

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """The place in the recording at which each sensor begins."""
        count = len(self.sensors)
        return tuple(sensor * len(self.recording) // count for sensor in range(count))

    def signal(self, sensor: int) -> NDArray[np.float64]:
        """Give all that a sensor sends, exactly as it arrives, shape (blocks_per_sensor * block,) or with channels.

        Samples of blocks that are left out are in it too, with NaN where the recording has no valid value.
        """
        turned = np.roll(self.samples, -self.starts[sensor], axis=0)
        return np.resize(turned, (self.blocks_per_sensor * self.block, *turned.shape[1:])).astype(np.float64)

    def place(self, sensor: int, block: int) -> int:
        """Give the place in the recording at which a sensor's block begins."""
        return (self.starts[sensor] + block * self.block) % len(self.recording)

    def blocks(self) -> Iterator[Due]:
        """Give the blocks in sending order."""
        together = self.gateway_sensors
        gateways = -(-len(self.sensors) // together)
        delays = [sensor // together / gateways for sensor in range(len(self.sensors))]
        duration = self.duration
        whole = self._whole
        for block in range(self.blocks_per_sensor):
            for sensor, delay in enumerate(delays):
                if whole is None or whole[self.place(sensor, block)]:
                    yield Due((block + delay) * duration, sensor, block)

    @cached_property
    def total_blocks(self) -> int:
        """How many blocks are sent, those left out not counted."""
        if self._whole is None:
            return len(self.sensors) * self.blocks_per_sensor
        offsets = np.arange(self.blocks_per_sensor) * self.block
        return sum(int(self._whole[(start + offsets) % len(self.recording)].sum()) for start in self.starts)

    @cached_property
    def _whole(self) -> NDArray[np.bool_] | None:
        """Tell for each place whether a block from there has only valid samples; None if all have."""
        invalid = np.asarray(~np.isfinite(self.samples).reshape(-1, self.channels).all(axis=1))
        if not invalid.any():
            return None
        before = np.concatenate([[0], np.cumsum(np.resize(invalid, len(invalid) + self.block))])
        whole: NDArray[np.bool_] = before[self.block : -1] == before[: -self.block - 1]
        return whole


def plan_replay(
    recording: Recording,
    *,
    channels: Sequence[str | int] = (0,),
    sensors: int = 1,
    name: str | None = None,
    seconds: float | None = None,
    block: int = 256,
    encoding: Encoding = "json",
    pipeline: str | None = None,
) -> Plan:
    """Plan the replay of channels of a recording.

    Parameters
    ----------
    recording
        What to play.
    channels
        Names or numbers of the channels.
    sensors
        How many sensors play it. They are called `name`-1, `name`-2 and so on.
    name
        Without one the recording's.
    seconds
        How much each sensor sends, in whole blocks; None for the recording once.
    block, encoding, pipeline
        As for `Plan`.

    Raises
    ------
    RecordingError
        There is no such channel.
    ReplayError
        A value is out of its range.
    """
    if sensors < 1:
        raise ReplayError(f"{sensors} sensors: expected at least 1")
    _check_block(block, len(channels))
    chosen = [recording.channel(channel) for channel in channels]
    samples = chosen[0] if len(chosen) == 1 else np.stack(chosen, axis=1)
    wanted = len(samples) if seconds is None else seconds * recording.sample_rate
    if not block <= wanted < np.inf:
        raise ReplayError(
            f"{wanted / recording.sample_rate:g} s to send: expected at least a block,"
            f" {block / recording.sample_rate:g} s; give more --seconds or a smaller --block"
        )
    # Rounded first, so that 10.24 s at 250 Hz are 2560 samples whatever the product's last bit.
    blocks = int(round(wanted, 6) // block)
    ids = tuple(f"{name or recording.name}-{number}" for number in range(1, sensors + 1))
    return Plan(samples, recording.sample_rate, ids, block, blocks, encoding, pipeline)


def check_fits(plan: Plan, pipeline: Pipeline) -> None:
    """Refuse a replay that a pipeline would refuse block by block.

    Raises
    ------
    ReplayError
        Rate or channels are not the pipeline's.
    """
    name, signal = pipeline.name, pipeline.signal
    if plan.sample_rate != signal.sample_rate:
        raise ReplayError(
            f"the recording has {plan.sample_rate:.10g} Hz, and pipeline {name} takes {signal.sample_rate:.10g} Hz;"
            f" resample it: --resample {signal.sample_rate:.10g}"
        )
    if plan.channels != signal.channels:
        raise ReplayError(
            f"{plan.channels} channels: pipeline {name} takes {signal.channels}; name as many, each with --channel"
        )


def _check_block(block: int, channels: int) -> None:
    if not 1 <= block * channels <= MAX_SAMPLES:
        raise ReplayError(f"{block} samples a block: expected 1 to {MAX_SAMPLES // channels}")
