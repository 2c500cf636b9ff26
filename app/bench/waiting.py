"""Waiting for what other processes bring about."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from app.bench.errors import BenchError


async def until(done: Callable[[], Awaitable[bool]], seconds: float, late: str) -> None:
    """Wait until something is done.

    Raises
    ------
    BenchError
        It took longer; ``late`` says what was not done, and whose log tells more.
    """
    try:
        async with asyncio.timeout(seconds):
            while not await done():  # noqa: ASYNC110 - it is another process
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise BenchError(f"{late} after {seconds:g} s") from None
