"""Sending what was accepted: acknowledged by all replicas, each record once, never more under way than a limit."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from app.ingest.errors import UnavailableError
from app.kafka_client import BrokerError, client_options, start
from app.settings import Settings

LARGEST_REQUEST = 4 << 20
STOP_SECONDS = 2.0


class Outgoing(NamedTuple):
    """A record to send."""

    topic: str
    key: bytes | None
    value: bytes
    headers: list[tuple[str, bytes]]


class Sender:
    """An idempotent producer of its own, started with the first records.

    Once it has a record it sends it again and again until the brokers have it, in order within a partition; whoever
    no longer waits does not change that.

    Parameters
    ----------
    settings
        Say how to reach the brokers.
    client_id
        Its name in the brokers' logs and quotas.
    """

    def __init__(self, settings: Settings, client_id: str) -> None:
        self._settings = settings
        self._client_id = f"{settings.app_id}-{client_id}"
        self._producer: AIOKafkaProducer | None = None
        self._starting = asyncio.Lock()
        self._topics: set[str] = set()
        self.under_way = 0
        """Bytes that were handed over, and that the brokers have not acknowledged."""

    async def send(self, records: Iterable[Outgoing]) -> None:
        """Send records, in order, and wait until the brokers have them.

        Raises
        ------
        UnavailableError
            No broker answers, a topic is missing, or the brokers refuse a record. They may have some of the others.
        """
        try:
            producer = await self._started()
            futures = []
            for record in records:
                await self._find_topic(producer, record.topic)
                future = await producer.send(record.topic, record.value, key=record.key, headers=record.headers)
                self.under_way += len(record.value)
                future.add_done_callback(partial(self._done, len(record.value)))
                futures.append(future)
            if futures:
                await asyncio.wait(futures)
            for future in futures:
                future.result()
        except KafkaError as error:
            if not error.retriable:
                # What an idempotent producer could not send it goes on missing.
                await self.stop(STOP_SECONDS)
            raise UnavailableError(
                f"Kafka at {self._settings.kafka_bootstrap} does not take records ({error!r}): send again later"
            ) from error

    def _done(self, size: int, future: asyncio.Future[Any]) -> None:
        self.under_way -= size
        if not future.cancelled():
            future.exception()  # whoever has gone needs no warning

    async def _started(self) -> AIOKafkaProducer:
        async with self._starting:
            if self._producer is None:
                producer = AIOKafkaProducer(
                    **client_options(self._settings),
                    client_id=self._client_id,
                    acks="all",
                    enable_idempotence=True,
                    max_request_size=LARGEST_REQUEST,
                    max_batch_size=LARGEST_REQUEST // 8,
                )
                try:
                    await start(producer, self._settings)
                except BrokerError as error:
                    raise UnavailableError(
                        f"no Kafka answers at {self._settings.kafka_bootstrap}: send again later"
                    ) from error
                self._producer = producer
            return self._producer

    async def _find_topic(self, producer: AIOKafkaProducer, topic: str) -> None:
        """Make sure that there is a topic: to ask for it alone would create it, with a wrong number of partitions."""
        if topic in self._topics:
            return
        cluster = await producer.client.fetch_all_metadata()
        if not cluster.partitions_for_topic(topic):
            raise UnavailableError(f"there is no topic {topic}; create it with `continuum topics create`")
        self._topics.add(topic)

    async def stop(self, seconds: float) -> None:
        """Send what is still under way, for so long at most, and stop."""
        producer, self._producer = self._producer, None
        if producer is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(producer.stop(), seconds)
