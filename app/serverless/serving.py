"""The function, run here: a poller for each tier, the environments that they share, and the heartbeat of it all."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from app.pipelines import known_pipelines
from app.preflight import check_before_serving
from app.redis_client import redis_client
from app.runtime.heartbeat import Heartbeat
from app.runtime.instance import Instance, claim_instance
from app.serverless.environment import Environments, FunctionConfig
from app.serverless.poller import Batching, Poller
from app.settings import Settings, TierName
from app.web.status import MirrorStatus, TierStatus, WorkerStatus


class Serving:
    """Polls the topics of tiers and lets the function process them.

    Parameters
    ----------
    config
        The function, and how it is run.
    tiers
        Whose topics are polled.
    batching
        How records become events; its concurrency is that of all tiers together.
    """

    def __init__(self, config: FunctionConfig, tiers: Sequence[TierName], batching: Batching) -> None:
        self._config = config
        self._tiers = tiers
        self._batching = batching
        self._pollers: dict[TierName, Poller] = {}
        self._started = time.time()
        self._instance: Instance | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Poll until the event is set; then finish what is in flight and commit it.

        Raises
        ------
        TopicError
            A topic is missing or has a wrong partition count.
        RepartitionError
            A tier's states are on their way to other partitions.
        GroupConflictError
            A worker reads one of the topics.
        BrokerError
            None of the brokers answers.
        """
        settings = self._config.settings
        await check_before_serving(settings, self._tiers, known_pipelines(settings.pipelines))
        # Held while it serves, so that `continuum down` finds it as it finds workers.
        self._instance = claim_instance(settings, kind="function")
        async with Environments(self._config, self._batching.concurrency) as environments, self._heartbeat(settings):
            self._pollers = {tier: Poller(settings, tier, environments.invoke, self._batching) for tier in self._tiers}
            async with _one_error(), asyncio.TaskGroup() as polling:
                for poller in self._pollers.values():
                    polling.create_task(poller.run())
                await stop.wait()
                for poller in self._pollers.values():
                    poller.stop()

    @asynccontextmanager
    async def _heartbeat(self, settings: Settings) -> AsyncIterator[None]:
        async with redis_client(settings) as redis:
            heartbeat = Heartbeat(redis, settings.topic_prefix, self.status)
            await heartbeat.start()
            try:
                yield
            finally:
                await heartbeat.stop()

    def status(self) -> WorkerStatus:
        """Give the figures as a worker's."""
        tiers: dict[str, TierStatus] = {tier: _tier_status(poller) for tier, poller in self._pollers.items()}
        return WorkerStatus(
            instance="" if self._instance is None else self._instance.name,
            group=", ".join(self._config.settings.function_group(tier) for tier in self._tiers),
            url="",
            started=self._started,
            now=time.time(),
            ready=any(status.partitions for status in tiers.values()),
            rebalancing=not all(status.partitions for status in tiers.values()),
            tiers=tiers,
            latest=[],
        )


@asynccontextmanager
async def _one_error() -> AsyncIterator[None]:
    """Raise what was wrong with one task as it is, and not as a group of errors."""
    try:
        yield
    except BaseExceptionGroup as errors:
        first: BaseException = errors
        while isinstance(first, BaseExceptionGroup):  # a poller has a group of its own
            first = first.exceptions[0]
        raise first from None


def _tier_status(poller: Poller) -> TierStatus:
    function = poller.figures.status()
    return TierStatus(
        partitions=poller.partitions,
        sensors=0,
        held=0,
        blocks=function.records,
        samples=0,
        features=0,
        replayed=0,
        late=0,
        gaps=0,
        events={},
        dead_letters={},
        lag=poller.lag,
        checkpoint_age=None,
        mirror=MirrorStatus(up=None, pending=0),
        function=function,
    )
