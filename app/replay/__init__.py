"""Recordings played to a sensor topic by many simulated sensors."""

from __future__ import annotations

from app.replay.builtin import builtin_recording, plan_builtin, usual_block
from app.replay.messages import timestamp_of
from app.replay.plan import ENCODINGS, Due, Encoding, Plan, ReplayError, check_fits, plan_replay
from app.replay.player import Sent, new_producer, play

__all__ = [
    "ENCODINGS",
    "Due",
    "Encoding",
    "Plan",
    "ReplayError",
    "Sent",
    "builtin_recording",
    "check_fits",
    "new_producer",
    "plan_builtin",
    "plan_replay",
    "play",
    "timestamp_of",
    "usual_block",
]
