"""One run: workers, a steady feed, faults on a plan, and the check of everything that came out."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence

from aiokafka import AIOKafkaConsumer

from app.chaos.agreement import compare_copies
from app.chaos.faults import Faults
from app.chaos.fleet import Fleet
from app.chaos.ledger import Ledger
from app.chaos.load import BLOCK, Load
from app.chaos.offsets import generation, uncommitted
from app.chaos.plan import Fault, Kind
from app.chaos.report import Happened, Report, pauses_after
from app.chaos.surroundings import Surroundings
from app.errors import ContinuumError
from app.kafka_client import client_options, started
from app.pipelines import known_pipelines
from app.replay import Sent
from app.services.service import Progress
from app.topics import create_topics, features_topic, needed_topics, sensor_topic

_NOTE_SECONDS = 15.0

#: A fault may be felt for so long after it is over, s.
_AFTERMATH = 5.0

#: Without a new record for so long, those that are missing will not come.
_QUIET_SECONDS = 60.0
_POLL_SECONDS = 1.0


class Run:
    """One run.

    Parameters
    ----------
    surroundings
        What the workers live among; topics that are not there are made.
    load
        What the sensors send.
    faults
        What happens, in order.
    workers
        How many there are all the time.
    progress
        Told what happens.
    """

    def __init__(
        self, surroundings: Surroundings, load: Load, faults: Sequence[Fault], workers: int, progress: Progress
    ) -> None:
        self._surroundings = surroundings
        self._settings = surroundings.settings
        self._load = load
        self._plan = load.plan()
        self._faults = faults
        self._progress = progress
        logs = self._settings.datadir / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        self._fleet = Fleet(workers, surroundings.worker_settings, logs, progress)
        self._sent = Sent()
        self._happened: list[Happened] = []
        self._skipped: dict[Kind, str] = {}

    async def carry_out(self) -> Report:
        """Do it all, and say what was found.

        Raises
        ------
        ContinuumError
            Something failed that is no fault of the plan, so the run shows nothing.
        """
        try:
            return await self._carry_out()
        except ExceptionGroup as group:
            error: Exception = group.subgroup(ContinuumError) or group
            while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
                (error,) = error.exceptions
            raise error from group

    async def _carry_out(self) -> Report:
        settings, fleet, plan = self._settings, self._fleet, self._plan
        await create_topics(settings, needed_topics(settings, known_pipelines(settings.pipelines)))
        self._progress(f"computing what {plan.total_blocks:,} blocks must give")
        ledger = await asyncio.to_thread(Ledger, plan)
        self._progress(f"starting {len(fleet.regular)} workers; their logs are in {settings.datadir / 'logs'}")
        async with fleet:
            await fleet.start()
            first_generation = await generation(settings)
            began = time.time()
            stopped = asyncio.Event()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._check(ledger, stopped))
                noting = tasks.create_task(self._note(ledger, began))
                async with asyncio.TaskGroup() as doing:
                    doing.create_task(self._load.feed(settings, plan, self._sent))
                    doing.create_task(self._inject(began))
                await self._catch_up(ledger)
                rebalances = await generation(settings) - first_generation
                stops = await fleet.stop()
                stopped.set()
                noting.cancel()
        self._progress("comparing tables, changelog and Redis")
        folders = [self._surroundings.worker_folder(slot.number) for slot in fleet.slots]
        ends = dict.fromkeys(plan.sensors, plan.blocks_per_sensor * BLOCK)
        agreement = await compare_copies(settings, "rt", folders, ends)
        left = await uncommitted(settings, sensor_topic(settings, "rt"))
        findings, silences = ledger.findings, ledger.silences()
        seconds = silences.end - began
        return Report(
            passed=findings.passed and agreement.passed and not left,
            seconds=seconds,
            sensors=len(plan.sensors),
            blocks=findings.blocks,
            blocks_per_second=findings.received / seconds,
            faults=dict(Counter(one.kind for one in self._happened)),
            skipped=self._skipped,
            rebalances=rebalances,
            unasked_ends=dict(sum((Counter(map(str, slot.unasked.elements())) for slot in fleet.slots), Counter())),
            bad_stops=[code for code in stops if code],
            lost=findings.lost,
            wrong=findings.wrong,
            unlike=findings.unlike,
            unexpected=findings.unexpected,
            out_of_order=findings.out_of_order,
            repeated=findings.repeated,
            repeated_share=findings.repeated / max(1, findings.received),
            uncommitted=left,
            disagreeing=agreement.disagreeing,
            usual_pause=self._load.interval,
            longest_pause=silences.longest,
            pauses=pauses_after(self._happened, silences, self._load.interval, _AFTERMATH),
            examples=[*findings.examples, *(f"no record: {block}" for block in ledger.missing()), *agreement.examples],
        )

    async def _inject(self, began: float) -> None:
        faults = Faults(self._fleet, self._surroundings)
        async with asyncio.TaskGroup() as tasks:
            for fault in self._faults:
                lacking = self._surroundings.lacking(fault.kind)
                if lacking is not None:
                    self._skipped[fault.kind] = lacking
                    continue
                await asyncio.sleep(max(0.0, began + fault.at - time.time()))
                self._progress(str(fault))
                tasks.create_task(self._one(faults, fault))

    async def _one(self, faults: Faults, fault: Fault) -> None:
        began = time.time()
        await faults.inject(fault)
        self._happened.append(Happened(fault.kind, fault.target, began, time.time()))

    async def _check(self, ledger: Ledger, stopped: asyncio.Event) -> None:
        """Compare records as they come, up to the last one that was there when the workers had stopped."""
        topic = features_topic(self._settings, "ecg")
        consumer = AIOKafkaConsumer(topic, **client_options(self._settings), auto_offset_reset="earliest")
        async with started(consumer, self._settings):
            ends = None
            while ends is None or any([await consumer.position(tp) < end for tp, end in ends.items()]):
                if ends is None and stopped.is_set():
                    ends = await consumer.end_offsets(list(consumer.assignment()))
                for records in (await consumer.getmany(timeout_ms=200)).values():
                    for record in records:
                        ledger.add(record.value, record.timestamp)

    async def _catch_up(self, ledger: Ledger) -> None:
        """Wait until every block has its record and a commit, or none comes any more."""
        topic = sensor_topic(self._settings, "rt")
        last, received = time.monotonic(), -1
        while time.monotonic() - last < _QUIET_SECONDS:
            if ledger.findings.received > received:
                last, received = time.monotonic(), ledger.findings.received
            if not ledger.findings.lost and not await uncommitted(self._settings, topic):
                return
            await asyncio.sleep(_POLL_SECONDS)
        self._progress(f"no record or commit came for {_QUIET_SECONDS:g} s")

    async def _note(self, ledger: Ledger, began: float) -> None:
        while True:
            await asyncio.sleep(_NOTE_SECONDS)
            findings = ledger.findings
            self._progress(
                f"{time.time() - began:6.1f} s  {self._sent.blocks:,} of {findings.blocks:,} blocks sent,"
                f" {findings.received:,} features, {findings.repeated:,} repeated, {findings.wrong} wrong"
            )
