"""Why an input became a dead letter: the fixed codes of the header `reason`."""

from __future__ import annotations

from enum import StrEnum

REPLAYED_FROM = "replayed-from"
"""Header of a message that was sent again: its dead letter's id. The next dead letter, if any, carries it on."""

LONGEST_DETAIL = 500
"""Characters of a detail, which may quote the input."""

LARGE_LETTER = 900_000
"""Bytes of a message that any topic takes as it is; one that came compressed may be many times larger."""


class Reason(StrEnum):
    """A dead letter's reason; its `detail` header says the rest in words."""

    MALFORMED = "malformed"
    """Neither JSON nor MessagePack, or no object."""
    MISSING_FIELD = "missing-field"
    WRONG_TYPE = "wrong-type"
    OUT_OF_RANGE = "out-of-range"
    """A number that its field does not allow, or samples beyond what a double can be squared in."""
    EMPTY_SAMPLES = "empty-samples"
    TOO_MANY_SAMPLES = "too-many-samples"
    NON_FINITE = "non-finite"
    """NaN or infinity among the samples, and a pipeline that does not repair them."""
    BAD_SENSOR_ID = "bad-sensor-id"
    """Empty, or longer than 256 bytes."""
    KEY_MISMATCH = "key-mismatch"
    """The message's key is not the sensor id (or, for a frame, is missing)."""
    WRONG_RATE = "wrong-rate"
    WRONG_CHANNELS = "wrong-channels"
    UNKNOWN_PIPELINE = "unknown-pipeline"
    UNUSABLE_STATE = "unusable-state"
    """The sensor's state was made by another pipeline than the block's, or is damaged."""


class Rejected(Exception):  # noqa: N818 - not an error of ours: a verdict on an input
    """An input that becomes a dead letter.

    Parameters
    ----------
    reason
        Its code.
    detail
        What was found, what was expected.
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


def letter_headers(reason: Reason, detail: str, source: str) -> list[tuple[str, bytes]]:
    """Give the headers that every dead letter has.

    Parameters
    ----------
    reason, detail
        Why it is one.
    source
        Where its message came from: ``topic-partition-offset``, or what names another way in.
    """
    return [
        ("reason", reason.encode()),
        ("detail", detail[:LONGEST_DETAIL].encode(errors="backslashreplace")),
        ("source", source.encode()),
    ]
