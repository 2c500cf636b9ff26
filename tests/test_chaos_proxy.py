"""The network between a group of clients and a server can be cut, stalled and restored, and no other group's is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from app.chaos.kafka_cluster import Route
from app.chaos.proxy import Network
from app.services.ports import LOOPBACK, free_ports

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def echoing(port: int) -> AsyncIterator[None]:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            writer.write(data)
        writer.close()

    async with await asyncio.start_server(echo, LOOPBACK, port):
        yield


async def answers(connection: Connection, text: bytes) -> bool:
    reader, writer = connection
    writer.write(text)
    return await reader.readexactly(len(text)) == text


async def test_a_network_is_cut_and_restored_for_one_group() -> None:
    server, first, second = free_ports(3)
    async with echoing(server):
        with Network([[Route(first, server)], [Route(second, server)]]) as network:
            cut = await asyncio.open_connection(LOOPBACK, first)
            other = await asyncio.open_connection(LOOPBACK, second)
            assert await answers(cut, b"before" * 100_000)
            assert await answers(other, b"before")

            await asyncio.to_thread(network.set, 0, "refused")
            with pytest.raises(ConnectionResetError):
                await cut[0].read()
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection(LOOPBACK, first)
            assert await answers(other, b"meanwhile")

            await asyncio.to_thread(network.set, 0, "open")
            assert await answers(await asyncio.open_connection(LOOPBACK, first), b"after")


async def test_a_stalled_network_delivers_later_what_was_on_its_way() -> None:
    server, port = free_ports(2)
    async with echoing(server):
        with Network([[Route(port, server)]]) as network:
            connection = await asyncio.open_connection(LOOPBACK, port)
            assert await answers(connection, b"before")
            await asyncio.to_thread(network.set, 0, "stalled")
            late = asyncio.create_task(answers(connection, b"on its way"))
            # It connects, as the system accepts for the proxy, but nobody answers.
            fresh = asyncio.create_task(answers(await asyncio.open_connection(LOOPBACK, port), b"new"))
            done, _ = await asyncio.wait([late, fresh], timeout=0.5)
            assert not done
            await asyncio.to_thread(network.set, 0, "open")
            assert await late
            assert await fresh


async def test_a_server_that_is_down_is_down_behind_its_proxy() -> None:
    server, port = free_ports(2)
    with Network([[Route(port, server)]]):
        reader, _ = await asyncio.open_connection(LOOPBACK, port)
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(1)
