"""How bytes come from a broker: a large response is received where it will stay."""

from __future__ import annotations

import asyncio
import weakref
from io import BytesIO
from types import SimpleNamespace
from typing import Any, cast

from aiokafka import conn

LARGE = 1 << 16
"""Bytes from which a response is received in place; also how much is received at once otherwise."""


_AioKafkaProtocol = conn.AIOKafkaProtocol


class Reader(asyncio.StreamReader):
    """Stream whose large parts are not received piece by piece, joined, and copied out.

    asyncio's own makes an object of each piece and grows a buffer by it, pausing and resuming all the while, and
    copies what was asked for out of that buffer: megabytes pass through the processor's caches four times.
    """

    _wanted: memoryview | None = None
    _received = 0

    async def readexactly(self, n: int) -> bytes:
        """Read so many bytes; they are a `bytearray` where they are many."""
        if n < LARGE:
            return await super().readexactly(n)
        part = bytearray(n)
        buffered: bytearray = self._buffer  # type: ignore[attr-defined]
        self._received = min(len(buffered), n)
        part[: self._received] = buffered[: self._received]
        del buffered[: self._received]
        self._maybe_resume_transport()  # type: ignore[attr-defined]
        self._wanted = memoryview(part)
        try:
            while self._received < n:
                if self._exception is not None:  # type: ignore[attr-defined]
                    raise self._exception  # type: ignore[attr-defined]
                if self._eof:  # type: ignore[attr-defined]
                    raise asyncio.IncompleteReadError(bytes(self._wanted[: self._received]), n)
                await self._wait_for_data("readexactly")  # type: ignore[attr-defined]
        finally:
            self._wanted = None
        return part  # type: ignore[return-value]

    def room(self) -> memoryview | None:
        """Where to receive the next bytes to; None where nobody waits for many."""
        return None if self._wanted is None or self._received == len(self._wanted) else self._wanted[self._received :]

    def received(self, size: int) -> None:
        """Note that so many bytes have been received to the `room`."""
        self._received += size
        if self._wanted is not None and self._received == len(self._wanted):
            self._wakeup_waiter()  # type: ignore[attr-defined]


class Protocol(asyncio.BufferedProtocol):
    """aiokafka's protocol, receiving to its reader's room.

    uvloop takes none for buffered that is derived from `asyncio.Protocol`, as aiokafka's is; so it is held here.
    """

    def __init__(self, closed: Any, reader: asyncio.StreamReader, **kwargs: Any) -> None:
        self._held = _AioKafkaProtocol(closed, reader, **kwargs)
        reader.__class__ = Reader  # made by aiokafka, which has no hook for it
        self._reader = weakref.ref(cast("Reader", reader))
        self._scratch = memoryview(bytearray(LARGE))
        self._in_place = False
        for name in ("connection_made", "connection_lost", "pause_writing", "resume_writing", "eof_received"):
            setattr(self, name, getattr(self._held, name))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._held, name)

    def get_buffer(self, _sizehint: int) -> memoryview:
        """Give the transport where to receive to."""
        reader = self._reader()
        room = None if reader is None else reader.room()
        self._in_place = room is not None
        return self._scratch if room is None else room

    def buffer_updated(self, nbytes: int) -> None:
        """Take what the transport has received."""
        reader = self._reader()
        if reader is None:
            return
        if self._in_place:
            reader.received(nbytes)
        else:
            reader.feed_data(self._scratch[:nbytes])


class Frame:
    """A response received in place, read as from a file; aiokafka's own reading copies it once more."""

    def __init__(self, data: bytearray) -> None:
        self._data = memoryview(data)
        self._at = 0

    def read(self, size: int) -> bytes:
        """Give the next bytes, fewer at the end."""
        begin = self._at
        self._at = min(begin + size, len(self._data))
        return self._data[begin : self._at].tobytes()

    def view(self, size: int) -> memoryview:
        """Give the next bytes without copying them, fewer at the end."""
        begin = self._at
        self._at = min(begin + size, len(self._data))
        return self._data[begin : self._at]


def install() -> None:
    """Have the connections that aiokafka makes from now on receive so."""
    conn.AIOKafkaProtocol = Protocol
    conn.io = SimpleNamespace(BytesIO=lambda data: Frame(data) if isinstance(data, bytearray) else BytesIO(data))
