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
        fields += [(name, float | None) for name in pipeline.feature_names]
        fields += [("seq", int), ("tier", str), ("pipeline", str), ("gap", int), ("quality", float)]
        self._record = msgspec.defstruct("FeatureRecord", fields, gc=False)

    def encode(self, columns: BlockColumns, features: Features) -> list[bytes]:
        """Encode one record for each row of ``features``; a value whose window is not full is null."""
        rows = features.values.tolist()
        for row, column in np.argwhere(~features.full).tolist():
            rows[row][column] = None
        record, encode = self._record, self._encoder.encode
        tier, pipeline = self._tier, self._pipeline
        sensor_ids, timestamps = columns.sensor_ids, columns.timestamps
        return [
            encode(record(sensor_ids[block], timestamps[block], *values, seq, tier, pipeline, gap, quality))
            for block, values, seq, gap, quality in zip(
                features.block.tolist(), rows, features.seq, features.gap, features.quality.tolist(), strict=True
            )
        ]
