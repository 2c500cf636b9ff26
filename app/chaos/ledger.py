"""The ledger: every feature record is compared with the offline pass as it comes, in memory that is set beforehand.

For each block of each sensor it holds the values expected, a hash of the record that came, and when it came:
50 bytes, so that a million blocks take 50 MB.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec
import numpy as np
from numpy.typing import NDArray

from app.offline import FEATURES, ecg_features
from app.replay import Plan

TOLERANCE = 1e-9
"""Relative; the records carry doubles exactly."""

SHOWN = 10
"""Faults kept in words."""


class _Record(msgspec.Struct, gc=False):
    sensorId: str  # noqa: N815 - the wire contract's spelling
    seq: int
    gap: int
    rms: float | None
    hjorth_mobility: float | None
    hjorth_complexity: float | None
    hjorth_activity: float | None


@dataclass
class Findings:
    """What the records amount to."""

    blocks: int
    received: int = 0
    """Blocks whose record has come."""
    wrong: int = 0
    """First records that differ from the offline pass."""
    unexpected: int = 0
    """Records of blocks that are not the plan's."""
    repeated: int = 0
    """Records that came again, alike: what a crash may cause."""
    unlike: int = 0
    """Records that came again with other bytes."""
    out_of_order: int = 0
    """Records that came, for the first time, after a later one of their sensor."""
    examples: list[str] = field(default_factory=list)
    """Some of the faults, in words."""

    @property
    def lost(self) -> int:
        """Blocks without a record."""
        return self.blocks - self.received

    @property
    def passed(self) -> bool:
        """Whether every block has its record, right and in order, and every repeat is alike."""
        return not (self.lost or self.wrong or self.unexpected or self.unlike or self.out_of_order)

    def note(self, fault: str) -> None:
        """Keep a fault in words, if there are not enough of them."""
        if len(self.examples) < SHOWN:
            self.examples.append(fault)


class Ledger:
    """The records of a plan's blocks; making it runs the offline pass, some 30 µs of CPU a block.

    Parameters
    ----------
    plan
        Without invalid samples, of the `ecg` pipeline.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        shape = (len(plan.sensors), plan.blocks_per_sensor)
        self._number = {sensor: number for number, sensor in enumerate(plan.sensors)}
        ends = np.arange(1, plan.blocks_per_sensor + 1) * plan.block
        self._expected = np.empty((*shape, len(FEATURES)))
        for number in range(len(plan.sensors)):
            self._expected[number] = ecg_features(plan.signal(number), ends)
        self._hashes = np.zeros(shape, dtype=np.int64)
        self._times = np.zeros(shape, dtype=np.int64)
        self._latest = [-1] * len(plan.sensors)
        self._decoder = msgspec.json.Decoder(_Record)
        self.findings = Findings(shape[0] * shape[1])

    def add(self, record: bytes, timestamp: int) -> None:
        """Compare a record, in the order of its partition.

        Parameters
        ----------
        record
            Its value.
        timestamp
            Its Kafka timestamp, ms.
        """
        findings = self.findings
        fields = self._decoder.decode(record)
        sensor = self._number.get(fields.sensorId, -1)
        block, rest = divmod(fields.seq, self._plan.block)
        if sensor < 0 or rest or not 0 <= block < self._plan.blocks_per_sensor:
            findings.unexpected += 1
            findings.note(f"no such block was sent: {record!r}")
            return
        digest = hash(record)
        if self._times[sensor, block]:
            if self._hashes[sensor, block] == digest:
                findings.repeated += 1
            else:
                findings.unlike += 1
                findings.note(f"came again with other bytes: {record!r}")
            return
        findings.received += 1
        self._hashes[sensor, block] = digest
        self._times[sensor, block] = timestamp
        if block < self._latest[sensor]:
            findings.out_of_order += 1
            findings.note(f"came after block {self._latest[sensor]} of its sensor: {record!r}")
        else:
            self._latest[sensor] = block
        found = (fields.rms, fields.hjorth_mobility, fields.hjorth_complexity, fields.hjorth_activity)
        expected = self._expected[sensor, block].tolist()
        if fields.gap or not all(map(_equal, found, expected)):
            findings.wrong += 1
            findings.note(f"{record!r}, expected {expected}")

    def missing(self, shown: int = SHOWN) -> list[str]:
        """Name some of the blocks that have no record."""
        places = np.argwhere(self._times == 0)[:shown].tolist()
        return [f"{self._plan.sensors[sensor]} block {block}" for sensor, block in places]

    def silences(self) -> Silences:
        """Give the times between records."""
        return Silences(self._times)


class Silences:
    """Times between one record of a sensor and its next.

    Parameters
    ----------
    times
        (sensors, blocks) when each block's first record was made, ms since the epoch; 0 where there is none.
    """

    def __init__(self, times: NDArray[np.int64]) -> None:
        # A block without a record breaks no silence: it stands as if it had come with the one before.
        filled = np.maximum.accumulate(times, axis=1)
        self._from, self._to = filled[:, :-1], filled[:, 1:]
        self.end = float(times.max()) / 1000
        """When the last record was made, s since the epoch."""

    @property
    def longest(self) -> float:
        """The longest of any sensor, s."""
        return self.longest_begun(0.0, self.end)

    def longest_begun(self, begin: float, end: float) -> float:
        """Longest silence of any sensor that began within a time, s; 0.0 if there is none.

        Parameters
        ----------
        begin, end
            Seconds since the epoch.
        """
        begun = (self._from > 0) & (self._from >= begin * 1000) & (self._from <= end * 1000)
        return float(np.where(begun, self._to - self._from, 0).max(initial=0)) / 1000


def _equal(value: float | None, expected: float) -> bool:
    if value is None or expected != expected:  # noqa: PLR0124 - NaN stands for a window that is not full
        return value is None and expected != expected  # noqa: PLR0124
    return abs(value - expected) <= TOLERANCE * max(abs(value), abs(expected))
