"""Kafka records as the events that Lambda's event source mappings make of them, and what a response says of them."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
from aiokafka import ConsumerRecord, TopicPartition

Source = Literal["self-managed", "msk"]

CLUSTER_ARN = "arn:aws:kafka:local:000000000000:cluster/continuum/00000000-0000-0000-0000-000000000000-0"

#: By Kafka's number of it.
_TIMESTAMP_TYPES = {0: "CREATE_TIME", 1: "LOG_APPEND_TIME"}

#: What a record's event holds beside its key, value and headers, at most: names, numbers, punctuation.
_ENVELOPE = 512

Records = Mapping[TopicPartition, Sequence[ConsumerRecord]]


def encode_event(records: Records, bootstrap: str, source: Source = "self-managed") -> bytes:
    """Make the event that holds records.

    Parameters
    ----------
    records
        By partition, each partition's in order.
    bootstrap
        Addresses of the brokers.
    source
        Whose event: that of a self-managed Kafka, or that of Amazon MSK.

    Returns
    -------
    JSON: keys and values in base64 (absent where a record has none), headers as lists of bytes.
    """
    event: dict[str, Any] = {"eventSource": "SelfManagedKafka"}
    if source == "msk":
        event = {"eventSource": "aws:kafka", "eventSourceArn": CLUSTER_ARN}
    event["bootstrapServers"] = bootstrap
    event["records"] = {partition_name(tp): [_encoded(record) for record in own] for tp, own in records.items()}
    return msgspec.json.encode(event)


def partition_name(partition: TopicPartition) -> str:
    """Name of a partition in events and in responses."""
    return f"{partition.topic}-{partition.partition}"


def event_bytes(record: ConsumerRecord) -> int:
    """How many bytes a record takes in an event, at most."""
    headers = sum(len(key) + 4 * len(value or b"") for key, value in record.headers)
    return _ENVELOPE + 4 * (len(record.key or b"") + len(record.value or b"")) // 3 + headers


def _encoded(record: ConsumerRecord) -> dict[str, Any]:
    encoded = {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp": record.timestamp,
        "timestampType": _TIMESTAMP_TYPES[record.timestamp_type],
        # One that has no value is one of no bytes: that is all that an event can say of it.
        "headers": [{key: list(value or b"")} for key, value in record.headers],
    }
    if record.key is not None:
        encoded["key"] = base64.b64encode(record.key).decode()
    if record.value is not None:
        encoded["value"] = base64.b64encode(record.value).decode()
    return encoded


class _Identifier(msgspec.Struct):
    partition: str
    offset: int


class _Failure(msgspec.Struct, rename="camel"):
    item_identifier: _Identifier


class _Response(msgspec.Struct, rename="camel"):
    batch_item_failures: list[_Failure] | None = None


@dataclass(frozen=True)
class Batch:
    """Records of one event.

    Parameters
    ----------
    records
        By partition, none of them without any.
    """

    records: Records

    def __len__(self) -> int:
        return sum(map(len, self.records.values()))

    def after(self, response: bytes) -> tuple[Batch, Batch]:
        """Tell the records that a response says were processed from those to be sent again.

        As with Lambda's `ReportBatchItemFailures` for Kafka: a failure names a partition and an offset, and of that
        partition all records from there on are sent again, so that its order is kept; the lowest counts where several
        are named. Without failures, the batch is done. A response that cannot be understood, or that names a record
        which the event did not hold, is a failure of the whole batch.
        """
        try:
            failures = (msgspec.json.decode(response, type=_Response | None) or _Response()).batch_item_failures or []
        except msgspec.DecodeError:
            return Batch({}), self
        first: dict[str, int] = {}
        for failure in failures:
            name, offset = failure.item_identifier.partition, failure.item_identifier.offset
            first[name] = min(offset, first.get(name, offset))
        held = {partition_name(tp): {record.offset for record in own} for tp, own in self.records.items()}
        if any(offset not in held.get(name, ()) for name, offset in first.items()):
            return Batch({}), self
        done: dict[TopicPartition, list[ConsumerRecord]] = {}
        left: dict[TopicPartition, list[ConsumerRecord]] = {}
        for tp, own in self.records.items():
            end = first.get(partition_name(tp))
            for record in own:
                (done if end is None or record.offset < end else left).setdefault(tp, []).append(record)
        return Batch(done), Batch(left)

    def split(self) -> list[Batch]:
        """Give two halves: of its partitions, or of its only partition's records; one where there is but one record."""
        partitions = list(self.records)
        if len(partitions) > 1:
            middle = len(partitions) // 2
            return [self._only(partitions[:middle]), self._only(partitions[middle:])]
        ((tp, own),) = self.records.items()
        middle = (len(own) + 1) // 2
        return [Batch({tp: half}) for half in (own[:middle], own[middle:]) if half]

    def _only(self, partitions: Iterable[TopicPartition]) -> Batch:
        return Batch({tp: self.records[tp] for tp in partitions})

    def next_offsets(self) -> dict[TopicPartition, int]:
        """Offsets to commit once the batch is done."""
        return {tp: own[-1].offset + 1 for tp, own in self.records.items()}
