"""Redis keys; the braces keep all of one sensor's on one node of a cluster."""

from __future__ import annotations

from typing import Literal

Part = Literal["state", "features", "meta"]


def sensor_key(prefix: str, sensor_id: str, part: Part) -> str:
    """Redis key of a sensor's state (hash), latest feature record (string), or description (hash)."""
    return _stem(prefix, sensor_id) + part


def sensor_keys(prefix: str, sensor_id: str) -> tuple[bytes, bytes, bytes]:
    """Redis keys of a sensor's state, latest feature record and description, encoded."""
    stem = _stem(prefix, sensor_id).encode()
    return stem + b"state", stem + b"features", stem + b"meta"


def _stem(prefix: str, sensor_id: str) -> str:
    if sensor_id[0] in "}%":
        # "{}" would be no tag, and the sensor's keys would lie on several nodes.
        sensor_id = f"%{ord(sensor_id[0]):02X}{sensor_id[1:]}"
    return f"{prefix}sensor:{{{sensor_id}}}:"


def sensor_id_of(prefix: str, key: bytes) -> str:
    """Sensor of which a Redis key names a part."""
    sensor_id = key.decode().removeprefix(f"{prefix}sensor:{{").rpartition("}:")[0]
    return f"{chr(int(sensor_id[1:3], 16))}{sensor_id[3:]}" if sensor_id.startswith("%") else sensor_id


def wanted_key(prefix: str, tier: str) -> bytes:
    """Redis key of what others want of a tier: a sorted set of ``<first>:<epoch>:<sensor>``, by expiry in ms."""
    return f"{prefix}wanted:{tier}".encode()


def pipeline_key(prefix: str, fingerprint: bytes) -> str:
    """Redis key of the TOML text of the pipeline of a fingerprint."""
    return f"{prefix}pipeline:{{{fingerprint.hex()}}}"


def marker_key(prefix: str, tag: str, token: str) -> str:
    """Redis key of a worker's marker (a counter) on the master that has the tag's slot."""
    return f"{prefix}marker:{{{tag}}}:{token}"
