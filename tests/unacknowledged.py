"""The application, whose features stay on their way: the producer takes them, and no broker ever has them."""

import asyncio
from collections.abc import Iterable
from typing import Any

from app import app
from app.runtime.outbox import Outbox, Outgoing
from app.runtime.prepared import Prepared

__all__ = ["app"]

_send = Outbox.send


async def _keep(self: Outbox, topic: str, records: Iterable[Outgoing]) -> list[asyncio.Future[Any]]:
    if topic.endswith("-features"):
        return [asyncio.get_running_loop().create_future()] if list(records) else []
    return await _send(self, topic, records)


_send_prepared = Outbox.send_prepared


async def _keep_prepared(
    self: Outbox, topic: str, batches: Iterable[tuple[int, Prepared]]
) -> list[asyncio.Future[Any]]:
    if topic.endswith("-features"):
        return [asyncio.get_running_loop().create_future() for _ in batches]
    return await _send_prepared(self, topic, batches)


Outbox.send_prepared = _keep_prepared  # type: ignore[method-assign]
Outbox.send = _keep  # type: ignore[method-assign]
