"""What a person has set of a sensor: its pipeline, its tier, its labels."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

import msgspec

from app.errors import ContinuumError
from app.settings import TIERS
from app.wire.blocks import MAX_SENSOR_ID

MAX_LABELS, MAX_LABEL_NAME, MAX_LABEL_VALUE = 32, 63, 256
"""Labels of a sensor; characters of a label's name; bytes of its value in UTF-8."""

_LABEL_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._/-]*[A-Za-z0-9])?")


class MetadataError(ContinuumError):
    """Metadata of a sensor that cannot be set."""


class SensorMeta(msgspec.Struct, frozen=True, omit_defaults=True):
    """What has been set of a sensor; what has not is empty.

    Attributes
    ----------
    pipeline
        Name of the pipeline that its blocks run unless they name another.
    tier
        To which ingest sends its blocks unless they name another.
    labels
        Whatever helps to find it.
    """

    pipeline: str = ""
    tier: str = ""
    labels: dict[str, str] = {}

    def __bool__(self) -> bool:
        return bool(self.pipeline or self.tier or self.labels)


NOTHING_SET = SensorMeta()

_decoder = msgspec.json.Decoder(SensorMeta)
_labels = msgspec.json.Decoder(dict[str, str])


def encode_meta(meta: SensorMeta) -> bytes:
    """Encode metadata as JSON."""
    return msgspec.json.encode(meta, order="sorted")


def decode_meta(value: bytes) -> SensorMeta:
    """Decode metadata.

    Raises
    ------
    MetadataError
        The bytes are not those of any.
    """
    try:
        return _decoder.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MetadataError(f"metadata {value[:200]!r} cannot be read: {error}") from None


def encode_labels(labels: Mapping[str, str]) -> bytes:
    """Encode labels as a JSON object."""
    return msgspec.json.encode(labels, order="sorted")


def decode_labels(value: bytes) -> dict[str, str]:
    """Decode labels; none from bytes that hold no labels."""
    try:
        return _labels.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}


def check_meta(meta: SensorMeta, pipelines: Collection[str]) -> None:
    """Refuse what no worker could use.

    Parameters
    ----------
    meta
        What is to be set.
    pipelines
        Names of those known.

    Raises
    ------
    MetadataError
        Naming the value, and what is allowed.
    """
    if meta.pipeline and meta.pipeline not in pipelines:
        raise MetadataError(
            f"pipeline {meta.pipeline!r}: expected one of {', '.join(sorted(pipelines))} (those of CONTINUUM_PIPELINES"
            " among them, where that is set)"
        )
    if meta.tier and meta.tier not in TIERS:
        raise MetadataError(f"tier {meta.tier!r}: expected one of {', '.join(TIERS)}")
    if len(meta.labels) > MAX_LABELS:
        raise MetadataError(f"{len(meta.labels)} labels: expected at most {MAX_LABELS}; --unset some")
    for name, value in meta.labels.items():
        if len(name) > MAX_LABEL_NAME or not _LABEL_NAME.fullmatch(name):
            raise MetadataError(
                f"label {name!r}: expected up to {MAX_LABEL_NAME} ASCII letters, digits, '.', '_', '/' and '-', the"
                " first and the last a letter or a digit"
            )
        if len(value.encode()) > MAX_LABEL_VALUE:
            raise MetadataError(f"label {name!r} of {len(value.encode())} bytes: expected at most {MAX_LABEL_VALUE}")


def check_sensor_id(sensor_id: str) -> None:
    """Refuse what is no sensor's id.

    Raises
    ------
    MetadataError
        It is empty or too long.
    """
    try:
        size = len(sensor_id.encode())
    except UnicodeEncodeError:
        raise MetadataError(f"sensor id {sensor_id!r}: expected UTF-8") from None
    if not 0 < size <= MAX_SENSOR_ID:
        raise MetadataError(f"sensor id of {size} bytes: expected 1 to {MAX_SENSOR_ID}")
