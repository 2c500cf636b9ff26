"""Whose turn it is, where a worker runs several tiers: rt goes before nrt, and nrt before batch.

All tiers share one thread. A slower tier works in slices of some milliseconds, and before each of them it lets the
faster ones finish what they have. A faster tier that never finishes, as more comes than one core can do, leaves the
slower ones a tenth of the time: they go on, and the watchdog sees them go on.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

from app.settings import TIERS, TierName

SLICE_SECONDS = 0.003
"""Of work of a slower tier, between two looks at the faster ones."""

LEAST_RECORDS = 25
"""In a slice, whatever they take: each slice costs some asking around."""

LOOKS = 6
"""Rounds of the event loop after a slice: what has come from the network meanwhile takes some until it is queued, and
what goes out some until it is sent."""

LEAST_SECONDS = 1e-4
"""That a slice is taken to have taken, as the clock is coarse."""

PATIENCE = 9.0
"""Times its last slice that a tier waits for the faster ones."""


class Turns:
    """The turns of a worker's tiers.

    Parameters
    ----------
    tiers
        That the worker runs.
    waits
        Tells whether a tier has input that waits for it.
    """

    def __init__(self, tiers: Sequence[TierName], waits: Callable[[TierName], bool]) -> None:
        self._order = [tier for tier in TIERS if tier in tiers]
        self._waits = waits
        self._at_work: Counter[TierName] = Counter()
        self._finished = asyncio.Event()

    def of(self, tier: TierName, most: int) -> Turn:
        """Give the turns of a tier whose slices have at most so many records."""
        return Turn(self, self._order[: self._order.index(tier)], tier, most)

    @contextmanager
    def at_work(self, tier: TierName) -> Iterator[None]:
        """Mark the time in which a tier works on a batch."""
        self._at_work[tier] += 1
        try:
            yield
        finally:
            self._at_work[tier] -= 1
            self._finished.set()

    def busy(self, tiers: Sequence[TierName]) -> bool:
        """Whether one of some tiers has input, at work or waiting."""
        return any(self._at_work[tier] or self._waits(tier) for tier in tiers)

    async def finished(self) -> None:
        """Wait until some tier has finished a batch."""
        self._finished.clear()
        await self._finished.wait()


class Turn:
    """The turns of one tier.

    Parameters
    ----------
    turns
        Of all.
    faster
        Tiers that go before it.
    tier
        Its name.
    most
        Records in a slice at the most.
    """

    def __init__(self, turns: Turns, faster: Sequence[TierName], tier: TierName, most: int) -> None:
        self._turns = turns
        self._faster = faster
        self._tier = tier
        self._most = most
        self._last = SLICE_SECONDS
        self.at_once = min(LEAST_RECORDS, most) if faster else most
        """Records in the next slice."""

    def at_work(self) -> AbstractContextManager[None]:
        """Mark the time in which the tier works on a batch."""
        return self._turns.at_work(self._tier)

    async def come(self) -> None:
        """Wait for the next turn: until no faster tier has input, or the tier has waited its share."""
        for _ in range(LOOKS if self._faster else 1):
            await asyncio.sleep(0)
        if not self._turns.busy(self._faster):
            return
        try:
            async with asyncio.timeout(PATIENCE * self._last):
                while self._turns.busy(self._faster):
                    await self._turns.finished()
        except TimeoutError:
            return

    @contextmanager
    def slice(self, records: int) -> Iterator[None]:
        """Mark a slice of so many records; the next is as large as fits its time, and at most twice as large."""
        begin = time.thread_time()
        yield
        self._last = max(time.thread_time() - begin, LEAST_SECONDS)
        if self._faster:
            fitting = int(records * SLICE_SECONDS / self._last)
            self.at_once = min(max(fitting, LEAST_RECORDS), 2 * self.at_once, self._most)
