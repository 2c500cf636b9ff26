"""TCP proxies between workers and Kafka, so that one worker's network can be cut and restored.

They run in a process of their own (`python -m app.chaos.proxy`), which takes orders on stdin and ends with it.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Literal, Self

import msgspec

from app.chaos.kafka_cluster import Route
from app.services.errors import ServiceError
from app.services.ports import LOOPBACK

Condition = Literal["open", "stalled", "refused"]
"""`stalled`: connections stay, and nothing passes, as with a dead cable; what was on its way passes later.
`refused`: connections are reset, and new ones refused."""

_CHUNK = 1 << 18

#: Linger for no time: a close resets.
_AT_ONCE = struct.pack("ii", 1, 0)


class _Order(msgspec.Struct):
    group: int
    condition: Condition


class Network:
    """The proxies of several groups of clients.

    Parameters
    ----------
    groups
        For each group its way into each broker.
    """

    def __init__(self, groups: Sequence[Sequence[Route]]) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - our own words
            [sys.executable, "-m", "app.chaos.proxy", msgspec.json.encode(groups).decode()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
            start_new_session=True,  # so that Ctrl-C reaches it by way of us
        )
        self._expect_answer()

    def set(self, group: int, condition: Condition) -> None:
        """Bring about the condition of a group's network; returns when it holds."""
        stdin = self._process.stdin
        if stdin is not None:
            stdin.write(msgspec.json.encode(_Order(group, condition)) + b"\n")
            stdin.flush()
        self._expect_answer()

    def close(self) -> None:
        """End the proxies."""
        self._process.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _expect_answer(self) -> None:
        stdout = self._process.stdout
        if stdout is None or not stdout.readline():
            raise ServiceError(f"the proxies ended with exit code {self._process.wait()}; their error is above")


class Proxy:
    """The proxies of one group.

    Parameters
    ----------
    routes
        Its way into each broker.
    """

    def __init__(self, routes: Sequence[Route]) -> None:
        self._routes = routes
        self._servers: list[asyncio.Server] = []
        self._open = asyncio.Event()
        self._transports: set[asyncio.WriteTransport] = set()

    async def set(self, condition: Condition) -> None:
        """Bring about a condition."""
        if condition == "refused":
            for server in self._servers:
                server.close()
            self._servers.clear()
            for transport in list(self._transports):
                _reset(transport)
        elif not self._servers:
            self._servers = [
                await asyncio.start_server(partial(self._connected, route), LOOPBACK, route.port, limit=_CHUNK)
                for route in self._routes
            ]
        if condition == "open":
            self._open.set()
        else:
            self._open.clear()

    async def _connected(self, route: Route, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ends = {writer.transport}
        self._transports |= ends
        try:
            await self._open.wait()
            there, back = await asyncio.open_connection(LOOPBACK, route.broker_port, limit=_CHUNK)
            ends.add(back.transport)
            self._transports |= ends
            await asyncio.gather(self._pump(reader, back), self._pump(there, writer))
        except asyncio.CancelledError:  # the end; asyncio's streams would print it as an error of theirs
            return
        except OSError:  # the broker is down: so is its proxy
            _reset(writer.transport)
        finally:
            self._transports -= ends

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass on what comes until either side closes; then close the other."""
        with suppress(OSError):
            while data := await reader.read(_CHUNK):
                await self._open.wait()
                writer.write(data)
                await writer.drain()
        await self._open.wait()  # a dead cable does not tell either that the other side has gone
        writer.close()


def _reset(transport: asyncio.WriteTransport) -> None:
    """End a connection the hard way, as a host does that knows nothing of it."""
    own = transport.get_extra_info("socket")
    own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
    transport.abort()


async def serve(groups: Sequence[Sequence[Route]]) -> None:
    """Run proxies as stdin orders, and answer each order with a line on stdout; return when stdin ends."""
    proxies = [Proxy(routes) for routes in groups]
    for proxy in proxies:
        await proxy.set("open")
    decoder = msgspec.json.Decoder(_Order)
    while True:
        sys.stdout.write("done\n")
        sys.stdout.flush()
        line = await asyncio.to_thread(sys.stdin.buffer.readline)
        if not line:
            return
        order = decoder.decode(line)
        await proxies[order.group].set(order.condition)


if __name__ == "__main__":
    asyncio.run(serve(msgspec.json.decode(sys.argv[1], type=list[list[Route]])))
