"""The plain way, as Faust's own documentation would have it: what Continuum's throughput is compared with.

An agent that takes one JSON record at a time, keeps each sensor's filter state in a RocksDB table that it writes
with every message, and sends one feature record. Same features, stock Faust.
"""

from __future__ import annotations

import os
from pathlib import Path

import faust
import numpy as np
from faust.types import StreamT
from numpy.typing import NDArray
from scipy.signal import butter, sosfilt

from app.records import EcgFeatures

PARTITIONS = 50
RMS_WINDOW, HJORTH_WINDOW = 50, 256
SECTIONS = 4

#: Set by the benchmark: brokers, group, prefix of the topics, folder of the table.
KAFKA, GROUP, PREFIX, DATADIR = (os.environ[f"PLAIN_AGENT_{name}"] for name in ("KAFKA", "GROUP", "PREFIX", "DATADIR"))


class Block(faust.Record, serializer="json", include_metadata=False):
    """A sensor block."""

    sensorId: str  # noqa: N815 - the wire contract's spelling
    samples: list[float]
    timestamp: int
    seq: int


app = faust.App(
    GROUP,
    broker=f"kafka://{KAFKA}",
    store="rocksdb://",
    datadir=Path(DATADIR),
    topic_partitions=PARTITIONS,
    topic_disable_leader=True,
    table_standby_replicas=0,
    web_enabled=False,
)
blocks = app.topic(f"{PREFIX}rt-sensors", key_type=bytes, value_type=Block)
features = app.topic(f"{PREFIX}ecg-features", key_type=bytes, value_type=EcgFeatures)
states = app.Table("state", key_type=str, value_type=bytes, partitions=PARTITIONS)

SOS = butter(4, [0.5, 100.0], "bandpass", fs=250.0, output="sos")
FRESH = np.zeros(2 * SECTIONS + RMS_WINDOW - 1 + HJORTH_WINDOW - 1)


@app.agent(blocks)
async def plain(stream: StreamT[Block]) -> None:
    """Filter one block after another."""
    async for event in stream.events():
        block = event.value
        known = states.get(block.sensorId)
        state = FRESH if known is None else np.frombuffer(known)
        values, state = step(state, np.array(block.samples), block.seq)
        states[block.sensorId] = state.tobytes()
        record = EcgFeatures(
            sensorId=block.sensorId,
            timestamp=block.timestamp,
            rms=values[0],
            hjorth_mobility=values[1],
            hjorth_complexity=values[2],
            hjorth_activity=values[3],
            seq=block.seq,
            tier="rt",
            pipeline="ecg",
            gap=0,
            quality=1.0,
        )
        await features.send(key=event.key, value=record)


def step(
    state: NDArray[np.float64], x: NDArray[np.float64], seen: int
) -> tuple[list[float | None], NDArray[np.float64]]:
    """Features after a block, and the state after it."""
    zi, squares, envelope = np.split(state, [2 * SECTIONS, 2 * SECTIONS + RMS_WINDOW - 1])
    filtered, zi = sosfilt(SOS, x, zi=zi.reshape(SECTIONS, 2))
    squares = np.concatenate([squares, filtered**2])
    sums = np.convolve(squares, np.ones(RMS_WINDOW), "valid")
    rms = np.sqrt(sums / np.minimum(seen + np.arange(1, len(x) + 1), RMS_WINDOW))
    envelope = np.concatenate([envelope, rms])
    window = envelope[-HJORTH_WINDOW:]
    activity, first = np.var(window), np.var(np.diff(window))
    mobility = np.sqrt(first / activity)
    complexity = np.sqrt(np.var(np.diff(window, n=2)) / first) / mobility
    state = np.concatenate([zi.ravel(), squares[-RMS_WINDOW + 1 :], envelope[-HJORTH_WINDOW + 1 :]])
    hjorth = [float(value) if seen + len(x) >= HJORTH_WINDOW else None for value in (mobility, complexity, activity)]
    return [float(rms[-1]) if seen + len(x) >= RMS_WINDOW else None, *hjorth], state
