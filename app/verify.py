"""Checking feature records against an offline pass over the same signals: all there, right, in order, once or alike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from app.offline import OFFLINE, OfflinePass, Policies, stretches

TOLERANCE = 1e-9
"""Relative; the records carry doubles exactly."""

SHOWN = 5
"""Faults kept in words."""


class Sent(NamedTuple):
    """A block as it was sent."""

    start: int
    """Index of its first sample."""
    length: int


class _Expected(NamedTuple):
    values: list[float | None]
    gap: int
    quality: float
    labels: dict[str, Any]
    """Fields that must be exactly these."""


@dataclass
class Verdict:
    """What the records amount to."""

    expected: int
    verified: int = 0
    """Blocks whose feature record is there and right."""
    wrong: int = 0
    """Records that differ from the offline pass."""
    unexpected: int = 0
    """Records of blocks that were never sent."""
    repeated: int = 0
    """Records that came again, alike: what a crash may cause."""
    unlike: int = 0
    """Records that came again with other values."""
    out_of_order: int = 0
    """Records that came, for the first time, after a later one of their sensor."""
    examples: list[str] = field(default_factory=list)
    """Some of the faults, in words."""

    @property
    def missing(self) -> int:
        """Blocks without a record."""
        return self.expected - self.verified - self.wrong

    @property
    def passed(self) -> bool:
        """Whether every block has its record, right and in order, and every repeat is alike."""
        return self.verified == self.expected and not (
            self.wrong or self.unexpected or self.unlike or self.out_of_order
        )


class FeatureVerifier:
    """Verifies the records of a pipeline.

    Parameters
    ----------
    offline
        The pipeline's offline pass; else that of `ecg`.
    policies
        What the pipeline makes of samples that are missing, where it is not what the shipped one does.
    tier, pipeline
        What the records must name; None where any will do.
    """

    def __init__(
        self,
        offline: OfflinePass = OFFLINE["ecg"],
        *,
        policies: Policies | None = None,
        tier: str | None = None,
        pipeline: str | None = None,
    ) -> None:
        self._labels = {"tier": tier, "pipeline": pipeline}
        self._offline = offline
        self._policies = policies or offline.policies
        self._expected: dict[tuple[str, int], _Expected] = {}
        self._sensors: set[str] = set()
        self._seen: dict[tuple[str, int], bytes] = {}
        self._latest: dict[str, int] = {}
        self._decoder = msgspec.json.Decoder(dict[str, Any])
        self._verdict = Verdict(0)

    def expect(
        self,
        sensor_id: str,
        signal: NDArray[np.float64],
        blocks: Sequence[Sent],
        timestamps: Sequence[int] | None = None,
    ) -> None:
        """Expect the features of a sensor.

        Parameters
        ----------
        sensor_id
            Its id.
        signal
            (samples,) or (samples, channels) from the stream's beginning; what no block covers was not sent.
        blocks
            The blocks sent, in order. Samples missing between two blocks are a gap.
        timestamps
            (blocks,) theirs; None where any will do.
        """
        self._sensors.add(sensor_id)
        unnamed = zip(blocks, repeat(None) if timestamps is None else timestamps, strict=False)
        starts, lengths = [block.start for block in blocks], [block.length for block in blocks]
        offline = self._offline
        for stretch in stretches(signal, starts, lengths, self._policies, offline.sample_rate):
            values = offline.features(stretch.signal, stretch.ends)
            for row, gap, quality in zip(values.tolist(), stretch.gaps, stretch.quality, strict=True):
                shown = [None if math.isnan(value) else value for value in row]
                block, timestamp = next(unnamed)
                labels = {**self._labels, "timestamp": timestamp}
                given = {name: value for name, value in labels.items() if value is not None}
                self._expected[sensor_id, block.start] = _Expected(shown, gap, quality, given)
        self._verdict.expected = len(self._expected)

    def add(self, record: bytes) -> dict[str, Any] | None:
        """Check one record, and give its fields; None for one of a sensor that is not expected."""
        fields = self._decoder.decode(record)
        if fields["sensorId"] not in self._sensors:
            return None
        self._check(record, fields)
        return fields

    def _check(self, record: bytes, fields: dict[str, Any]) -> None:
        sensor_id, seq = fields["sensorId"], fields["seq"]
        verdict, name = self._verdict, (sensor_id, seq)
        before = self._seen.get(name)
        if before is not None:
            if before == record:
                verdict.repeated += 1
            else:
                verdict.unlike += 1
                self._note(f"{sensor_id} at {seq} came again as {record!r}, before as {before!r}")
            return
        self._seen[name] = record
        if seq < self._latest.get(sensor_id, -1):
            verdict.out_of_order += 1
            self._note(f"{sensor_id} at {seq} came after {self._latest[sensor_id]}")
        self._latest[sensor_id] = max(seq, self._latest.get(sensor_id, -1))
        expected = self._expected.get(name)
        if expected is None:
            verdict.unexpected += 1
            self._note(f"{sensor_id} at {seq}: no such block was sent")
        elif (
            fields["gap"] == expected.gap
            and all(fields[name] == value for name, value in expected.labels.items())
            and _equal(fields["quality"], expected.quality, 0.0)
            and all(
                _equal(fields[name], value, self._offline.around_zero.get(name, 0.0))
                for name, value in zip(self._offline.names, expected.values, strict=True)
            )
        ):
            verdict.verified += 1
        else:
            verdict.wrong += 1
            self._note(f"{sensor_id} at {seq}: {record!r}, expected {expected}")

    @property
    def verdict(self) -> Verdict:
        """What the records so far amount to."""
        return self._verdict

    def missing(self) -> list[tuple[str, int]]:
        """Sensor and index of the blocks that have no record."""
        return [name for name in self._expected if name not in self._seen]

    def _note(self, fault: str) -> None:
        if len(self._verdict.examples) < SHOWN:
            self._verdict.examples.append(fault)


def _equal(value: float | None, expected: float | None, around_zero: float) -> bool:
    if value is None or expected is None:
        return value is expected
    return math.isclose(value, expected, rel_tol=TOLERANCE, abs_tol=around_zero)
