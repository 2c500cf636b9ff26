"""States, and a mirror's tiers, as the tests of Redis use them."""

from __future__ import annotations

from app.dsp.snapshot import Position
from app.mirror.states import Claim, Saved

NOTHING = (0, 0, -1)
"""Epoch, restarts and next of a tier that has no copy."""


def state(
    sensor_id: str = "s1", *, epoch: int = 1, restarts: int = 0, next_index: int = 256, features: bytes = b"{}"
) -> Saved:
    """Make a state whose snapshot names its age."""
    snapshot = f"{sensor_id} {restarts} {next_index}".encode()
    position = Position("rt-sensors", 3, next_index)
    return Saved(sensor_id, snapshot, epoch, restarts, next_index, position, "ecg", 250.0, features)


def claim(sensor_id: str = "s1", first: int = -1, known: tuple[int, int, int] = NOTHING) -> Claim:
    return Claim(sensor_id, first, *known)
