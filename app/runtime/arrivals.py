"""Where blocks meet their sensors' state: in memory, in the table, in Redis, or still with another tier.

A sensor that is not in memory is taken from its newest copy, and claimed. A block that begins after the sample
expected next may mean lost samples, or that another tier has had the sensor meanwhile: before a gap is believed,
Redis is asked. Where somebody else has the sensor, its blocks are held here until he has given it up, or for
`handoff_wait` at the longest; only then does the pipeline's gap policy apply.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Container, Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Protocol, cast

from app import metrics
from app.dsp.errors import SnapshotError
from app.dsp.pipeline import Pipeline
from app.dsp.snapshot import Position
from app.dsp.stream import Deferral, Sensor
from app.mirror.states import Claim, Claimed
from app.runtime.claims import FIRST_UNKNOWN
from app.runtime.copies import Copy, ReadSnapshots, newer, read_copies
from app.runtime.emitter import Emitter
from app.runtime.portion import Portion
from app.runtime.processor import Processor
from app.runtime.waiting import Upgrade, Waiting, held_together
from app.wire.decode import BadInput
from app.wire.reasons import Reason

if TYPE_CHECKING:
    from app.runtime.express import Express, Taken
    from app.runtime.stretches import Lot

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.05


class Claiming(Protocol):
    """What claims sensors."""

    async def claim(self, claims: Sequence[Claim], *, force: bool = False) -> dict[str, Claimed] | None:
        """Give what Redis says of sensors; None where it says nothing, and the sensors' copies at hand have to do."""


class Arrivals:
    """Brings blocks and state together.

    Parameters
    ----------
    tier
        Name, for the metrics.
    processor
        The sensors in memory.
    claims
        Redis.
    read_snapshots
        Reads the tier's table.
    emitter
        Takes what comes out.
    after_run
        Told of a partition and the most blocks that one of its sensors has had since its last snapshot.
    handoff_wait
        Longest time that blocks are held, s.
    """

    def __init__(
        self,
        tier: str,
        processor: Processor,
        claims: Claiming,
        read_snapshots: ReadSnapshots,
        emitter: Emitter,
        after_run: Callable[[int, int], None],
        handoff_wait: float,
    ) -> None:
        self._tier = tier
        self._processor = processor
        self._claims = claims
        self._read_snapshots = read_snapshots
        self._emitter = emitter
        self._after_run = after_run
        self._handoff_wait = handoff_wait
        self.waiting: dict[str, Waiting] = {}
        #: Set when a sensor begins to wait for its state in a changed pipeline.
        self.changed_pipeline = asyncio.Event()
        #: Gives the pipeline that a person has set of a sensor, to which its state is brought; set by the tier.
        self.set_pipeline: Callable[[str], str] = lambda _sensor_id: ""
        #: Hands sensors of a partition over, and freezes them meanwhile; set by the tier.
        self.hand_over: Callable[[int, Sequence[str]], Awaitable[None]]

    # -- blocks

    async def process(self, portion: Portion) -> None:
        """Consume a portion; blocks of sensors that are elsewhere are held."""
        while True:
            portion = self._hold(portion)
            strangers = self._processor.strangers(portion)
            if not strangers:
                break
            portion = await self._meet(portion, strangers)
        if portion.records:
            await self._run(portion, confirmed=False)

    async def express(self, express: Express, stretch: Sequence[Lot]) -> Taken:
        """Consume what is plain of a stretch; gives what is left of it."""
        with ExitStack() as sending:
            for lot in stretch:
                sending.enter_context(lot.pending.sending())
            taken = express.take(stretch, self.waiting)
            for sent in taken.sent:
                acknowledged = await self._emitter.express(sent)
                for lot in stretch:
                    # Who gives up waiting must not cancel it for the others.
                    lot.pending.sent.append(asyncio.shield(acknowledged))
        for sent in taken.sent:
            for partition, most in sent.most_blocks.items():
                self._after_run(partition, most)
        return taken

    def _hold(self, portion: Portion) -> Portion:
        """Hold the blocks of sensors that wait already, and give the others."""
        held = self.waiting.keys() & set(portion.columns.sensor_ids) if self.waiting else None
        if not held:
            return portion
        for sensor_id in held:
            self._keep(self.waiting[sensor_id], portion)
        return portion.without(set(portion.of(held)))

    def _keep(self, waiting: Waiting, portion: Portion) -> None:
        own = portion.only(portion.of({waiting.sensor_id}))
        own.pending.held += 1
        waiting.hold(own)

    @property
    def held_samples(self) -> int:
        """Values held, of all sensors that wait."""
        return sum(waiting.samples for waiting in self.waiting.values())

    def _wait(self, sensor_id: str, portion: Portion, *, patient: bool = False) -> None:
        waiting = self.waiting[sensor_id] = Waiting(sensor_id, time.monotonic(), patient)
        self._keep(waiting, portion)

    async def _run(self, portion: Portion, *, confirmed: bool) -> None:
        """Consume blocks of sensors that are all in memory."""
        with portion.pending.sending():
            # All before anything is awaited, as a sensor may leave meanwhile.
            parts = self._processor.parts(portion)
            outputs = [self._processor.run(part, confirmed=confirmed) for part in parts]
            for part, output in zip(parts, outputs, strict=True):
                await self._emitter.features_of(part, output)
        for part, output in zip(parts, outputs, strict=True):
            self._after_run(part.partition, output.most_blocks)
            if output.deferred:
                await self._meet_gaps(part, output.deferred)
            if output.settled:
                await self._take_over(part.partition, output.settled)

    async def _take_over(self, partition: int, sensor_ids: Sequence[str]) -> None:
        """Let sensors go on with the changed pipeline, which has settled beside the former.

        Its state is saved before it gives the first record: after a crash a block's record is the same pipeline's.
        """
        shadowed = [sensor_id for sensor_id in sensor_ids if self._processor.is_shadowed(sensor_id)]
        self._processor.take_over(shadowed)
        metrics.UPGRADED.labels(self._tier, "shadow").inc(len(shadowed))
        await self.hand_over(partition, shadowed)

    # -- sensors that are not in memory

    async def _meet(self, portion: Portion, strangers: set[str]) -> Portion:
        """Bring sensors in, or let their blocks wait; gives the portion without blocks that cannot be processed."""
        residents, pipeline = self._processor.residents, portion.columns.pipeline.name
        unusable: dict[str, str] = {}
        elsewhere: dict[int, list[str]] = {}
        for sensor_id in strangers & residents.keys():
            resident = residents[sensor_id]
            running = resident.engine.pipeline.name
            if resident.partition != portion.partition or self.set_pipeline(sensor_id) == pipeline:
                elsewhere.setdefault(resident.partition, []).append(sensor_id)
            else:
                unusable[sensor_id] = (
                    f"sensor {sensor_id!r} runs pipeline {running}, not {pipeline}: send another pipeline's blocks"
                    f" under another sensorId, or `continuum sensors set {sensor_id} --pipeline {pipeline}`"
                )
        for partition, sensor_ids in elsewhere.items():
            await self.hand_over(partition, sensor_ids)
        unknown = strangers - residents.keys() - unusable.keys()
        firsts: dict[str, int] = {}
        for sensor_id, seq in zip(portion.columns.sensor_ids, portion.columns.seqs, strict=True):
            if sensor_id in unknown:
                firsts.setdefault(sensor_id, FIRST_UNKNOWN if seq is None else seq)
        copies = read_copies(self._read_snapshots, portion.partition, sorted(firsts))
        answers = await self._claims.claim([_claim(id_, firsts[id_], copy, portion) for id_, copy in copies.items()])
        ready: dict[str, Copy | None] = {}
        for sensor_id, copy in copies.items():
            if sensor_id in self.waiting or sensor_id in residents:
                continue
            answer = answers.get(sensor_id) if answers is not None else None
            # Without Redis, and without a copy, a sensor in mid-stream may be another tier's.
            alone = answers is None and (copy is not None or firsts[sensor_id] in {0, FIRST_UNKNOWN})
            if alone or (answer is not None and answer.taken):
                ready[sensor_id] = newer(copy, answer)
            else:  # its blocks are held below
                self.waiting[sensor_id] = Waiting(sensor_id, time.monotonic())
        unusable |= self._take_in(portion, ready)
        return await self._refuse(self._hold(portion), unusable)

    def _take_in(self, portion: Portion, copies: Mapping[str, Copy | None]) -> dict[str, str]:
        """Take sensors into memory; gives why for each whose state cannot be used."""
        pipeline, position = portion.columns.pipeline.name, portion.position
        unusable: dict[str, str] = {}
        copies = self._begin_upgrades(pipeline, position.partition, copies)
        try:
            self._restore(pipeline, position, copies)
        except SnapshotError:
            for sensor_id, copy in copies.items():
                try:
                    self._restore(pipeline, position, {sensor_id: copy})
                except SnapshotError as error:
                    unusable[sensor_id] = f"sensor {sensor_id!r}: {error}"
        return unusable

    def _begin_upgrades(
        self, pipeline: str, partition: int, copies: Mapping[str, Copy | None]
    ) -> Mapping[str, Copy | None]:
        """Let sensors wait whose pipeline has been changed, or set to another, and give the others."""
        present = self._processor.engines[pipeline].pipeline.fingerprint
        changed = {
            sensor_id: copy
            for sensor_id, copy in copies.items()
            if copy is not None
            and copy.fingerprint not in {None, present}
            and (self._processor.is_changed(pipeline, copy.fingerprint) or self.set_pipeline(sensor_id) == pipeline)
        }
        if not changed:
            return copies
        for sensor_id, copy in changed.items():
            waiting = self.waiting.setdefault(sensor_id, Waiting(sensor_id, time.monotonic()))
            waiting.upgrade = Upgrade(copy, pipeline, partition)
        self.changed_pipeline.set()
        return {sensor_id: copy for sensor_id, copy in copies.items() if sensor_id not in changed}

    def _restore(self, pipeline: str, position: Position, copies: Mapping[str, Copy | None]) -> None:
        snapshots = {sensor_id: copy.snapshot if copy else None for sensor_id, copy in copies.items()}
        for sensor in self._processor.take_in(pipeline, position.partition, snapshots):
            copy = copies[sensor.id]
            if copy is not None:
                self._follow(copy, sensor, position)

    def _follow(self, copy: Copy, sensor: Sensor, position: Position) -> None:
        sensor.epoch = copy.epoch
        source = copy.position
        self._processor.residents[sensor.id].roams = source is not None and (
            (source.topic, source.partition) != (position.topic, position.partition)
        )

    async def _refuse(self, portion: Portion, unusable: Mapping[str, str]) -> Portion:
        """Make dead letters of the blocks of sensors whose state cannot be used, and give the others."""
        refused = portion.of(unusable)
        if not refused:
            return portion
        sensor_ids = portion.columns.sensor_ids
        bad = [
            (BadInput(number, Reason.UNUSABLE_STATE, unusable[sensor_ids[number]]), portion.records[number])
            for number in refused
        ]
        with portion.pending.sending():
            source = f"{portion.position.topic}-{portion.partition}"
            await self._emitter.dead_letters_of(bad, source, portion.pending)
        return portion.without(set(refused))

    # -- gaps

    async def _meet_gaps(self, portion: Portion, deferred: Mapping[str, Deferral]) -> None:
        """Ask for the sensors before whose blocks samples are missing, and go on as the answer says."""
        residents = self._processor.residents
        sensors = {sensor_id: residents[sensor_id].sensor for sensor_id in deferred if sensor_id in residents}
        answers = await self._claims.claim(
            [
                Claim(id_, deferred[id_].first, sensor.epoch, *sensor.age, _source(portion))
                for id_, sensor in sensors.items()
            ]
        )
        real: list[int] = []
        rest: list[int] = []
        gone = []
        for sensor_id, deferral in deferred.items():
            resident = residents.get(sensor_id)
            answer = None if answers is None else answers.get(sensor_id)
            rest += deferral.blocks
            if resident is None or sensor_id in self.waiting:  # it left while we asked
                continue
            if answer is not None and not answer.taken:
                gone.append(sensor_id)
            elif answer is not None and answer.snapshot and (answer.restarts, answer.next) > resident.sensor.age:
                self._processor.evict([sensor_id])
                self._take_in(portion, {sensor_id: newer(None, answer)})
            elif answer is not None and resident.roams:
                # Whoever has the missing blocks may not have come to them yet.
                self._wait(sensor_id, portion.only(deferral.blocks), patient=True)
                rest = [number for number in rest if number not in deferral.blocks]
            else:
                if answer is not None:
                    resident.sensor.epoch = answer.epoch
                real.append(deferral.blocks[0])
                rest.remove(deferral.blocks[0])
        if real:
            await self._run(portion.up_to(real), confirmed=True)
            sensor_ids = portion.columns.sensor_ids
            done = {sensor_ids[number] for number in real}.difference(sensor_ids[number] for number in rest)
            self._processor.has_come_to(portion.position, done)
        if gone:
            await self.hand_over(portion.partition, gone)
        if rest:
            await self.process(portion.only(rest))

    # -- waiting

    def freeze(self, sensor_ids: Iterable[str]) -> None:
        """Hold the blocks of sensors that are being handed over."""
        for sensor_id in sensor_ids:
            waiting = self.waiting.setdefault(sensor_id, Waiting(sensor_id, time.monotonic()))
            waiting.leaving = True
            waiting.patient = False

    def thaw(self, sensor_ids: Iterable[str]) -> None:
        """Let sensors that have been handed over be claimed again, if blocks have come for them."""
        for sensor_id in sensor_ids:
            waiting = self.waiting.get(sensor_id)
            if waiting is not None:
                waiting.leaving = False
                if not waiting.portions:
                    del self.waiting[sensor_id]

    async def resolve(self, in_hand: asyncio.Lock) -> None:
        """Claim what waits, and go on with what can be had; the lock keeps each sensor's blocks in order."""
        await self._go_on_with_found(in_hand)
        now = time.monotonic()
        asked: dict[bool, list[Waiting]] = {False: [], True: []}
        for waiting in self.waiting.values():
            overdue = now - waiting.since > self._handoff_wait
            if waiting.upgrade is None and not waiting.leaving and (overdue or not waiting.patient):
                asked[overdue].append(waiting)
        for overdue, some in asked.items():
            if not some:
                continue
            by_partition: defaultdict[int, list[str]] = defaultdict(list)
            for waiting in some:
                by_partition[waiting.portions[0].partition].append(waiting.sensor_id)
            copies: dict[str, Copy | None] = {}
            for partition, sensor_ids in by_partition.items():
                copies |= read_copies(self._read_snapshots, partition, sensor_ids)
            answers = await self._claims.claim(
                [
                    _claim(waiting.sensor_id, waiting.first, copies[waiting.sensor_id], waiting.portions[0])
                    for waiting in some
                ],
                force=overdue,
            )
            async with in_hand:
                claimed = []
                for waiting in some:
                    answer = None if answers is None else answers.get(waiting.sensor_id)
                    if answer is None and not overdue:
                        continue
                    if (answer is None or answer.taken) and not waiting.leaving:
                        claimed.append((waiting, newer(copies[waiting.sensor_id], answer)))
                await self._resume(claimed, forced=overdue)

    async def _go_on_with_found(self, in_hand: asyncio.Lock) -> None:
        """Go on with sensors of ours whose missing blocks have come from another of our partitions."""
        if any(waiting.found for waiting in self.waiting.values()):
            async with in_hand:
                await self._go_on([own for own in self.waiting.values() if own.found and not own.leaving], {})

    async def _resume(self, claimed: Iterable[tuple[Waiting, Copy | None]], *, forced: bool) -> None:
        """Go on with the blocks of sensors that are ours now."""
        ours: list[Waiting] = []
        newcomers: defaultdict[tuple[str, int], dict[str, Copy | None]] = defaultdict(dict)
        for waiting, copy in claimed:
            sensor_id = waiting.sensor_id
            if self.waiting.get(sensor_id) is not waiting or not waiting.portions:
                continue
            metrics.HANDOFFS.labels(self._tier, "forced" if forced else "taken").inc()
            metrics.HANDOFF_SECONDS.labels(self._tier).observe(time.monotonic() - waiting.since)
            ours.append(waiting)
            resident = self._processor.residents.get(sensor_id)
            # One that has just been given up may have been so for a third tier, which has samples before these and has
            # not claimed it yet: where some are missing the gap is met, and waits for that tier.
            waiting.asked = forced or resident is not None
            if resident is None:
                first = waiting.portions[0]
                newcomers[first.columns.pipeline.name, first.partition][sensor_id] = copy
            else:
                resident.roams = False
        unusable: dict[str, str] = {}
        for copies in newcomers.values():
            unusable |= self._take_in(self.waiting[next(iter(copies))].portions[0], copies)
        await self._go_on([waiting for waiting in ours if waiting.upgrade is None], unusable)

    async def _go_on(self, some: Sequence[Waiting], unusable: Mapping[str, str]) -> None:
        """Consume the blocks held of sensors that are in memory now, or whose state cannot be used."""
        for waiting in some:
            del self.waiting[waiting.sensor_id]
        asked = {waiting.sensor_id for waiting in some if waiting.asked}
        for held in held_together(some):
            remaining = await self._refuse(held.portion, unusable)
            # One that has left again meanwhile is met anew.
            residents = self._processor.residents
            known = {
                sensor_id
                for sensor_id in (asked & held.begin & residents.keys()) - self.waiting.keys()
                if residents[sensor_id].partition == held.portion.partition
            }
            if firsts := remaining.firsts_of(known):
                await self._run(remaining.up_to(firsts), confirmed=True)
                remaining = remaining.without(firsts)
                self._processor.has_come_to(held.portion.position, known.difference(remaining.columns.sensor_ids))
            if remaining.records:
                await self.process(remaining)
            held.portion.pending.held -= held.pieces

    # -- changed pipelines

    def upgrading(self) -> list[Waiting]:
        """Sensors that wait for their state in a changed pipeline."""
        return [waiting for waiting in self.waiting.values() if waiting.upgrade is not None]

    async def upgraded(self, waiting: Waiting, upgrade: Upgrade, snapshot: bytes, kind: str) -> None:
        """Go on with a sensor from its state in the changed pipeline."""
        if not self._still_waits(waiting, upgrade):
            return
        metrics.UPGRADED.labels(self._tier, kind).inc()
        fingerprint = self._processor.engines[upgrade.pipeline].pipeline.fingerprint
        copy = upgrade.copy._replace(snapshot=snapshot, fingerprint=fingerprint)
        waiting.upgrade = None
        await self._go_on([waiting], self._take_in(waiting.portions[0], {waiting.sensor_id: copy}))

    async def shadowed(self, waiting: Waiting, upgrade: Upgrade, former: Pipeline) -> None:
        """Go on with a sensor in the pipeline before, while the changed one settles beside it."""
        if not self._still_waits(waiting, upgrade):
            return
        copy, position = upgrade.copy, waiting.portions[0].position
        snapshots = {waiting.sensor_id: cast("bytes", copy.snapshot)}
        for sensor in self._processor.take_in_shadowed(former, upgrade.pipeline, upgrade.partition, snapshots):
            self._follow(copy, sensor, position)
        waiting.upgrade = None
        await self._go_on([waiting], {})

    def _still_waits(self, waiting: Waiting, upgrade: Upgrade) -> bool:
        """Whether a sensor's upgrade is still wanted; if nothing is held, its next block begins another."""
        if self.waiting.get(waiting.sensor_id) is not waiting or waiting.upgrade is not upgrade:
            return False
        if not waiting.portions:
            del self.waiting[waiting.sensor_id]
        return bool(waiting.portions)

    def release(self, partitions: Container[int]) -> None:
        """Forget the blocks held of partitions that this worker gives up: they will be read again."""
        for sensor_id, waiting in list(self.waiting.items()):
            if waiting.give_up(partitions) and not waiting.portions and not waiting.leaving:
                del self.waiting[sensor_id]


def _claim(sensor_id: str, first: int, copy: Copy | None, portion: Portion) -> Claim:
    epoch, age = (0, (0, -1)) if copy is None else (copy.epoch, copy.age)
    return Claim(sensor_id, first, epoch, *age, _source(portion), portion.columns.pipeline.name)


def _source(portion: Portion) -> str:
    return f"{portion.position.topic}-{portion.partition}"
