"""Batches of MQTT messages on their way to Kafka: sound blocks as frames, the others as dead letters."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from app import metrics
from app.ingest.check import Checked, Checker, Refused
from app.ingest.content import split
from app.ingest.errors import UnavailableError
from app.ingest.payload import frames_of, named, sensor_of
from app.ingest.sender import Outgoing, Sender
from app.settings import Settings, TierName
from app.topics import dead_letter_topic, sensor_topic
from app.wire.blocks import MAX_SENSOR_ID
from app.wire.reasons import LARGE_LETTER, Rejected, letter_headers

logger = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0
"""Between two attempts, s."""

T = TypeVar("T")


@dataclass
class Forwarded:
    """What has gone to Kafka so far."""

    messages: int = 0
    blocks: int = 0
    frames: int = 0
    refused: int = 0
    """Blocks that became dead letters."""


class Forwarder:
    """Sends batches on, one after another: a later one only when Kafka has all of the one before.

    So a batch that has to be sent again comes before whatever follows it, and no sensor's blocks change their order.

    Parameters
    ----------
    settings
        Name the topics.
    checker, sender
        Of blocks, and to Kafka.
    pattern
        MQTT topics subscribed to.
    gateway
        Key of the frames.
    tier
        Where all blocks go; None for where each sensor's go.
    """

    def __init__(
        self,
        settings: Settings,
        checker: Checker,
        sender: Sender,
        *,
        pattern: str,
        gateway: str,
        tier: TierName | None,
    ) -> None:
        self._settings = settings
        self._checker = checker
        self._sender = sender
        self._pattern = pattern
        self._key = gateway.encode()
        self._tier = tier
        self.done = Forwarded()
        self.obstacle = ""
        """Why nothing goes on at the moment; empty while all is well."""

    async def forward(self, messages: Sequence[tuple[str, bytes]]) -> None:
        """Send messages (topic, payload) on; returns when Kafka has all that they hold, however long that takes."""
        values: list[bytes] = []
        topics: list[str] = []
        refused: list[tuple[str, Refused]] = []
        for topic, payload in messages:
            try:
                blocks = split(payload)
            except Rejected as rejected:
                refused.append((topic, Refused(0, None, rejected.reason, rejected.detail, payload)))
                continue
            sensor_id = sensor_of(self._pattern, topic)
            values += [named(value, sensor_id) for value in blocks]
            topics += [topic] * len(blocks)
        checked: Checked = await self._insist(lambda: self._checker.check(values, self._tier))
        refused += [(topics[block.place], block) for block in checked.refused]
        frames = frames_of(checked.accepted)
        records = [Outgoing(sensor_topic(self._settings, tier), self._key, value, []) for tier, value in frames]
        records += self._letters(refused)
        await self._insist(lambda: self._sender.send(records))
        self.done.messages += len(messages)
        self.done.blocks += len(checked.accepted)
        self.done.frames += len(frames)
        self.done.refused += len(refused)
        for block in checked.accepted:
            metrics.INGEST_BLOCKS.labels("mqtt", block.tier).inc()
        for _, letter in refused:
            metrics.INGEST_REFUSED.labels("mqtt", letter.reason).inc()

    def _letters(self, refused: Iterable[tuple[str, Refused]]) -> list[Outgoing]:
        letters = []
        for topic, block in refused:
            headers = letter_headers(block.reason, block.detail, f"mqtt:{topic}")
            if len(block.value) > LARGE_LETTER:
                headers.append(("truncated", str(len(block.value)).encode()))
            # One beyond what an id may have would make the letter larger than Kafka takes.
            key = None if block.sensor_id is None else block.sensor_id.encode()[:MAX_SENSOR_ID]
            letters.append(Outgoing(dead_letter_topic(self._settings), key, block.value[:LARGE_LETTER], headers))
        return letters

    async def _insist(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Try until it works: what waits meanwhile is the MQTT broker's, or held back at it."""
        pause = FIRST_PAUSE
        while True:
            try:
                result = await attempt()
            except UnavailableError as error:
                if not self.obstacle:
                    logger.warning("%s. Trying again until it works; MQTT waits", error)
                self.obstacle = str(error)
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
            else:
                if self.obstacle:
                    logger.info("going on: Kafka and Redis do as they are asked again")
                self.obstacle = ""
                return result
