"""The two ways of a tier's blocks: the express lane, where it can be had, and the ordinary way for what that leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Container, Sequence
from importlib import import_module
from typing import Any, cast

from app import compiled
from app.dsp.snapshot import Position
from app.runtime.arrivals import Arrivals
from app.runtime.emitter import Emitter
from app.runtime.portion import Portion
from app.runtime.processor import Processor
from app.runtime.resolver import Resolver
from app.runtime.stretches import Lot
from app.transport.raw_records import RawRecords

FIRST_LEFT, MORE_LEFT = 16, 4
"""Records that go the ordinary way before the others of a stretch are tried again, and how many times as many the next
time: a sensor that is met needs it for its first block alone."""


class Lanes:
    """Processes stretches.

    Parameters
    ----------
    tier, topic
        Names.
    processor, arrivals, resolver, emitter
        The tier's; the processor is told of the express lane.
    at_once
        Most records that go the ordinary way in one go.
    express
        Whether to have an express lane, if numba is there to compile it.
    """

    def __init__(
        self,
        tier: str,
        topic: str,
        processor: Processor,
        arrivals: Arrivals,
        resolver: Resolver,
        emitter: Emitter,
        at_once: int,
        *,
        express: bool = True,
    ) -> None:
        self._topic = topic
        self._processor = processor
        self._arrivals = arrivals
        self._resolver = resolver
        self._emitter = emitter
        self._at_once = at_once
        if express and compiled.AVAILABLE:
            processor.express = import_module("app.runtime.express").Express(
                topic,
                tier,
                processor.engines,
                resolver.set_pipeline,
                processor.mark_changed,
            )

    async def process(self, stretch: Sequence[Lot]) -> None:
        """Process a stretch: the express lane first, then what it leaves."""
        if not stretch:
            return
        express = self._processor.express
        if express is None or not all(isinstance(lot.records, RawRecords) for lot in stretch):
            for lot in stretch:
                await self._process_rest(lot, lot.records, lot.records[-1].offset + 1, ())
            return
        done: list[set[str]] = [set() for _ in stretch]
        at_once = FIRST_LEFT
        while stretch:
            taken = await self._arrivals.express(express, stretch)
            left: dict[int, list[tuple[Lot, set[str]]]] = {}
            for lot, rest, gone, now in zip(stretch, taken.rest, done, taken.done, strict=True):
                gone.update(now)
                # Whatever is left of a partition goes after all that is left of it before.
                most = 0 if lot.partition in left else at_once
                some, later = [lot.records[number] for number in rest[:most]], rest[most:]
                if some:
                    # Before those that come after these; and the lot's own end, once there are none.
                    end = lot.records[later[0]].offset if later else lot.records[-1].offset + 1
                    await self._process_rest(lot, some, end, gone)
                if later:
                    records = cast("RawRecords", lot.records).only(later)
                    left.setdefault(lot.partition, []).append((lot._replace(records=records), gone))
                await asyncio.sleep(0)
            stretch = [lot for lots in left.values() for lot, _ in lots]
            done = [gone for lots in left.values() for _, gone in lots]
            at_once = min(MORE_LEFT * at_once, self._at_once)

    async def _process_rest(self, lot: Lot, records: Sequence[Any], end: int, done: Container[str]) -> None:
        """Process records of a lot, up to an offset, the ordinary way, without the blocks of sensors that are done."""
        pending = lot.pending
        decoded = await self._resolver.decode(records, lot.partition)
        bad = [(why, records[why.record]) for why in decoded.bad]
        if bad:
            with pending.sending():
                await self._emitter.dead_letters_of(bad, f"{self._topic}-{lot.partition}", pending)
        position = Position(self._topic, lot.partition, end)
        for columns in decoded.columns:
            portion = Portion(columns, [records[number] for number in columns.records], position, pending)
            if done:
                portion = portion.without(set(portion.of(done)))
            if portion.records:
                await self._arrivals.process(portion)
