"""Records that are gathered before they are sent: all, in order, in few requests, and no more than fit."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, cast

import pytest

from app.runtime import lingering
from app.runtime.lingering import LingeringOutbox
from app.runtime.outbox import Outbox, Outgoing


class Producer:
    """Stands for the producer behind the outbox: takes requests, and acknowledges them when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.requests: list[tuple[str, list[bytes | None]]] = []
        self.acknowledged: list[asyncio.Future[Any]] = []
        self.open = asyncio.Event()
        self.open.set()

        async def send(_: Outbox, topic: str, records: Iterable[Outgoing]) -> list[asyncio.Future[Any]]:
            own = list(records)
            await self.open.wait()
            self.requests.append((topic, [record.value for record in own]))
            self.acknowledged.append(asyncio.get_running_loop().create_future())
            return self.acknowledged[-1:]

        monkeypatch.setattr(Outbox, "send", send)


def outbox(seconds: float = 0.02) -> LingeringOutbox:
    return LingeringOutbox(cast("Any", None), seconds)


def record(number: int) -> Outgoing:
    return Outgoing(b"s", b"%d" % number)


async def requests(producer: Producer, count: int) -> None:
    async with asyncio.timeout(10):
        while len(producer.requests) < count:  # noqa: ASYNC110 - a list, not an event
            await asyncio.sleep(0.005)


async def test_what_comes_soon_after_goes_with_it_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    producer, own = Producer(monkeypatch), outbox()
    futures = [future for n in range(5) for future in await own.send("a", [record(n)])]
    futures += await own.send("b", [record(9)])
    assert await own.send("a", []) == []
    await requests(producer, 2)
    assert producer.requests == [("a", [b"0", b"1", b"2", b"3", b"4"]), ("b", [b"9"])]
    assert not any(future.done() for future in futures)
    for acknowledged in producer.acknowledged:
        acknowledged.set_result(None)
    await asyncio.gather(*futures)
    await own.send("a", [record(5)])
    await requests(producer, 3)
    assert producer.requests[-1] == ("a", [b"5"])


async def test_a_refusal_comes_to_whoever_waits_and_one_who_stops_waiting_harms_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    producer, own = Producer(monkeypatch), outbox()
    (one,), (other,) = await own.send("a", [record(0)]), await own.send("a", [record(1)])
    one.cancel()
    await requests(producer, 1)
    producer.acknowledged[0].set_exception(OSError("refused"))
    with pytest.raises(OSError, match="refused"):
        await other


async def test_no_more_gathers_than_fits_while_the_producer_takes_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lingering, "MOST_GATHERED", 3)
    producer, own = Producer(monkeypatch), outbox(seconds=600.0)
    producer.open.clear()
    first = asyncio.create_task(own.send("a", [record(n) for n in range(3)]))
    await asyncio.sleep(0.01)
    second = asyncio.create_task(own.send("a", [record(n) for n in range(3, 6)]))
    await asyncio.sleep(0.01)
    assert not first.done()
    assert not second.done()
    producer.open.set()
    await asyncio.gather(first, second)
    assert [values for _, values in producer.requests] == [[b"0", b"1", b"2"], [b"3", b"4", b"5"]]
