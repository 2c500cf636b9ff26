"""What a tier sends: feature records and dead letters, each tied to the batch it came from."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING

from app import metrics
from app.runtime.feature_queue import FeatureQueue
from app.runtime.outbox import PRODUCER_BATCH_BYTES, Outbox, Outgoing
from app.runtime.portion import Pending, Portion
from app.topics import dead_letter_topic, features_topic, largest_message
from app.wire.decode import BadInput
from app.wire.reasons import LARGE_LETTER, REPLAYED_FROM, letter_headers

if TYPE_CHECKING:
    import asyncio

    from aiokafka import ConsumerRecord

    from app.compiled.features import Encoded
    from app.runtime.express import Sent
    from app.runtime.processor import Output
    from app.settings import Settings

LATEST_RECORDS = 20
"""Feature records kept for the web page."""


class Emitter:
    """Sends what a tier gives, and counts it.

    Parameters
    ----------
    outbox
        Sends.
    settings
        Name the topics.
    tier
        Name of the tier.
    """

    def __init__(self, outbox: Outbox, settings: Settings, tier: str) -> None:
        self._outbox = outbox
        self._settings = settings
        self._tier = tier
        self.blocks = 0
        self.samples = 0
        self.features = 0
        self.events: dict[str, int] = {}
        self.dead_letters: dict[str, int] = {}
        self._largest_letter: int | None = None
        self._queues: dict[str, FeatureQueue] = {}
        self.latest: deque[bytes] = deque(maxlen=LATEST_RECORDS)

    async def features_of(self, portion: Portion, output: Output) -> None:
        """Send a portion's feature records."""
        self._count(portion, output)
        topic = features_topic(self._settings, portion.columns.pipeline.name)
        if topic in self._queues:
            await self._queues[topic].handed_over()
        records = (Outgoing(key, value) for key, value in output.features)
        portion.pending.sent += await self._outbox.send(topic, records)

    async def express(self, sent: Sent) -> asyncio.Future[None]:
        """Send the records of the express lane; gives what is done when the broker has them."""
        self._add(sent.blocks, sent.samples, sent.blocks)
        if sent.clock_jumps:
            self._count_event("clock_jump", sent.clock_jumps)
        topic = features_topic(self._settings, sent.engine.pipeline.name)
        queue = self._queues.get(topic)
        if queue is None:
            count = await self._outbox.partition_count(topic)
            send = partial(self._outbox.send_prepared, topic)
            queue = self._queues[topic] = FeatureQueue(count, PRODUCER_BATCH_BYTES, send, self._note)
        return await queue.put(sent.records)

    def _note(self, encoded: Encoded) -> None:
        """Keep the newest of the records."""
        count = len(encoded)
        self.latest.extend(encoded.record(number) for number in range(max(0, count - LATEST_RECORDS), count))

    def _count(self, portion: Portion, output: Output) -> None:
        blocks = len(portion.records) - sum(len(deferral.blocks) for deferral in output.deferred.values())
        self._add(blocks, output.samples, len(output.features))
        for reason, count in output.events.items():
            self._count_event(reason, count)
        self.latest.extend(value for _, value in output.features[-LATEST_RECORDS:])

    def _add(self, blocks: int, samples: int, features: int) -> None:
        self.blocks += blocks
        self.samples += samples
        self.features += features
        metrics.BLOCKS.labels(self._tier).inc(blocks)
        metrics.SAMPLES.labels(self._tier).inc(samples)
        metrics.FEATURES.labels(self._tier).inc(features)

    def _count_event(self, reason: str, count: int) -> None:
        self.events[reason] = self.events.get(reason, 0) + count
        metrics.EVENTS.labels(self._tier, reason).inc(count)

    async def dead_letters_of(
        self, bad: Iterable[tuple[BadInput, ConsumerRecord]], source: str, pending: Pending
    ) -> None:
        """Send what could not be processed, each message whole.

        Parameters
        ----------
        bad
            Why, and the message.
        source
            ``topic-partition`` that the messages came from.
        pending
            Their batch.
        """
        letters = []
        for why, record in bad:
            metrics.DEAD_LETTERS.labels(self._tier, why.reason).inc()
            self.dead_letters[why.reason] = self.dead_letters.get(why.reason, 0) + 1
            headers = [
                *letter_headers(why.reason, why.detail, f"{source}-{record.offset}"),
                # One that was sent again stays recognisable, so that it is not sent again for ever.
                *(header for header in record.headers if header[0] == REPLAYED_FROM),
            ]
            letters.append(Outgoing(record.key, record.value, headers))
        topic = dead_letter_topic(self._settings)
        large = [letter for letter in letters if len(letter.value or b"") > LARGE_LETTER]
        pending.sent += await self._outbox.send(topic, (letter for letter in letters if letter not in large))
        for letter in large:
            if self._largest_letter is None:
                self._largest_letter = await largest_message(self._settings, topic)
            pending.sent.append(await self._outbox.send_large(topic, letter, self._largest_letter))
