"""A tier in the function: what a worker does over hours, for the blocks of one event."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from app.dsp.pipeline import Pipeline
from app.dsp.snapshot import Position
from app.mirror.ownership import Ownership
from app.mirror.states import Claim, Claimed, Saved
from app.runtime.arrivals import POLL_SECONDS, Arrivals
from app.runtime.claims import FIRST_UNKNOWN
from app.runtime.copies import newer
from app.runtime.emitter import Emitter
from app.runtime.portion import Pending, Portion
from app.runtime.processor import Processor
from app.sensors.described import described
from app.serverless.claims import EventClaims
from app.serverless.connections import Connections
from app.serverless.events import EventRecord, Source
from app.settings import Settings, TierName
from app.tiers import in_force
from app.wire.decode import Decoded, decode, first_pipelines

if TYPE_CHECKING:
    from app.runtime.upgrade import Upgrades

logger = logging.getLogger(__name__)

Batches = Mapping[Source, Sequence[EventRecord]]

EVICTED_AT_ONCE = 500
"""Idle sensors that leave memory after an event; the others after the next."""


class FunctionTier:
    """Processes the events of a tier's topic.

    Sensors are claimed, and given up again with the save that ends the event; warm, they stay in memory as long as
    nobody else has claimed them.

    Parameters
    ----------
    settings
        Name keys and topics.
    name
        Of the tier.
    pipelines
        Known ones by name.
    connections
        To Kafka and Redis.
    warm
        Whether sensors stay in memory between events.
    """

    def __init__(
        self,
        settings: Settings,
        name: TierName,
        pipelines: Mapping[str, Pipeline],
        connections: Connections,
        *,
        warm: bool,
    ) -> None:
        self._settings = settings
        self._pipelines = pipelines
        self._warm = warm
        own = in_force(settings, name)
        self._default = own.pipeline
        self._idle_after = own.idle_after
        self._ownership = Ownership(connections.redis, settings.topic_prefix, name, settings.handoff_wait)
        self._claims = EventClaims(self._ownership)
        self._emitter = Emitter(connections.outbox, settings, name)
        self.processor = Processor(name, pipelines, cold=True)
        self._arrivals = Arrivals(
            name,
            self.processor,
            self._claims,
            self._read,
            self._emitter,
            lambda *_: None,
            settings.handoff_wait,
        )
        self._arrivals.hand_over = self._hand_over
        self._arrivals.set_pipeline = lambda sensor_id: self._set.get(sensor_id, "")
        self._in_hand = asyncio.Lock()
        self._pending: dict[Source, Pending] = {}
        #: Snapshots of the event's sensors that have been saved, and are kept.
        self._kept: dict[str, bytes] = {}
        self._failed: set[str] = set()
        #: Pipelines of the event's sensors' blocks that name none.
        self._known: dict[str, str] = {}
        #: Those that a person has set, of sensors of which it matters.
        self._set: dict[str, str] = {}

    async def process(self, batches: Batches, invocation: str, patience: float) -> dict[Source, list[int]]:
        """Process messages; gives the offsets of those that are to come again.

        Parameters
        ----------
        batches
            The messages of each partition.
        invocation
            Names this one.
        patience
            When what waits for another owner is given up, on the loop's clock, s.

        Raises
        ------
        FunctionError, KafkaError, REDIS_ERRORS
            Kafka or Redis did not do what was needed. The event has to come again, and the sensors be forgotten.
        """
        began = asyncio.get_running_loop().time()
        self._claims.invocation = "" if self._warm else f"#{invocation}"
        self._pending = {source: Pending() for source in batches}
        self._kept.clear()
        self._failed.clear()
        portions = await self._decoded(batches)
        answers = await self._claims.prefetch(self._claims_of(portions))
        await self._ask_what_is_set(portions, answers)
        for portion in portions:
            await self._arrivals.process(portion)
        await self._settle()
        if self._arrivals.waiting:
            await self._meet_others(patience)
            await self._settle()
        if self._arrivals.waiting:
            self._warn_of_waiting(patience - began)
        return await self._finish(portions)

    def _warn_of_waiting(self, seconds: float) -> None:
        named, wait = next(iter(self._arrivals.waiting)), self._settings.handoff_wait
        logger.warning(
            "%d sensors (%r, ...) could not be had in the %.1f s that an event may wait: their messages come again%s",
            len(self._arrivals.waiting),
            named,
            seconds,
            f", for ever perhaps: CONTINUUM_HANDOFF_WAIT is {wait:g} s, and the function's timeout has to be three"
            " seconds more at least"
            if seconds <= wait
            else "",
        )

    # -- what comes in

    async def _decoded(self, batches: Batches) -> list[Portion]:
        # As if no sensor had metadata, in which case the others' blocks need not be asked for.
        self._known, self._set = {}, {}
        decoded = self._decode(batches)
        if self._known:
            answers = await described(self._ownership.redis, self._ownership.prefix, list(self._known))
            self._set = {id_: own.meta.pipeline for id_, own in answers.items()}
            # One whose first block names its pipeline goes on in that, as if the others came an event later.
            columns = [own for each in decoded.values() for own in each.columns]
            begun = first_pipelines(columns, self._known)
            self._known = {id_: name for id_, own in answers.items() if (name := own.runs or begun.get(id_))}
            if any(name != self._default for name in self._known.values()):
                decoded = self._decode(batches)
        portions: list[Portion] = []
        for source, own in decoded.items():
            records, pending = batches[source], self._pending[source]
            if bad := [(why, records[why.record]) for why in own.bad]:
                await self._emitter.dead_letters_of(bad, str(source), pending)
            position = Position(source.topic, source.partition, records[-1].offset + 1)
            portions += [
                Portion(columns, [records[number] for number in columns.records], position, pending)
                for columns in own.columns
            ]
        await self._drop_what_is_lost({id_ for portion in portions for id_ in portion.columns.sensor_ids})
        return portions

    def _decode(self, batches: Batches) -> dict[Source, Decoded]:
        return {source: decode(records, self._pipelines, self._pipeline_of) for source, records in batches.items()}

    def _pipeline_of(self, sensor_id: str) -> str:
        """Give the pipeline of a sensor's blocks that name none, and note that it was asked for."""
        return self._known.setdefault(sensor_id, self._default)

    async def _drop_what_is_lost(self, sensor_ids: Iterable[str]) -> None:
        """Forget those sensors in memory that others have claimed since."""
        own = [sensor_id for sensor_id in sensor_ids if sensor_id in self.processor.residents]
        if own:
            await self._evict_lost(own)

    async def _evict_lost(self, own: Sequence[str]) -> list[str]:
        epochs = await self._ownership.epochs(own)
        lost = [
            sensor_id
            for sensor_id, epoch in zip(own, epochs, strict=True)
            if epoch not in {None, self.processor.residents[sensor_id].sensor.epoch}
        ]
        self.processor.evict(lost)
        for sensor_id in lost:
            self._claims.held.pop(sensor_id, None)
        return lost

    def _claims_of(self, portions: Sequence[Portion]) -> list[Claim]:
        """Claims of all sensors that are not in memory, each for its first block."""
        claims: dict[str, Claim] = {}
        for portion in portions:
            strangers = self.processor.strangers(portion)
            source = f"{portion.position.topic}-{portion.partition}"
            for sensor_id, seq in zip(portion.columns.sensor_ids, portion.columns.seqs, strict=True):
                if sensor_id in strangers and sensor_id not in claims:
                    first = FIRST_UNKNOWN if seq is None else seq
                    claims[sensor_id] = Claim(sensor_id, first, 0, 0, -1, source, portion.columns.pipeline.name)
        return [claim for claim in claims.values() if claim.sensor_id not in self.processor.residents]

    async def _ask_what_is_set(self, portions: Sequence[Portion], answers: Mapping[str, Claimed]) -> None:
        """Ask for the set pipelines of sensors whose blocks all name theirs, and another than that of their states."""
        others: set[str] = set()
        residents = self.processor.residents
        for portion in portions:
            pipeline = portion.columns.pipeline
            for sensor_id in set(portion.columns.sensor_ids) - self._set.keys() - others:
                if sensor_id in residents:
                    differs = residents[sensor_id].engine.pipeline.name != pipeline.name
                else:
                    copy = newer(None, answers.get(sensor_id))
                    differs = copy is not None and copy.fingerprint not in {None, pipeline.fingerprint}
                if differs:
                    others.add(sensor_id)
        if others:
            answered = await described(self._ownership.redis, self._ownership.prefix, list(others))
            self._set |= {id_: own.meta.pipeline for id_, own in answered.items()}

    # -- others

    def _read(self, partition: int, keys: Sequence[bytes]) -> list[bytes | None]:  # noqa: ARG002 - as of a table
        return [self._kept.get(key.decode()) for key in keys]

    async def _hand_over(self, partition: int, sensor_ids: Sequence[str]) -> None:  # noqa: ARG002 - as a worker's
        """Save and forget sensors, so that they can be claimed anew."""
        self._arrivals.freeze(sensor_ids)
        await self._save(self.processor.states_of(sensor_ids), release=True)
        self.processor.evict(sensor_ids)  # those that had nothing to save, too
        self._arrivals.thaw(sensor_ids)

    async def _meet_others(self, patience: float) -> None:
        """Go on with the sensors that wait, until all have or patience is over."""
        loop, waiting = asyncio.get_running_loop(), self._arrivals.waiting
        while any(not own.leaving for own in waiting.values()) and loop.time() < patience:
            if self._arrivals.upgrading():
                await self._upgrades().serve()
                continue
            await asyncio.sleep(POLL_SECONDS)
            if own := [sensor_id for sensor_id in waiting if sensor_id in self.processor.residents]:
                for sensor_id in await self._evict_lost(own):
                    waiting[sensor_id].patient = False
            await self._arrivals.resolve(self._in_hand)

    def _upgrades(self) -> Upgrades:
        from app.runtime.upgrade import Upgrades  # noqa: PLC0415 - hardly any event needs it

        return Upgrades(self._settings, self._pipelines, self._arrivals, None, self._in_hand)

    # -- what goes out

    async def _settle(self) -> None:
        """Save all states once everything that they have counted is acknowledged; sensors that wait are kept."""
        waiting = self._arrivals.waiting
        if self._warm:
            partitions = {source.partition for source in self._pending}
            states = [state for partition in partitions for state in self.processor.take_states(partition)]
        else:
            # Those that only had blocks counted before too: they are to be given up.
            states = self.processor.states_of(list(self.processor.residents))
        await self._save([state for state in states if state.sensor_id in waiting], release=False)
        await self._save([state for state in states if state.sensor_id not in waiting], release=not self._warm)

    async def _save(self, states: Sequence[Saved], *, release: bool) -> None:
        """Save states once everything is acknowledged; refused ones fail their sensors."""
        await asyncio.gather(*(pending.acknowledged() for pending in self._pending.values()))
        if not states:
            return
        refused = {state.sensor_id for state in await self._ownership.save(states, release=release)}
        saved = {state.sensor_id: state.snapshot for state in states if state.sensor_id not in refused}
        self._failed |= refused
        gone = refused | saved.keys() if release else refused
        if not release:
            self._kept |= saved
        self.processor.evict(gone)
        for sensor_id in gone:
            self._claims.held.pop(sensor_id, None)

    async def _finish(self, portions: Sequence[Portion]) -> dict[Source, list[int]]:
        """End the event; gives the offsets of the messages that are to come again."""
        failed = self._failed | self._arrivals.waiting.keys()
        self._arrivals.waiting.clear()
        idle = self.processor.idle(time.monotonic() - self._idle_after)[:EVICTED_AT_ONCE]
        self.processor.evict(failed.union(resident.sensor.id for resident in idle))
        held, residents = self._claims.held, self.processor.residents
        for sensor_id in failed:  # whoever wants one waits for it as for any owner: its messages come again
            held.pop(sensor_id, None)
        given_up = [(sensor_id, epoch) for sensor_id, epoch in held.items() if sensor_id not in residents]
        if given_up:
            await self._ownership.release(given_up)
        for sensor_id, _ in given_up:
            del held[sensor_id]
        failures: defaultdict[Source, list[int]] = defaultdict(list)
        for portion in portions:
            for number in portion.of(failed):
                source = Source(portion.position.topic, portion.partition)
                failures[source].append(portion.records[number].offset)
        return failures

    def forget(self) -> None:
        """Forget all sensors, and what waits."""
        self._arrivals.waiting.clear()
        self._claims.held.clear()
        self.processor.evict(list(self.processor.residents))
