"""Stock Faust and ours, side by side: their real consumers, recoveries and streams, on a broker in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import faust
from faust.types import TP

from app.faust_app import ContinuumApp
from app.settings import load_settings

PARTITION = TP("rt-sensors", 0)
KINDS = ("stock", "ours")


def record(offset: int) -> Any:
    """A record as aiokafka gives it."""
    names = ("headers", "key", "value", "checksum", "serialized_key_size", "serialized_value_size")
    return SimpleNamespace(
        topic=PARTITION.topic,
        partition=PARTITION.partition,
        offset=offset,
        timestamp=0,
        timestamp_type=0,
        **dict.fromkeys(names),
    )


@dataclass
class Side:
    """An application with its consumer.

    Attributes
    ----------
    kind
        `stock` or `ours`.
    committed
        What the broker has as committed.
    delivered
        Messages that have come to the streams; a batch is one of ours.
    """

    kind: str
    app: Any
    consumer: Any
    committed: dict[TP, int] = field(default_factory=dict)
    delivered: list[Any] = field(default_factory=list)

    async def drain(self, getmany: Callable[..., Awaitable[dict[TP, list[Any]]]], rounds: int) -> None:
        """Let the consumer's own loop fetch so many times, and deliver what it gets."""
        stopped = asyncio.Event()
        left = rounds

        async def fetch(**options: Any) -> dict[TP, list[Any]]:
            nonlocal left
            left -= 1
            if left <= 0:
                stopped.set()
            return await getmany(**options)

        self.consumer._getmany = fetch
        await self.consumer._drain_messages(SimpleNamespace(_stopped=stopped))

    async def deliver(self, *batches: list[int]) -> list[Any]:
        """Fetch batches of offsets and deliver them; gives what has been delivered so far."""
        waiting = [[record(offset) for offset in offsets] for offsets in batches]

        async def fetch(**_: Any) -> dict[TP, list[Any]]:
            return {PARTITION: waiting.pop(0)}

        await self.drain(fetch, len(batches))
        return self.delivered

    @property
    def offsets(self) -> list[int]:
        """Offsets of the records that the streams have got and accepted, in order."""
        if self.kind == "stock":
            return [message.offset for message in self.delivered]
        accepted = [message for message in self.delivered if self.consumer.accepts(message)]
        return [own.offset for message in accepted for own in message.value.records]


def make_side(kind: str, folder: Path) -> Side:
    """Make one, whose only partition is assigned and flows."""
    if kind == "stock":
        app: Any = faust.App("stock", broker="kafka://127.0.0.1:1", datadir=folder)
    else:
        app = ContinuumApp(
            load_settings(kafka_bootstrap="127.0.0.1:1", redis_url="redis://127.0.0.1:1", datadir=folder)
        )
    app.finalize()
    app.topics.acks_enabled_for = lambda topic: topic == PARTITION.topic
    app.consumer_generation_id = 1
    consumer = app.consumer
    side = Side(kind, app, consumer)

    async def commit(offsets: dict[TP, int]) -> bool:
        side.committed.update(offsets)
        return True

    async def take(message: Any) -> None:
        consumer.track_message(message)
        side.delivered.append(message)

    async def nothing() -> None:
        """The producer has nothing to flush."""

    app.producer.flush = nothing
    consumer.assignment = lambda: {PARTITION}
    consumer.highwater = lambda _: 100
    consumer.callback = take
    consumer._commit = commit
    consumer._active_partitions = {PARTITION}
    return side
