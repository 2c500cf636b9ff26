"""What an MQTT client has received and nobody has looked at yet."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from aiomqtt import Message

WINDOW = 1000
"""Messages of QoS 1 that a broker may have sent and not had acknowledged."""

MOST_BYTES = 32 << 20
"""Bytes that wait at most before messages of QoS 0 are dropped: nothing else holds these back."""

BATCH_MESSAGES, BATCH_BYTES = WINDOW // 2, 512 << 10
"""So much goes on at once, without waiting for more."""


class Inbox(asyncio.Queue[Message]):
    """A queue that drops only what its sender has allowed to be dropped, and says when there is enough in it."""

    def __init__(self, maxsize: int = 0) -> None:
        super().__init__(maxsize)
        self.dropped = 0
        """Messages of QoS 0 that found no room."""
        self._bytes = 0
        self._enough = asyncio.Event()

    def put_nowait(self, message: Message) -> None:
        """Take a message in."""
        if message.qos == 0 and self._bytes > MOST_BYTES:
            self.dropped += 1
            return
        super().put_nowait(message)
        self._bytes += len(message.payload)
        if self._bytes >= BATCH_BYTES or self.qsize() >= BATCH_MESSAGES:
            self._enough.set()

    def get_nowait(self) -> Message:
        """Give the oldest message."""
        message = super().get_nowait()
        self._bytes -= len(message.payload)
        if self._bytes < BATCH_BYTES and self.qsize() < BATCH_MESSAGES:
            self._enough.clear()
        return message

    async def fill(self, seconds: float) -> None:
        """Wait until there is enough for a batch, for so long at most."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._enough.wait(), seconds)

    def batch(self) -> list[Message]:
        """Give the oldest messages, one batch of them."""
        batch: list[Message] = []
        size = 0
        while not self.empty() and len(batch) < WINDOW and size < BATCH_BYTES:
            batch.append(self.get_nowait())
            size += len(batch[-1].payload)
        return batch
