"""All features that a load must give, by the offline pass, as arrays: so that millions of records are soon checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from app.bench.errors import BenchError
from app.offline import OFFLINE
from app.replay import Plan
from app.verify import TOLERANCE


class _Record(msgspec.Struct, rename={"sensor_id": "sensorId"}, gc=False):
    """A feature record of `ecg`."""

    sensor_id: str
    timestamp: int
    rms: float | None
    hjorth_mobility: float | None
    hjorth_complexity: float | None
    hjorth_activity: float | None
    seq: int
    tier: str
    pipeline: str
    gap: int
    quality: float


_DECODER = msgspec.json.Decoder(_Record)
_LABELS = (0, 1.0, "rt", "ecg")
_PART = 100_000
"""Records decoded at a time: millions of objects are more memory than their numbers."""


@dataclass(frozen=True)
class Expected:
    """The features of a plan of `ecg`.

    Attributes
    ----------
    values
        (sensors, blocks, features); NaN where a window is not full yet.
    block
        Samples a block.
    numbers
        Of the sensors, by their ids.
    """

    values: NDArray[np.float64] = field(repr=False)
    block: int
    numbers: dict[str, int] = field(repr=False)

    @classmethod
    def of(cls, plan: Plan) -> Expected:
        """Compute them; sensors that begin at the same place of the recording send the same."""
        ends = np.arange(1, plan.blocks_per_sensor + 1) * plan.block
        by_start: dict[int, NDArray[np.float64]] = {}
        for number, start in enumerate(plan.starts):
            if start not in by_start:
                by_start[start] = OFFLINE["ecg"].features(plan.signal(number), ends)
        values = np.stack([by_start[start] for start in plan.starts])
        return cls(values, plan.block, {sensor: number for number, sensor in enumerate(plan.sensors)})

    def check(self, name: str, records: Sequence[bytes]) -> None:
        """Check the records of a run, those of a sensor in the order in which they came.

        Raises
        ------
        BenchError
            One is missing, repeated, out of its order or not right.
        """
        sensors, blocks, _ = self.values.shape
        if len(records) != sensors * blocks:
            raise BenchError(f"{name}: {len(records):,} records, expected {sensors * blocks:,}; nothing was measured")
        try:
            parts = [self._decoded(records[begin : begin + _PART]) for begin in range(0, len(records), _PART)]
        except (msgspec.MsgspecError, KeyError) as error:
            raise BenchError(f"{name}: a record that cannot be: {error}; nothing was measured") from None
        own, seqs, given, labelled = (np.concatenate(column) for column in zip(*parts, strict=True))
        order = np.argsort(own, kind="stable")
        in_order = (own[order].reshape(sensors, blocks) == np.arange(sensors)[:, np.newaxis]) & (
            seqs[order].reshape(sensors, blocks) == np.arange(blocks) * self.block
        )
        expected = self.values.reshape(given.shape)
        alike = np.isclose(given[order], expected, rtol=TOLERANCE, atol=0.0, equal_nan=True)
        right = in_order.ravel() & alike.all(axis=1) & labelled[order]
        if not right.all():
            first = int(np.argmin(right))
            raise BenchError(
                f"{name}: {np.count_nonzero(~right):,} of {len(right):,} records are not the offline pass's, the first"
                f" {records[order[first]].decode()}, expected {expected[first].tolist()};"
                " nothing was measured"
            )

    def _decoded(self, records: Sequence[bytes]) -> tuple[NDArray[Any], ...]:
        """Give records as arrays: number of the sensor, seq, values, and whether the other fields are right."""
        decoded = [_DECODER.decode(record) for record in records]
        return (
            np.array([self.numbers[record.sensor_id] for record in decoded]),
            np.array([record.seq for record in decoded]),
            np.array([_values(record) for record in decoded], dtype=np.float64),
            np.array([(own.gap, own.quality, own.tier, own.pipeline) == _LABELS for own in decoded]),
        )


def _values(record: _Record) -> tuple[float | None, ...]:
    return record.rms, record.hjorth_mobility, record.hjorth_complexity, record.hjorth_activity
