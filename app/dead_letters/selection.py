"""Which dead letters are meant, and how much of their topic has to be read for it."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from aiokafka import AIOKafkaConsumer, ConsumerRecord

from app.dead_letters.errors import DeadLetterError
from app.dead_letters.letter import DeadLetter, LetterId
from app.kafka_reader import Stretch, Stretches, read

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}

#: Called with how many offsets have been read, and of how many.
OnProgress = Callable[[int, int], object]


@dataclass(frozen=True)
class Selection:
    """Dead letters that fit all of what is given.

    Parameters
    ----------
    ids
        Only these.
    reason, key
        Only with this reason, or key.
    since
        Only from this time on, ms since the epoch.
    """

    ids: frozenset[LetterId] = frozenset()
    reason: str | None = None
    key: bytes | None = None
    since: int | None = None

    def __contains__(self, letter: DeadLetter) -> bool:
        return (
            (not self.ids or letter.id in self.ids)
            and (self.reason is None or letter.reason == self.reason)
            and (self.key is None or letter.key == self.key)
            and (self.since is None or letter.timestamp >= self.since)
        )

    async def narrowed(self, consumer: AIOKafkaConsumer, stretches: Stretches) -> Stretches:
        """Leave out what lies before the first dead letter that can be meant; what follows it is kept."""
        if self.ids:
            first: dict[int, int] = {}
            for letter in self.ids:
                first[letter.partition] = min(letter.offset, first.get(letter.partition, letter.offset))
            stretches = {
                partition: Stretch(max(stretch.start, first[partition.partition]), stretch.end)
                for partition, stretch in stretches.items()
                if partition.partition in first
            }
        if self.since is not None:
            found = await consumer.offsets_for_times(dict.fromkeys(stretches, self.since))
            stretches = {
                partition: Stretch(max(stretch.start, at.offset), stretch.end)
                for partition, stretch in stretches.items()
                if (at := found[partition]) is not None
            }
        return stretches


def parse_since(text: str) -> int:
    """Read a time, as ISO 8601 or as how long ago (`90s`, `30m`, `2h`, `7d`), in ms since the epoch.

    Raises
    ------
    DeadLetterError
        It is neither.
    """
    if ago := re.fullmatch(r"([0-9]{1,9})([smhd])", text):
        return max(0, round((time.time() - int(ago[1]) * _UNITS[ago[2]]) * 1000))
    try:
        given = datetime.fromisoformat(text)
    except ValueError:
        raise DeadLetterError(
            f"--since {text}: expected how long ago (90s, 30m, 2h, 7d), or a time such as 2026-01-31T08:00+00:00"
        ) from None
    given = given if given.tzinfo else given.replace(tzinfo=UTC)
    return max(0, round(given.timestamp() * 1000))


async def scan(
    consumer: AIOKafkaConsumer, stretches: Stretches, on_progress: OnProgress
) -> AsyncIterator[ConsumerRecord]:
    """Read stretches of the dead letters' topic."""
    total = sum(stretch.end - stretch.start for stretch in stretches.values())
    done = 0
    async for records in read(consumer, stretches):
        for record in records:
            yield record
        done += len(records)
        on_progress(done, total)
    on_progress(total, total)
