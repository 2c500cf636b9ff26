"""Features on their way: in order, together while a request is under way, and no failure without who waits for it."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from app import compiled
from app.pipelines import shipped_pipelines
from app.runtime.feature_queue import MOST_ROWS, FeatureQueue, Records

pytestmark = pytest.mark.skipif(not compiled.AVAILABLE, reason="numba is not installed")

PARTITIONS = 3


class Broker:
    """Takes batches, and acknowledges them when told to."""

    def __init__(self) -> None:
        self.requests: list[list[tuple[bytes, bytes]]] = []
        self.answer = asyncio.Event()
        self.error: Exception | None = None

    async def send(self, batches: list[tuple[int, Any]]) -> list[asyncio.Future[None]]:
        if self.error is not None:
            raise self.error
        self.requests.append([record for _, batch in batches for record in batch.records()])
        return [asyncio.ensure_future(self._acknowledge()) for _ in batches]

    async def _acknowledge(self) -> None:
        await self.answer.wait()


def encoder() -> Any:
    from app.compiled.features import FeatureBatches

    return FeatureBatches(shipped_pipelines()["ecg"], "rt")


def records(own: Any, seq: int, ids: list[str]) -> Records:
    from app.compiled.features import Rows

    texts = [id_.encode() for id_ in ids]
    ends = np.cumsum([len(text) for text in texts], dtype=np.int64)
    count = len(ids)
    rows = Rows(
        np.frombuffer(bytearray(b"".join(texts)), np.uint8),
        np.concatenate([[0], ends[:-1]]).astype(np.int64),
        ends,
        np.full(count, 1_700_000_000_000),
        np.full(count, seq),
        np.zeros((count, 4)),
        np.ones((count, 4), dtype=np.bool_),
    )
    return Records(own, rows)


def seqs(request: list[tuple[bytes, bytes]], id_: str) -> list[int]:
    return [int(value.split(b'"seq":')[1].split(b",")[0]) for key, value in request if key == id_.encode()]


async def test_what_waits_alone_goes_at_once_and_what_comes_meanwhile_together():
    broker, notes, own = Broker(), [], encoder()
    queue = FeatureQueue(PARTITIONS, 1 << 20, broker.send, notes.append)
    first = await queue.put(records(own, 0, ["a", "b"]))
    await asyncio.sleep(0.01)
    later = [await queue.put(records(own, seq, ["a", "b", "c"])) for seq in range(1, 6)]
    await asyncio.sleep(0.01)
    assert len(broker.requests) == 1, "the first is under way"
    assert not first.done()
    broker.answer.set()
    await asyncio.gather(first, *later)
    assert len(broker.requests) == 2
    assert [seqs(request, "a") for request in broker.requests] == [[0], [1, 2, 3, 4, 5]]
    assert sum(map(len, notes)) == 2 + 15


async def test_nobody_overtakes():
    broker, own = Broker(), encoder()
    queue = FeatureQueue(PARTITIONS, 1 << 20, broker.send, lambda _: None)
    await queue.put(records(own, 0, ["a"]))
    await asyncio.sleep(0.01)
    await queue.put(records(own, 1, ["a"]))
    handed_over = asyncio.create_task(queue.handed_over())
    await asyncio.sleep(0.01)
    assert not handed_over.done(), "the second waits for the first's answer"
    broker.answer.set()
    await handed_over
    assert [seqs(request, "a") for request in broker.requests] == [[0], [1]]


async def test_too_many_hold_up_who_brings_more():
    broker, own = Broker(), encoder()
    queue = FeatureQueue(PARTITIONS, 64 << 20, broker.send, lambda _: None)
    await queue.put(records(own, 0, ["a"]))
    await asyncio.sleep(0.01)
    await queue.put(records(own, 1, ["a"] * MOST_ROWS))
    one_more = asyncio.create_task(queue.put(records(own, 2, ["a"])))
    await asyncio.sleep(0.01)
    assert not one_more.done()
    broker.answer.set()
    await (await one_more)
    assert [seqs(request, "a")[0] for request in broker.requests] == [0, 1, 2]


async def test_who_waits_for_records_is_told_of_their_failure():
    broker, own = Broker(), encoder()
    queue = FeatureQueue(PARTITIONS, 1 << 20, broker.send, lambda _: None)
    broker.error = OSError("no brokers")
    failed = await queue.put(records(own, 0, ["a"]))
    with pytest.raises(OSError, match="no brokers"):
        await failed
    broker.error = None
    broker.answer.set()
    await (await queue.put(records(own, 1, ["a"])))
    assert len(broker.requests) == 1
