"""The function's connections to Kafka and Redis, kept between invocations."""

from __future__ import annotations

import time
from contextlib import suppress

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from app.kafka_client import BrokerError, client_options, start
from app.redis_client import REDIS_ERRORS, RedisClient, redis_client
from app.runtime.outbox import Outbox
from app.serverless.errors import FunctionError
from app.settings import Settings

STALE_SECONDS = 240.0
"""A frozen environment hears nothing of connections that end meanwhile: firewalls forget them after 350 s."""

REQUEST_MS = 10_000
"""Longest that a broker is waited for."""


class Connections:
    """A Redis client, and a producer behind an outbox; made anew where they may have broken while nobody looked.

    Parameters
    ----------
    settings
        Where to.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.redis: RedisClient = redis_client(settings)
        self._producer: AIOKafkaProducer | None = None
        self.outbox = Outbox(self._started)
        self._used = time.time()

    async def open(self) -> None:
        """Make sure that the producer runs.

        Raises
        ------
        FunctionError
            No broker answers.
        """
        # Of all clocks only this one is sure to go on while the environment is frozen.
        if time.time() - self._used > STALE_SECONDS:
            await self.close()
        self._used = time.time()
        if self._producer is not None:
            return
        producer = AIOKafkaProducer(
            **client_options(self._settings), acks="all", request_timeout_ms=REQUEST_MS, linger_ms=0
        )
        try:
            await start(producer, self._settings)  # cancelled where brokers take longer than the invocation has
        except BrokerError as error:
            raise FunctionError(
                f"no Kafka answers at {self._settings.kafka_bootstrap}: the event is retried"
            ) from error
        self._producer = producer

    def _started(self) -> AIOKafkaProducer:
        if self._producer is None:
            raise FunctionError("the producer has not been started: open the connections first")
        return self._producer

    async def close(self) -> None:
        """End all connections; the next use makes new ones."""
        producer, self._producer = self._producer, None
        if producer is not None:
            # What it still has is of an event that has failed, and comes again; it would be waited for otherwise.
            producer._sender.sender_task.cancel()  # noqa: SLF001 - `stop` is all that it offers
            with suppress(KafkaError, OSError):
                await producer.stop()
        with suppress(*REDIS_ERRORS):
            await self.redis.aclose()
