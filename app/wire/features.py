"""Feature records as messages: JSON, one record a block, encoded by column."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from app.dsp.engine import Features
from app.dsp.pipeline import Pipeline
from app.wire.decode import BlockColumns


class FeatureEncoder:
    """Encodes the feature records of one pipeline in one tier.

    The bytes are those of the typed record that consumers read (`app.records`).

    Parameters
    ----------
    pipeline
        Whose features.
    tier
        Name of the tier that computes them.
    """

    def __init__(self, pipeline: Pipeline, tier: str) -> None:
        self._pipeline = pipeline.name
        self._tier = tier
        self._encoder = msgspec.json.Encoder()
        fields: list[tuple[str, Any]] = [("sensorId", str), ("timestamp", int)]
        self._widths = pipeline.widths
        fields += [
            (name, float | None if width == 1 else list[float] | None)
            for name, width in zip(pipeline.feature_names, self._widths, strict=True)
        ]
        fields += [("seq", int), ("tier", str), ("pipeline", str), ("gap", int), ("quality", float)]
        self._record = msgspec.defstruct("FeatureRecord", fields, gc=False)

    def _in_fields(self, row: list[Any]) -> list[Any]:
        """Gather the values of lists; one that lacks a value is null as a whole."""
        fields, end = [], 0
        for width in self._widths:
            start, end = end, end + width
            own = row[start:end]
            fields.append(own[0] if width == 1 else None if None in own else own)
        return fields

    def encode(self, columns: BlockColumns, features: Features) -> list[bytes]:
        """Encode one record for each row of ``features``; a value whose window is not full is null."""
        rows = features.values.tolist()
        for row, column in np.argwhere(~features.full).tolist():
            rows[row][column] = None
        if len(self._widths) != features.values.shape[1]:
            rows = [self._in_fields(row) for row in rows]
        record, encode = self._record, self._encoder.encode
        tier, pipeline = self._tier, self._pipeline
        sensor_ids, timestamps = columns.sensor_ids, columns.timestamps
        return [
            encode(record(sensor_ids[block], timestamps[block], *values, seq, tier, pipeline, gap, quality))
            for block, values, seq, gap, quality in zip(
                features.block.tolist(), rows, features.seq, features.gap, features.quality.tolist(), strict=True
            )
        ]
