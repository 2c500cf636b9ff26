"""One environment of the function: its event loop, its connections and its tiers, kept between invocations."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Mapping
from typing import Any, Protocol

from aiokafka.errors import KafkaError

from app.pipelines import PipelinesOnDemand
from app.redis_client import REDIS_ERRORS, explain
from app.serverless.connections import Connections
from app.serverless.errors import FunctionError
from app.serverless.events import EventError, EventRecord, Source, decode_event, partial_response
from app.serverless.tier import FunctionTier
from app.settings import TIERS, Settings, TierName
from app.topics import sensor_topic

MARGIN_SECONDS = 1.0
"""Before the end of an invocation, within which what waits is given up and the rest is saved."""

LAST_SECONDS = 0.2
"""Before the end, within which an invocation that still waits for Kafka or Redis fails."""

UNLIMITED_SECONDS = 60.0
"""Time of an invocation that has no context."""


class Context(Protocol):
    """The part of Lambda's context that matters here."""

    def get_remaining_time_in_millis(self) -> int: ...  # noqa: D102


class Function:
    """Processes events, one at a time.

    Parameters
    ----------
    settings
        Of the application.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._topics: dict[str, TierName] = {sensor_topic(settings, tier): tier for tier in TIERS}
        self._pipelines = PipelinesOnDemand(settings.pipelines)
        self._warm = settings.function_warm or (
            os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "provisioned-concurrency"
        )
        self._runner = asyncio.Runner()
        self._connections = Connections(settings)
        self.tiers: dict[TierName, FunctionTier] = {}
        """Those whose events have come."""

    def __call__(self, event: Mapping[str, Any], context: Context | None) -> dict[str, Any]:
        """Process an event; gives the partial batch response.

        Raises
        ------
        EventError
            It is not a Kafka event source's, or not of a tier's topic.
        FunctionError
            Kafka or Redis did not do what was needed, or a message failed and the caller asks for no partial responses;
            the event has to come again.
        """
        seconds = UNLIMITED_SECONDS if context is None else context.get_remaining_time_in_millis() / 1000
        batches = decode_event(event)
        by_tier: dict[TierName, dict[Source, list[EventRecord]]] = {}
        for source, records in batches.items():
            by_tier.setdefault(self._tier_of(source), {})[source] = records
        failures = self._runner.run(self._process(by_tier, seconds))
        count = sum(map(len, failures.values()))
        if count and not self._settings.function_partial_response:
            # A caller that does not read the answer would take the event for done.
            raise FunctionError(
                f"{count} messages have to come again: with CONTINUUM_FUNCTION_PARTIAL_RESPONSE=false"
                " the whole event is retried, and what is done is skipped"
            )
        return partial_response(failures)

    def _tier_of(self, source: Source) -> TierName:
        tier = self._topics.get(source.topic)
        if tier is None:
            raise EventError(
                f"topic {source.topic!r}: expected one of {', '.join(self._topics)}; name the topics of the event"
                " source mapping, or CONTINUUM_TOPIC_PREFIX, accordingly"
            )
        return tier

    async def _process(
        self, by_tier: Mapping[TierName, Mapping[Source, list[EventRecord]]], seconds: float
    ) -> dict[Source, list[int]]:
        end = asyncio.get_running_loop().time() + seconds
        failures: dict[Source, list[int]] = {}
        try:
            async with asyncio.timeout_at(end - LAST_SECONDS):
                await self._connections.open()
                for tier, batches in by_tier.items():
                    failures |= await self._tier(tier).process(batches, secrets.token_hex(4), end - MARGIN_SECONDS)
        except BaseException as error:
            # States are ahead of what is saved, perhaps, and connections broken.
            for own in self.tiers.values():
                own.forget()
            await self._connections.close()
            if isinstance(error, TimeoutError):
                raise FunctionError(f"Kafka or Redis took over {seconds:.1f} s: the event is retried") from error
            if isinstance(error, KafkaError):
                raise FunctionError(f"Kafka did not take the records ({error!r}): the event is retried") from error
            if isinstance(error, REDIS_ERRORS):
                raise FunctionError(f"{explain(error)}: the event is retried") from error
            raise
        return failures

    def _tier(self, name: TierName) -> FunctionTier:
        if name not in self.tiers:
            self.tiers[name] = FunctionTier(self._settings, name, self._pipelines, self._connections, warm=self._warm)
        return self.tiers[name]

    def close(self) -> None:
        """End the connections and the loop."""
        self._runner.run(self._connections.close())
        self._runner.close()
