"""Blocks on their way through a tier, and the partition batch they came in, which is acked when all are done."""

from __future__ import annotations

import asyncio
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from app.dsp.snapshot import Position
from app.wire.decode import BlockColumns, Record

if TYPE_CHECKING:
    from faust.types import EventT


class Pending:
    """A partition batch that has been delivered and not acked.

    Parameters
    ----------
    event
        Its Faust event, held until it is acked; None where the batch came otherwise.
    """

    def __init__(self, event: EventT[Any] | None = None) -> None:
        self.event = event
        self.sent: list[asyncio.Future[Any]] = []
        """Done when the broker has what the batch gave."""
        self.held = 1
        """Portions of it that wait for their sensors, and one for its being processed: it cannot be acked before."""
        self._sending = 0
        self._failure: BaseException | None = None
        self._quiet = asyncio.Event()
        self._quiet.set()

    @contextmanager
    def sending(self) -> Iterator[None]:
        """Mark the time from a change of state to its records' being queued: no checkpoint may fall in between."""
        self._sending += 1
        self._quiet.clear()
        try:
            yield
        except BaseException as error:
            # The state has changed, perhaps, and what it gave is not on its way: it must never be saved.
            self._failure = error
            raise
        finally:
            self._sending -= 1
            if not self._sending:
                self._quiet.set()

    async def acknowledged(self) -> None:
        """Wait until the broker has everything that the batch gave so far."""
        while self._sending or self.sent:
            await self._quiet.wait()
            sent = list(self.sent)
            await asyncio.gather(*sent)
            del self.sent[: len(sent)]
        if self._failure is not None:
            raise RuntimeError("what a batch gave has not all been sent") from self._failure


@dataclass(slots=True)
class Portion:
    """Blocks of one pipeline from one partition batch.

    Parameters
    ----------
    columns
        The blocks.
    records
        The message that each block came in.
    position
        Where the batch ends.
    pending
        The batch.
    """

    columns: BlockColumns
    records: Sequence[Record]
    position: Position
    pending: Pending = field(repr=False)
    partial: bool = False
    """Its sensors may have more blocks in the batch, before the position and after their last here."""

    @property
    def partition(self) -> int:
        """Partition of the tier's topic that the blocks came from."""
        return self.position.partition

    def only(self, numbers: Iterable[int]) -> Portion:
        """Give the same portion with just some blocks, named by their numbers."""
        kept = sorted(numbers)
        records = [self.records[number] for number in kept]
        return Portion(self.columns.only(kept), records, self.position, self.pending, self.partial)

    def up_to(self, numbers: Iterable[int]) -> Portion:
        """Give the same portion with just some blocks, of sensors that may have more in it.

        Its position lies before those: a state that has counted the first of a batch's blocks has not come to the
        batch's end, and would take the others for counted.
        """
        part = self.only(numbers)
        part.partial = True
        part.position = Position(
            self.position.topic, self.position.partition, min(record.offset for record in part.records)
        )
        return part

    def without(self, numbers: Container[int]) -> Portion:
        """Give the same portion without some blocks."""
        return self.only(number for number in range(len(self.records)) if number not in numbers)

    def of(self, sensor_ids: Container[str]) -> list[int]:
        """Numbers of the blocks of some sensors."""
        return [number for number, sensor_id in enumerate(self.columns.sensor_ids) if sensor_id in sensor_ids]

    def firsts_of(self, sensor_ids: Container[str]) -> set[int]:
        """Numbers of the first block of each of some sensors."""
        firsts: dict[str, int] = {}
        for number in self.of(sensor_ids):
            firsts.setdefault(self.columns.sensor_ids[number], number)
        return set(firsts.values())


def joined(portions: Sequence[Portion]) -> Portion:
    """Put together portions of one pipeline and one batch, one after another."""
    first = portions[0]
    if len(portions) == 1:
        return first
    columns = BlockColumns.joined([portion.columns for portion in portions])
    return Portion(columns, [record for own in portions for record in own.records], first.position, first.pending)
