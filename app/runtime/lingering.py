"""Gathering records for a moment before they are sent: fewer, larger batches, where nobody is in a hurry.

A sensor's slow reports come one by one, each in a partition batch of its own, and every request to the brokers costs
a millisecond of the worker's time. What a producer's own `linger_ms` does comes too late here: it delays a batch that
is sent whole, and adds nothing to it.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from app.runtime.outbox import Outbox, Outgoing
from app.runtime.prepared import Prepared

if TYPE_CHECKING:
    from aiokafka import AIOKafkaProducer

MOST_GATHERED = 1000
"""Records of a topic that go out without waiting any longer."""

WORTH_A_REQUEST = 250
"""Records that come as batches and are sent so: to gather as many costs as much as a request, at 3 µs a record."""


class _Gathered:
    """Records of a topic that go out together."""

    def __init__(self) -> None:
        self.records: list[Outgoing] = []
        self.full = asyncio.Event()
        self.queued = asyncio.Event()
        """Set when the producer has them."""
        self.acknowledged: asyncio.Future[Any] = asyncio.get_running_loop().create_future()


class LingeringOutbox(Outbox):
    """An outbox that gathers a topic's records, in order, for some time after the first.

    Parameters
    ----------
    producer
        As for `Outbox`.
    seconds
        How long.
    """

    def __init__(self, producer: Callable[[], AIOKafkaProducer], seconds: float) -> None:
        super().__init__(producer)
        self._seconds = seconds
        self._gathering: dict[str, _Gathered] = {}
        self._in_turn: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._tasks: set[asyncio.Task[None]] = set()

    async def send(self, topic: str, records: Iterable[Outgoing]) -> list[asyncio.Future[Any]]:
        """Put records on a topic with those that come soon after; waits where more have gathered than can be sent.

        Returns
        -------
        A future, done when the broker has all that was gathered with the records; none where there are no records.
        """
        own = list(records)
        if not own:
            return []
        gathered = self._gathering.get(topic)
        if gathered is None:
            gathered = self._gathering[topic] = _Gathered()
            task = asyncio.create_task(self._flush(topic, gathered))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        gathered.records += own
        if len(gathered.records) >= MOST_GATHERED:
            gathered.full.set()
            await gathered.queued.wait()
        # Whoever stops waiting must not cancel it for the others.
        return [asyncio.shield(gathered.acknowledged)]

    async def send_prepared(self, topic: str, batches: Iterable[tuple[int, Prepared]]) -> list[asyncio.Future[Any]]:
        """Send batches as they are, after what has been gathered; few records are gathered themselves.

        Either way those of one key stay in order.
        """
        own = list(batches)
        if sum(batch.record_count() for _, batch in own) < WORTH_A_REQUEST:
            return await self.send(topic, (Outgoing(key, value) for _, batch in own for key, value in batch.records()))
        gathered = self._gathering.get(topic)
        if gathered is not None:
            gathered.full.set()
            await gathered.queued.wait()
        async with self._in_turn[topic]:
            return await super().send_prepared(topic, own)

    async def _flush(self, topic: str, gathered: _Gathered) -> None:
        try:
            async with asyncio.timeout(self._seconds):
                await gathered.full.wait()
        except TimeoutError:
            pass
        try:
            async with self._in_turn[topic]:
                del self._gathering[topic]
                sent = await super().send(topic, gathered.records)
            gathered.queued.set()
            gathered.acknowledged.set_result(await asyncio.gather(*sent))
        except Exception as error:  # noqa: BLE001 - it is the checkpoint's, which waits for the records
            gathered.acknowledged.set_exception(error)
        finally:
            gathered.queued.set()
