"""Sensors whose pipeline has been changed: their state in the new one, without a block lost or a value wrong.

A snapshot of the pipeline before does not fit the changed one. The sensor's blocks are held while the changed pipeline
is warmed up from what the log retains; or, as a shadow, it settles beside the one before, which goes on meanwhile.
A crash in between changes nothing: the blocks held have not been committed, and the snapshot is still the old one.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from app.dsp.pipeline import Pipeline
from app.dsp.snapshot import read_header
from app.dsp.stage import NEVER
from app.dsp.warmup import USELESS, Choice, Warmed, warm_up
from app.kafka_client import BrokerError
from app.kafka_reader import Stretches, retained, topic_reader
from app.runtime.arrivals import Arrivals
from app.runtime.retained import read_back
from app.runtime.waiting import Upgrade, Waiting
from app.settings import Settings
from app.topics import TopicError

if TYPE_CHECKING:
    from app.runtime.definitions import Definitions

logger = logging.getLogger(__name__)

GATHER_SECONDS = 0.2
"""From the first sensor that waits to the reading: what the others of its partition need is read with it."""

RETRY_SECONDS = 1.0

SENSORS_AT_ONCE = 500
"""Whose retained blocks are in memory together."""

WARMED_AT_ONCE = 25
"""Sensors, between two looks at everything else that the worker does."""

NAMED = 5
"""Sensors that a warning names."""

_Wanted = tuple[Waiting, Upgrade]


class Upgrades:
    """Gives sensors of a tier their state in a changed pipeline.

    Parameters
    ----------
    settings
        Of the worker.
    pipelines
        Known ones by name.
    arrivals
        Where the sensors wait.
    definitions
        Of the pipelines before; None where no shadows are run.
    in_hand
        Held while sensors go on, so that each one's blocks stay in order.
    """

    def __init__(
        self,
        settings: Settings,
        pipelines: Mapping[str, Pipeline],
        arrivals: Arrivals,
        definitions: Definitions | None,
        in_hand: asyncio.Lock,
    ) -> None:
        self._settings = settings
        self._pipelines = pipelines
        self._arrivals = arrivals
        self._definitions = definitions
        self._in_hand = in_hand

    async def run(self) -> None:
        """Serve the sensors that wait, for ever."""
        changed = self._arrivals.changed_pipeline
        while True:
            await changed.wait()
            await asyncio.sleep(GATHER_SECONDS)
            changed.clear()
            try:
                await self.serve()
            except (KafkaError, BrokerError) as error:
                # What cannot be read now is not lost: nobody starts cold for that.
                count = len(self._arrivals.upgrading())
                logger.warning("the retained input cannot be read (%s); %d sensors wait", error, count)
                await asyncio.sleep(RETRY_SECONDS)
                changed.set()

    async def serve(self) -> None:
        """Serve the sensors that wait now.

        Raises
        ------
        KafkaError, BrokerError
            What is retained of their input cannot be read; they go on waiting.
        """
        wanted = [(waiting, cast("Upgrade", waiting.upgrade)) for waiting in self._arrivals.upgrading()]
        if self._settings.shadow and self._definitions is not None:
            wanted = await self._begin_shadows(wanted, self._definitions)
        groups: defaultdict[tuple[str, int, str], list[_Wanted]] = defaultdict(list)
        for waiting, upgrade in wanted:
            source = upgrade.copy.position
            if source is not None:
                groups[source.topic, source.partition, upgrade.pipeline].append((waiting, upgrade))
        if not groups:
            return
        async with topic_reader(self._settings) as consumer:
            logs: dict[str, Stretches] = {}
            for (topic, partition, pipeline), group in groups.items():
                if topic not in logs:
                    logs[topic] = await self._log_of(consumer, topic)
                # Those whose sources end together are read together.
                group.sort(key=lambda own: own[1].copy.position.offset if own[1].copy.position else 0)
                for begin in range(0, len(group), SENSORS_AT_ONCE):
                    own = group[begin : begin + SENSORS_AT_ONCE]
                    await self._warm_up(
                        consumer, logs[topic], TopicPartition(topic, partition), self._pipelines[pipeline], own
                    )

    async def _log_of(self, consumer: AIOKafkaConsumer, topic: str) -> Stretches:
        try:
            return await retained(consumer, self._settings, topic)
        except TopicError:
            return {}

    async def _warm_up(
        self,
        consumer: AIOKafkaConsumer,
        logs: Stretches,
        source: TopicPartition,
        pipeline: Pipeline,
        group: Sequence[_Wanted],
    ) -> None:
        headers = {waiting.sensor_id: read_header(cast("bytes", upgrade.copy.snapshot)) for waiting, upgrade in group}
        choices: dict[str, Choice] = dict.fromkeys(headers, USELESS)
        if source in logs:
            choices = await read_back(consumer, source, logs[source], headers, pipeline)
        warmed: dict[str, Warmed] = {}
        ids = list(headers)
        for begin in range(0, len(ids), WARMED_AT_ONCE):
            some = ids[begin : begin + WARMED_AT_ONCE]
            warmed |= warm_up(pipeline, headers, {sensor_id: choices[sensor_id] for sensor_id in some})
            await asyncio.sleep(0)
        _report(source, pipeline, warmed)
        async with self._in_hand:
            for waiting, upgrade in group:
                own = warmed[waiting.sensor_id]
                await self._arrivals.upgraded(waiting, upgrade, own.snapshot, "warm" if own.settled else "cold")

    async def _begin_shadows(self, wanted: Sequence[_Wanted], definitions: Definitions) -> list[_Wanted]:
        """Let the sensors go on in the pipeline before, where its definition is known; gives the others."""
        former = {
            fingerprint: await definitions.find(fingerprint)
            for fingerprint in {upgrade.copy.fingerprint for _, upgrade in wanted}
            if fingerprint is not None
        }
        others = []
        async with self._in_hand:
            for waiting, upgrade in wanted:
                own = former.get(upgrade.copy.fingerprint or b"")
                changed = self._pipelines[upgrade.pipeline]
                # One that never settles would never take over; one that keeps one value in so many would keep others.
                may_shadow = changed.settle_samples < NEVER and changed.period == 1
                # Records carry one pipeline's name and fields: one that is set has its own from its first block on.
                is_same = own is not None and (own.name, own.signal) == (changed.name, changed.signal)
                if own is not None and is_same and may_shadow:
                    await self._arrivals.shadowed(waiting, upgrade, own)
                else:
                    others.append((waiting, upgrade))
        for fingerprint, own in former.items():
            if own is None:
                logger.warning("nobody has kept the definition of pipeline %s: no shadow of it", fingerprint.hex())
        if len(others) < len(wanted):
            logger.info(
                "%d sensors run their former pipeline until the changed one has settled", len(wanted) - len(others)
            )
        return others


def _report(source: TopicPartition, pipeline: Pipeline, warmed: dict[str, Warmed]) -> None:
    place = f"{source.topic}-{source.partition}"
    cold = {sensor_id: own for sensor_id, own in warmed.items() if not own.settled}
    logger.info("%s: %d sensors warmed up for the changed pipeline %s", place, len(warmed) - len(cold), pipeline.name)
    if cold:
        named = ", ".join(f"{sensor_id!r} ({own.samples})" for sensor_id, own in list(cold.items())[:NAMED])
        logger.warning(
            "%s: %d sensors begin with the changed pipeline %s before it has settled, as fewer than the %d samples that"
            " it needs are retained, or they do not fit it: %s%s",
            place,
            len(cold),
            pipeline.name,
            pipeline.settle_samples,
            named,
            ", ..." if len(cold) > NAMED else "",
        )
