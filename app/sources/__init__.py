"""Recordings as input: WFDB, EDF, BDF and CSV files, and what comes built in."""

from __future__ import annotations

from app.sources.builtin import builtin_ecg, builtin_movement, builtin_reports
from app.sources.files import read_recording
from app.sources.recording import Recording, RecordingError, resampled

__all__ = [
    "Recording",
    "RecordingError",
    "builtin_ecg",
    "builtin_movement",
    "builtin_reports",
    "read_recording",
    "resampled",
]
