"""The pipelines whose features can be verified, each with its offline pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from app.offline import ecg, report, wearable
from app.offline.missing import DEFAULT_POLICIES, Policies


class OfflinePass(NamedTuple):
    """A pipeline's features computed over whole signals."""

    sample_rate: float
    """Hz."""
    names: tuple[str, ...]
    """Of the features, in order."""
    features: Callable[[ArrayLike, ArrayLike], NDArray[np.float64]]
    """Of a signal, (n,) or (n, channels) samples without gaps, and the ends of its blocks: (blocks, features) values,
    NaN where a window is not full yet."""
    policies: Policies = DEFAULT_POLICIES
    """What the pipeline makes of samples that are missing."""
    around_zero: Mapping[str, float] = {}
    """What a feature may be off, in its unit, where it is the small difference of large numbers."""


#: By pipeline. Slopes are around 0 where a signal goes nowhere, and so is the variance of one that stands still.
OFFLINE: dict[str, OfflinePass] = {
    "ecg": OfflinePass(ecg.SAMPLE_RATE, ecg.FEATURES, ecg.ecg_features),
    "ecg-branched": OfflinePass(ecg.SAMPLE_RATE, ecg.FEATURES, partial(ecg.ecg_features, branched=True)),
    "wearable": OfflinePass(
        wearable.SAMPLE_RATE, wearable.FEATURES, wearable.wearable_features, Policies("hold", 2.0), {"trend": 1e-14}
    ),
    "report": OfflinePass(
        report.SAMPLE_RATE,
        report.FEATURES,
        report.report_features,
        Policies("hold", 3600.0),
        {"day_variance": 1e-10, "trend_slope": 1e-12},
    ),
}
