"""Sensors that leave memory: those another tier wants, those it has taken, and those that have gone quiet.

Whatever the reason, it goes one way: hold their blocks, save their state in the table and in Redis once all
features behind it are acknowledged, release them, forget them. Blocks that come meanwhile claim them again.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

from app import metrics
from app.mirror.states import Saved, Wanted
from app.runtime.arrivals import Arrivals
from app.runtime.checkpoint import Checkpointer
from app.runtime.claims import FIRST_UNKNOWN, Claims
from app.runtime.processor import Processor, Resident
from app.tiers import TierDefaults


class Departures:
    """Hands sensors over.

    Parameters
    ----------
    tier
        Name, for the metrics.
    processor, arrivals, checkpoints, claims
        The tier's own.
    lag
        Messages of a partition of the tier's topic that are not processed yet.
    handoff_wait
        How long another tier waits for a sensor, s.
    own
        The tier's values in force: when a sensor is idle, and how many such leave in one go.
    """

    def __init__(
        self,
        tier: str,
        processor: Processor,
        arrivals: Arrivals,
        checkpoints: Checkpointer,
        claims: Claims,
        lag: Callable[[int], int],
        handoff_wait: float,
        own: TierDefaults,
    ) -> None:
        self._tier = tier
        self._processor = processor
        self._arrivals = arrivals
        self._checkpoints = checkpoints
        self._claims = claims
        self._lag = lag
        self._patience = handoff_wait / 2
        self._idle_after = own.idle_after
        self._at_once = own.at_once
        #: When each sensor that is wanted was first asked for, s.
        self._asked: dict[Wanted, float] = {}
        self._lost: set[str] = set()
        arrivals.hand_over = self.hand_over

    async def hand_over(self, partition: int, sensor_ids: Sequence[str]) -> None:
        """Save, release and forget sensors of a partition."""
        arrivals = self._arrivals
        own = [id_ for id_ in sensor_ids if id_ not in arrivals.waiting or not arrivals.waiting[id_].leaving]
        if not own:
            return
        arrivals.freeze(own)
        await self._checkpoints.hand_over(partition, own)
        self._processor.evict(own)
        arrivals.thaw(own)

    async def give_what_is_wanted(self) -> None:
        """Hand over the sensors that other tiers want, as soon as what they wait for has been processed."""
        now = time.monotonic()
        wanted = [want for want in await self._claims.wanted() if self._has(want)]
        self._asked = {want: self._asked.get(want, now) for want in wanted}
        leaving = {}
        for want, asked in self._asked.items():
            resident = self._processor.residents[want.sensor_id]
            if want.first >= FIRST_UNKNOWN:
                done = asked < now and not self._lag(resident.partition)
            else:
                done = resident.sensor.next_index >= want.first
            if done or now - asked > self._patience:
                leaving[want.sensor_id] = resident
        metrics.HANDOFFS.labels(self._tier, "given").inc(len(leaving))
        await self._leave(leaving.values())

    def _has(self, want: Wanted) -> bool:
        resident = self._processor.residents.get(want.sensor_id)
        return resident is not None and resident.sensor.epoch <= want.epoch

    def lose(self, refused: Iterable[Saved]) -> None:
        """Take note that Redis refused states: somebody else has these sensors."""
        for state in refused:
            resident = self._processor.residents.get(state.sensor_id)
            # An older claim's save, refused late, says nothing about the present one.
            if resident is not None and resident.sensor.epoch == state.epoch:
                self._lost.add(state.sensor_id)

    async def drop_what_is_lost(self) -> None:
        """Forget the sensors that somebody else has; what they have here goes to the table first."""
        residents = self._processor.residents
        lost = [residents[sensor_id] for sensor_id in self._lost if sensor_id in residents]
        self._lost.clear()
        metrics.HANDOFFS.labels(self._tier, "lost").inc(len(lost))
        await self._leave(lost)

    async def evict_idle(self) -> None:
        """Let sensors go that have had no block for `idle_after`."""
        idle = self._processor.idle(time.monotonic() - self._idle_after)
        # Of one partition together, so that one write takes many.
        idle.sort(key=lambda resident: resident.partition)
        for begin in range(0, len(idle), self._at_once):
            since = time.monotonic() - self._idle_after
            # Some may have had a block while others left.
            some = [
                own
                for own in idle[begin : begin + self._at_once]
                if self._is_here(own) and self._processor.last_used(own) < since
            ]
            metrics.EVICTED.labels(self._tier).inc(len(some))
            await self._leave(some)

    def _is_here(self, resident: Resident) -> bool:
        return self._processor.residents.get(resident.sensor.id) is resident

    async def _leave(self, residents: Iterable[Resident]) -> None:
        by_partition: defaultdict[int, list[str]] = defaultdict(list)
        for resident in residents:
            by_partition[resident.partition].append(resident.sensor.id)
        await asyncio.gather(*(self.hand_over(partition, ids) for partition, ids in by_partition.items()))
