"""Warming up: the state that a changed pipeline would have, had it run all along, from the blocks retained.

A snapshot of the pipeline before says where the stream stood: which sample comes next, at what time, and from which
index on none was missing. Blocks from before that place are run through the changed pipeline without a word, and the
state that comes out goes on from the same place. How far back they must reach is the pipeline's own to say
(`Pipeline.settle_samples`).

Where blocks are read from the middle of a stream, the first of them may be ones that were dropped then: duplicates of
what came before. So what is missing among the blocks is believed only as far as the snapshot, or enough blocks
before it, bear it out. Where a pipeline keeps one value in so many, the first block is cut so that it keeps the ones
that it would have kept all along. That the blocks lead to the very place where the snapshot stood is checked: blocks
that do not, as those of another rate, are not used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from app.dsp.engine import Engine
from app.dsp.pipeline import Pipeline
from app.dsp.placement import Placement
from app.dsp.snapshot import Header, Position
from app.dsp.stage import Floats
from app.dsp.stream import Blocks, Sensor

SAME_TIME = 1e-3
"""Times of one sample differ by less, ms."""


class RetainedBlock(NamedTuple):
    """A block of one sensor, as the log still has it."""

    offset: int
    timestamp: float
    """Of its first sample, ms."""
    seq: int | None
    stream: str | None
    values: Floats
    """Channels interleaved."""


class Choice(NamedTuple):
    """Blocks that a state is warmed up from."""

    blocks: Sequence[RetainedBlock]
    samples: int
    """That the state will have consumed, per channel; 0 where the blocks are of no use."""
    settled: bool
    """Whether the state will be that of a pipeline that has run all along."""


USELESS = Choice((), 0, settled=False)

_END = Position("retained", 0, 0)


def choose(pipeline: Pipeline, header: Header, blocks: Sequence[RetainedBlock], *, whole: bool) -> Choice:
    """Choose the blocks that a sensor's state is warmed up from.

    Of many blocks the last ones that are enough are chosen: the same ones, however many come before them.

    Parameters
    ----------
    pipeline
        The changed one.
    header
        Of the snapshot.
    blocks
        What was retained of the sensor before the snapshot's position, in the log's order.
    whole
        Whether nothing came before them.
    """
    if not blocks:
        return USELESS
    sensor = Sensor("", -1)
    _tell_stream_before(sensor, header, blocks)
    place = Placement(pipeline, _joined([sensor], [blocks]), _END, confirmed=True)
    if not _stands_at(sensor, header, blocks):
        return USELESS
    channels = pipeline.signal.channels
    lengths = {number: len(blocks[number].values) // channels for number in place.accepted}
    total = sum(lengths.values())
    # Blocks without an index are counted from the first of them.
    since = sensor.since + header.next - sensor.next_index
    # Snapshots of the first format version do not know theirs.
    agrees = since == header.since or header.since >= header.next
    # So that there are enough even where the first block is cut.
    settle = pipeline.settle_samples + pipeline.period - 1
    enough = None
    if header.next - since >= settle and (since >= header.since or agrees):
        enough = settle
    elif agrees and since == 0:  # state began there, whatever came before
        enough = header.next
    elif agrees and total >= 2 * settle:
        enough = 2 * settle
    if enough is None:
        return Choice(blocks, total, settled=agrees and whole)
    samples = 0
    for number in reversed(place.accepted):
        samples += lengths[number]
        if samples >= enough:
            break
    if pipeline.period == 1 or enough == header.next:
        return Choice(blocks[number:], samples, settled=True)
    return _in_step(pipeline, header, blocks[number:], samples)


def _in_step(pipeline: Pipeline, header: Header, blocks: Sequence[RetainedBlock], samples: int) -> Choice:
    """Cut the first of chosen blocks, so that a pipeline that keeps one value in so many keeps the right ones.

    State began where the stream did, or after the last gap that was not filled in; after one that was, nobody knows.
    """
    sensor, channels = Sensor("", -1), pipeline.signal.channels
    place = Placement(pipeline, _joined([sensor], [blocks]), _END, confirmed=True)
    begun = header.since if not pipeline.most_filled else 0
    known = header.since == begun
    for number, seq in zip(place.accepted, place.seqs, strict=True):
        block, length = blocks[number], len(blocks[number].values) // channels
        cut = (begun - header.next + sensor.next_index - seq) % pipeline.period
        if cut < length:
            later = block._replace(
                timestamp=block.timestamp + cut * 1000 / pipeline.signal.sample_rate,
                seq=None if block.seq is None else block.seq + cut,
                values=block.values[cut * channels :],
            )
            return Choice([later, *blocks[number + 1 :]], samples - cut, settled=known)
        samples -= length
    return Choice(blocks, samples, settled=False)


class Warmed(NamedTuple):
    """What a sensor goes on from."""

    snapshot: bytes
    """Of the changed pipeline, at the place of the snapshot before."""
    samples: int
    """Consumed by its state, per channel."""
    settled: bool
    """Whether it is that of a pipeline that has run all along."""


def warm_up(pipeline: Pipeline, headers: Mapping[str, Header], choices: Mapping[str, Choice]) -> dict[str, Warmed]:
    """Run the chosen blocks of sensors through the changed pipeline.

    Parameters
    ----------
    pipeline
        The changed one.
    headers
        Of the sensors' snapshots, by id.
    choices
        Of the same sensors.
    """
    engine = Engine(pipeline)
    fed = [sensor_id for sensor_id, choice in choices.items() if choice.samples]
    for sensor in engine.admit(fed):
        _tell_stream_before(sensor, headers[sensor.id], choices[sensor.id].blocks)
    if fed:
        sensors = [engine.sensors[sensor_id] for sensor_id in fed]
        blocks = _joined(sensors, [choices[sensor_id].blocks for sensor_id in fed])
        engine.process(blocks, _END, confirmed=True)
        astray = [own for own in sensors if not _stands_at(own, headers[own.id], choices[own.id].blocks)]
        engine.evict(astray)
    useless = [sensor_id for sensor_id in choices if sensor_id not in engine.sensors]
    engine.admit(useless)
    sensors = [engine.sensors[sensor_id] for sensor_id in choices]
    for sensor in sensors:
        sensor.go_on_from(headers[sensor.id])
    warmed = {}
    for sensor, snapshot in zip(sensors, engine.snapshots(sensors), strict=True):
        _, samples, settled = USELESS if sensor.id in useless else choices[sensor.id]
        warmed[sensor.id] = Warmed(snapshot, samples, settled)
    return warmed


def _tell_stream_before(sensor: Sensor, header: Header, blocks: Sequence[RetainedBlock]) -> None:
    """Tell a sensor that has seen nothing which stream came before that of its first block, where that is known."""
    if blocks[0].stream == header.stream:
        sensor.previous = header.previous


def _stands_at(sensor: Sensor, header: Header, consumed: Sequence[RetainedBlock]) -> bool:
    """Whether a sensor is where a snapshot was: its next sample has the same time and, where blocks say it, index."""
    if any(block.seq is not None for block in consumed) and sensor.next_index != header.next:
        return False
    return abs(sensor.next_time - header.time) < SAME_TIME


def _joined(sensors: Sequence[Sensor], blocks: Sequence[Sequence[RetainedBlock]]) -> Blocks:
    """Join the blocks of sensors, one sensor's after another's."""
    of = [sensor for sensor, own in zip(sensors, blocks, strict=True) for _ in own]
    every = [block for own in blocks for block in own]
    return Blocks(
        of,
        [block.timestamp for block in every],
        [block.seq for block in every],
        [block.stream for block in every],
        [block.offset for block in every],
        np.concatenate([block.values for block in every]),
        np.cumsum([0, *(len(block.values) for block in every)]).tolist(),
    )
