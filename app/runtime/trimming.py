"""Giving back memory that a peak has left free."""

from __future__ import annotations

import asyncio

from mode import Service

from app.memory import give_back_memory

PAUSE_SECONDS = 30.0
"""Between looks: peaks that come with every checkpoint are not given back each time."""


class Trimmer(Service):
    """Gives back, now and then, what the worker has freed and does not use again."""

    @Service.task
    async def _trim(self) -> None:
        while not self.should_stop:
            await self.sleep(PAUSE_SECONDS)
            await asyncio.to_thread(give_back_memory)
