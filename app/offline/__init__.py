"""Pipelines as one offline pass over a whole signal, with plain scipy and numpy.

An independent reference: it shares no code with `app.dsp`. The demo checks every feature record against it,
and so do the tests.
"""

from __future__ import annotations

from app.offline.ecg import FEATURES, SHIPPED, Parameters, ecg_features
from app.offline.missing import DEFAULT_POLICIES, Policies, Stretch, stretches
from app.offline.passes import OFFLINE, OfflinePass

__all__ = [
    "DEFAULT_POLICIES",
    "FEATURES",
    "OFFLINE",
    "SHIPPED",
    "OfflinePass",
    "Parameters",
    "Policies",
    "Stretch",
    "ecg_features",
    "stretches",
]
