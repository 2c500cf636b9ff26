"""Typed Faust records of the topics that other programs read."""

from __future__ import annotations

from typing import Any, List, Optional, cast  # noqa: UP035 - Faust reads annotations with typing's own forms

import faust

from app.dsp.pipeline import Pipeline


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


def features_record(pipeline: Pipeline) -> type[faust.Record]:
    """Make the typed record of a pipeline's features, as `EcgFeatures` is that of `ecg`.

    A feature of one value is a float, one of several (`take = "vector"`) a list of floats; either is None until its
    window is full.
    """
    features = {
        name: Optional[float] if width == 1 else Optional[List[float]]  # noqa: UP006, UP045
        for name, width in zip(pipeline.feature_names, pipeline.widths, strict=True)
    }
    annotations = {
        "sensorId": str,
        "timestamp": int,
        **features,
        "seq": int,
        "tier": str,
        "pipeline": str,
        "gap": int,
        "quality": float,
    }
    name = "".join(part.capitalize() for part in pipeline.name.replace("_", "-").split("-")) + "Features"
    members = {
        "__annotations__": annotations,
        "__module__": __name__,
        "__doc__": f"One block's features on `{pipeline.name}-features`, taken at the block's last sample.",
    }
    made = cast("Any", type)(name, (faust.Record,), members, serializer="json", include_metadata=False)
    return cast("type[faust.Record]", made)
