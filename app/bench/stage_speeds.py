"""How fast each stage is: figures that were measured, kept beside the code and shown in the manual."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import msgspec

FILE = "stage_speeds.json"


class Speed(msgspec.Struct):
    """Msamples/s over some passes."""

    min: float
    median: float
    max: float


class StageSpeeds(msgspec.Struct):
    """Speeds of stages, by type, and the conditions they were measured under."""

    conditions: dict[str, str]
    stages: dict[str, Speed]


def load_speeds() -> StageSpeeds:
    """Give the speeds that were saved last."""
    return msgspec.json.decode(files("app.bench").joinpath(FILE).read_bytes(), type=StageSpeeds)


def save_speeds(speeds: StageSpeeds) -> Path:
    """Save speeds where `load_speeds` finds them; gives the file."""
    path = Path(__file__).with_name(FILE)
    # They are committed with what they measure, whose commit has no name yet.
    conditions = {name: value for name, value in speeds.conditions.items() if name != "commit"}
    kept = StageSpeeds(conditions, speeds.stages)
    text = msgspec.json.format(msgspec.json.encode(kept, order="sorted"), indent=2)
    path.write_bytes(text + b"\n")
    return path
