"""What a tier sends: feature records and dead letters, each tied to the batch it came from."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING

from app import metrics
from app.runtime.outbox import Outbox, Outgoing
from app.runtime.portion import Pending, Portion
from app.topics import dead_letter_topic, features_topic, largest_message
from app.wire.decode import BadInput
from app.wire.reasons import LARGE_LETTER, REPLAYED_FROM, letter_headers

if TYPE_CHECKING:
    from aiokafka import ConsumerRecord

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
        self.latest: deque[bytes] = deque(maxlen=LATEST_RECORDS)

    async def features_of(self, portion: Portion, output: Output) -> None:
        """Send a portion's feature records."""
        self._count(portion, output)
        topic = features_topic(self._settings, portion.columns.pipeline.name)
        records = (Outgoing(key, value) for key, value in output.features)
        portion.pending.sent += await self._outbox.send(topic, records)

    def _count(self, portion: Portion, output: Output) -> None:
        tier = self._tier
        blocks = len(portion.records) - sum(len(deferral.blocks) for deferral in output.deferred.values())
        self.blocks += blocks
        self.samples += output.samples
        self.features += len(output.features)
        metrics.BLOCKS.labels(tier).inc(blocks)
        metrics.SAMPLES.labels(tier).inc(output.samples)
        metrics.FEATURES.labels(tier).inc(len(output.features))
        for reason, count in output.events.items():
            self.events[reason] = self.events.get(reason, 0) + count
            metrics.EVENTS.labels(tier, reason).inc(count)
        self.latest.extend(value for _, value in output.features[-LATEST_RECORDS:])

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
