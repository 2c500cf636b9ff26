"""Looking at dead letters: the newest of them, and single ones."""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import dataclass, field

from aiokafka import ConsumerRecord, TopicPartition

from app.dead_letters.errors import DeadLetterError
from app.dead_letters.letter import DeadLetter, LetterId, Source
from app.dead_letters.selection import OnProgress, Selection, scan
from app.kafka_reader import Stretch, read, retained, topic_reader
from app.settings import Settings
from app.topics import dead_letter_topic

NEWEST_OF_PARTITION = 2_000
"""Offsets read of each partition, where no time says how far back to look."""


@dataclass
class Listing:
    """The newest dead letters that fit, and how many of them there are.

    Attributes
    ----------
    retained
        Dead letters that the topic holds.
    read
        How many of these were looked at.
    reasons
        Those among them that fit, by reason.
    newest
        Some of those, the newest first.
    """

    retained: int
    read: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    newest: list[DeadLetter] = field(default_factory=list)


async def newest_letters(settings: Settings, selection: Selection, limit: int, on_progress: OnProgress) -> Listing:
    """List the newest dead letters of a selection.

    Without a time to begin from, no more than the newest of each partition are read.
    """
    async with topic_reader(settings) as consumer:
        whole = await retained(consumer, settings, dead_letter_topic(settings))
        stretches = await selection.narrowed(consumer, whole)
        if selection.since is None:
            stretches = {
                partition: Stretch(max(stretch.start, stretch.end - NEWEST_OF_PARTITION), stretch.end)
                for partition, stretch in stretches.items()
            }
        listing = Listing(sum(stretch.end - stretch.start for stretch in whole.values()))
        newest: list[tuple[int, LetterId, DeadLetter]] = []
        async for record in scan(consumer, stretches, on_progress):
            listing.read += 1
            letter = DeadLetter.of(record)
            if letter in selection:
                listing.reasons[letter.reason] += 1
                heapq.heappush(newest, (letter.timestamp, letter.id, letter))
                if len(newest) > limit:
                    heapq.heappop(newest)
    listing.newest = [letter for _, _, letter in sorted(newest, reverse=True)]
    return listing


async def find_letters(settings: Settings, name: LetterId | Source, on_progress: OnProgress) -> list[ConsumerRecord]:
    """Find the records of a dead letter: one for an id; for a source one for each reason its blocks were refused.

    Raises
    ------
    DeadLetterError
        There is none, or none any more.
    """
    topic = dead_letter_topic(settings)
    async with topic_reader(settings) as consumer:
        whole = await retained(consumer, settings, topic)
        if isinstance(name, LetterId):
            partition = TopicPartition(topic, name.partition)
            held = whole.get(partition)
            if held is None:
                raise DeadLetterError(f"dead letter {name}: {topic} has partitions 0 to {len(whole) - 1}")
            if held.start <= name.offset < held.end:
                async for records in read(consumer, {partition: Stretch(name.offset, name.offset + 1)}):
                    if records:
                        return records
            raise DeadLetterError(
                f"dead letter {name}: partition {name.partition} of {topic} holds offsets {held.start} up to"
                f" {held.end}, and none of this number"
            )
        found = [record async for record in scan(consumer, whole, on_progress) if DeadLetter.of(record).source == name]
    if not found:
        raise DeadLetterError(
            f"no dead letter has the source {name}; looked through all"
            f" {sum(stretch.end - stretch.start for stretch in whole.values())} of {topic}"
        )
    return sorted(found, key=lambda record: (record.timestamp, record.offset))
