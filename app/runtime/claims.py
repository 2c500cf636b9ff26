"""Asking Redis for sensors, without ever being held up by it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar

from redis.exceptions import RedisError

from app.mirror.ownership import Ownership
from app.mirror.states import Claim, Claimed, Saved, Wanted
from app.sensors.described import Described, described

logger = logging.getLogger(__name__)

PATIENCE = 1.0
"""Seconds that an answer is waited for; input waits with us."""

ASK_AGAIN = 2.0
"""Seconds after a failure before Redis is asked again."""

FIRST_UNKNOWN = 1 << 53
"""Index of a block that only the sensor's state can tell: whoever has the sensor must give it up first."""

_T = TypeVar("_T")


class Claims:
    """A tier's ownership in Redis; each answer is None where Redis gives none in time.

    Parameters
    ----------
    ownership
        What asks.
    """

    def __init__(self, ownership: Ownership) -> None:
        self._ownership = ownership
        self._ask_again = 0.0
        self.answering = True
        """Whether Redis gave an answer when it was asked last."""

    async def claim(self, claims: Sequence[Claim], *, force: bool = False) -> dict[str, Claimed] | None:
        """Claim sensors; gives what Redis says of each."""
        answers = await self._ask(partial(self._ownership.claim, claims, force=force))
        return None if answers is None else {answer.sensor_id: answer for answer in answers}

    async def described(self, sensor_ids: Sequence[str]) -> dict[str, Described] | None:
        """Ask what is known of sensors."""
        return await self._ask(partial(described, self._ownership.redis, self._ownership.prefix, sensor_ids))

    async def save(self, states: Sequence[Saved]) -> list[Saved] | None:
        """Save states; gives the refused ones."""
        return await self._ask(partial(self._ownership.save, states))

    async def release(self, sensors: Sequence[tuple[str, int]]) -> None:
        """Release sensors, each under its epoch."""
        await self._ask(partial(self._ownership.release, sensors))

    async def wanted(self) -> list[Wanted]:
        """Sensors of ours that others want."""
        return await self._ask(self._ownership.wanted) or []

    async def _ask(self, question: Callable[[], Awaitable[_T]]) -> _T | None:
        if time.monotonic() < self._ask_again:
            return None
        try:
            async with asyncio.timeout(PATIENCE):
                answer = await question()
        except (RedisError, OSError, TimeoutError) as error:
            if self.answering:
                logger.warning("claims: Redis does not answer (%s); tables and memory serve meanwhile", error or "late")
            self.answering = False
            self._ask_again = time.monotonic() + ASK_AGAIN
            return None
        self.answering = True
        return answer
