"""Features on their way to the producer: what comes while a request is under way goes together in the next.

The producer has one request under way, with one batch of a partition: were each stretch's records sent by themselves,
the time of a request would bound the blocks a second. What waits alone goes at once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from app.compiled.features import Encoded, FeatureBatches, Rows
    from app.runtime.prepared import Prepared

MOST_ROWS = 1 << 14
"""Records that wait, beyond which no more are taken; those of one stretch may bring them beyond it."""


class Records(NamedTuple):
    """Records of one stretch."""

    encoder: FeatureBatches
    rows: Rows


class _Waiting(NamedTuple):
    records: Records
    acknowledged: asyncio.Future[None]


class FeatureQueue:
    """What is to be sent to one topic.

    Parameters
    ----------
    partitions
        Of the topic.
    largest_batch
        That the producer takes, bytes.
    send
        Gives the producer record batches, and what is done when the broker has them.
    note
        Called with what has been encoded.
    """

    def __init__(
        self,
        partitions: int,
        largest_batch: int,
        send: Callable[[list[tuple[int, Prepared]]], Awaitable[list[asyncio.Future[Any]]]],
        note: Callable[[Encoded], None],
    ) -> None:
        self._partitions = partitions
        self._largest_batch = largest_batch
        self._send = send
        self._note = note
        self._waiting: deque[_Waiting] = deque()
        self._rows = 0
        self._sender: asyncio.Task[None] | None = None
        self._room = asyncio.Event()
        self._handed_over = asyncio.Event()
        self._handed_over.set()

    async def put(self, records: Records) -> asyncio.Future[None]:
        """Take records; they are sent in the order in which they were put.

        Returns
        -------
        A future, done when the broker has them. The call itself waits while too many wait already.
        """
        while self._rows >= MOST_ROWS:
            self._room.clear()
            await self._room.wait()
        waiting = _Waiting(records, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._rows += len(records.rows.timestamps)
        self._handed_over.clear()
        if self._sender is None or self._sender.done():
            self._sender = asyncio.create_task(self._run())
        return waiting.acknowledged

    async def handed_over(self) -> None:
        """Wait until the producer has everything that was put, so that what it gets now comes after it."""
        await self._handed_over.wait()

    async def _run(self) -> None:
        while self._waiting:
            taken = list(self._waiting)
            self._waiting.clear()
            self._rows = 0
            try:
                sent = await self._send(self._encoded([waiting.records for waiting in taken]))
                self._room.set()
                if not self._waiting:
                    self._handed_over.set()
                await asyncio.gather(*sent)
            except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - it is the checkpoint's, which waits
                self._room.set()
                failure = (
                    error if isinstance(error, Exception) else RuntimeError("the sending of features was cancelled")
                )
                for waiting in taken:
                    waiting.acknowledged.set_exception(failure)
            else:
                for waiting in taken:
                    waiting.acknowledged.set_result(None)
        self._handed_over.set()

    def _encoded(self, some: Sequence[Records]) -> list[tuple[int, Prepared]]:
        batches = []
        # Ids of one stretch lie where those of the one before lie, unless a sensor has come or gone.
        for _, alike in groupby(some, key=lambda records: (id(records.encoder), id(records.rows.texts))):
            own = list(alike)
            rows = _joined([records.rows for records in own])
            encoded = own[0].encoder.encode_by_key(rows, self._partitions, self._largest_batch)
            self._note(encoded)
            batches += encoded.batches
        return batches


def _joined(some: Sequence[Rows]) -> Rows:
    """Put together rows whose ids lie in one place."""
    first = some[0]
    if len(some) == 1:
        return first
    columns = (np.concatenate(column) for column in zip(*(rows[1:] for rows in some), strict=True))
    return type(first)(first.texts, *columns)
