"""A partition batch: what one fetch gave of one partition, as the value of one Faust event."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(slots=True, frozen=True)
class PartitionBatch:
    """Records of one partition, in order.

    Parameters
    ----------
    records
        aiokafka's consumer records.
    seeks
        How often the consumer had sought when the batch was fetched.
    number
        Counts the partition's batches since that seek.
    size
        Of its records in memory, about, bytes.
    """

    records: Sequence[Any]
    seeks: int
    number: int
    size: int
