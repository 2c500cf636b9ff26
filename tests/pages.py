"""A worker's pages, as a client of them reads them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
import msgspec
from prometheus_client.parser import text_string_to_metric_families
from yarl import URL

from app.web.status import Workers
from app.worker_process import WorkerProcess


@asynccontextmanager
async def visit(worker: WorkerProcess, path: str) -> AsyncIterator[aiohttp.ClientResponse]:
    """Ask a worker for a page."""
    address = URL(f"{worker.url}{path}", encoded=True)  # as it is, dots and all
    async with aiohttp.ClientSession() as session, session.get(address) as response:
        yield response


async def all_workers_of(worker: WorkerProcess) -> Workers:
    """All workers, as one of them sees them."""
    async with visit(worker, "/v1/workers") as response:
        assert response.status == 200
        assert response.content_type == "application/json"
        return msgspec.json.decode(await response.read(), type=Workers)


async def metrics_of(worker: WorkerProcess) -> dict[str, float]:
    """A worker's metrics by name and labels, as in ``continuum_blocks_total rt``; labels by name."""
    async with visit(worker, "/metrics") as response:
        assert response.status == 200
        text = await response.text()
    return {
        " ".join((sample.name, *(value for _, value in sorted(sample.labels.items())))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def until(holds: Callable[[], Awaitable[bool]], what: str, seconds: float = 30.0) -> None:
    """Wait until something holds."""
    try:
        async with asyncio.timeout(seconds):
            while not await holds():  # noqa: ASYNC110 - other processes bring it about
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise AssertionError(f"not within {seconds:g} s: {what}") from None
