"""Typed Faust records of the topics that other programs read."""

from __future__ import annotations

from typing import Optional

import faust


class EcgFeatures(faust.Record, serializer="json", include_metadata=False):
    """One block's features on `ecg-features`, taken at the block's last sample.

    A feature is None until its window is full. `(sensorId, seq)` names a record: a repeat after a crash has the
    same name and the same values.
    """

    sensorId: str  # noqa: N815 - the wire contract's spelling
    timestamp: int
    rms: Optional[float]  # noqa: UP045 - Faust reads annotations with typing's own forms
    hjorth_mobility: Optional[float]  # noqa: UP045
    hjorth_complexity: Optional[float]  # noqa: UP045
    hjorth_activity: Optional[float]  # noqa: UP045
    seq: int
    tier: str
    pipeline: str
    gap: int
    quality: float
