"""Real recordings that the tests use where they are there: `../shared/data`, beside this repository."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.sources import Recording, read_recording, resampled

FOLDER = Path(__file__).parents[2] / "shared" / "data"


def record_path(name: str) -> Path:
    """Give a record's header, or skip the test."""
    path = FOLDER / f"{name}.hea"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    return path


def record_at_250_hz(name: str, channel: str) -> Recording:
    """Read one channel of a record, at the rate of the ECG pipelines."""
    return resampled(read_recording(record_path(name), channel=channel), 250.0)
