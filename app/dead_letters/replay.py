"""Sending dead letters again, to the partitions they came from."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import groupby
from operator import attrgetter

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from app.dead_letters.errors import DeadLetterError
from app.dead_letters.letter import DeadLetter, LetterId, Source
from app.dead_letters.selection import OnProgress, Selection, scan
from app.kafka_client import client_options, started
from app.kafka_reader import Stretch, read, retained, topic_reader
from app.settings import TIERS, Settings
from app.topics import Topic, dead_letter_topic, partition_counts, sensor_topic
from app.wire.reasons import REPLAYED_FROM

PART_BYTES = 32 << 20
"""Bytes of messages that are in memory at a time."""

NEAR = 200
"""Offsets that are read over rather than sought over."""

_NO_LIMIT = 1 << 30
"""The brokers' limit is on what is sent: compressed, a message may be many times larger."""


class Held(StrEnum):
    """Why a dead letter that was selected is not sent again."""

    FAILED_AGAIN = "sent again before, and failed again"
    SAME_MESSAGE = "another dead letter has the same message"
    TRUNCATED = "only the beginning of its message was kept"
    NO_SOURCE = "its source is not a partition of a sensor topic"
    MISSING = "no such dead letter, or none any more"


@dataclass
class Replay:
    """What is to be sent, in the order of the sources, and what is not."""

    letters: list[DeadLetter] = field(default_factory=list)
    held: dict[LetterId, Held] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """Bytes of the messages to send."""
        return sum(letter.size or 0 for letter in self.letters)

    def held_by_reason(self) -> dict[str, int]:
        """How many are held back for each reason."""
        return dict(Counter(str(why) for why in self.held.values()))


async def plan_replay(settings: Settings, selection: Selection, *, again: bool, on_progress: OnProgress) -> Replay:
    """Choose what to send again.

    A dead letter that was sent again and failed again lies on the topic twice: as itself, and as a later one that
    names it. Neither is chosen, or with ``again`` the later one.

    Parameters
    ----------
    settings
        The system's.
    selection
        Which dead letters are meant.
    again
        Choose those that have failed again, too.
    on_progress
        Called while the topic is read.
    """
    chosen: dict[LetterId, DeadLetter] = {}
    failures: dict[str, LetterId] = {}
    async with topic_reader(settings) as consumer:
        whole = await retained(consumer, settings, dead_letter_topic(settings))
        # To the partitions' ends: what failed again has the same key, so it lies behind in the same partition.
        async for record in scan(consumer, await selection.narrowed(consumer, whole), on_progress):
            letter = DeadLetter.of(record)
            if letter.replayed_from is not None:
                failures[letter.replayed_from] = letter.id
            if letter in selection:
                chosen[letter.id] = letter
    counts = await _sensor_partitions(settings)
    replay = Replay(held=dict.fromkeys(selection.ids - chosen.keys(), Held.MISSING))
    sources: set[Source] = set()
    for letter in chosen.values():
        later = failures.get(str(letter.id))
        source = letter.source
        if (later or letter.replayed_from) and (not again or later in chosen):
            replay.held[letter.id] = Held.FAILED_AGAIN
        elif source is None or source.partition >= counts.get(source.topic, 0):
            replay.held[letter.id] = Held.NO_SOURCE
        elif letter.truncated:
            replay.held[letter.id] = Held.TRUNCATED
        elif source in sources:
            # A frame has a dead letter for each reason, and a crash may repeat one.
            replay.held[letter.id] = Held.SAME_MESSAGE
        else:
            sources.add(source)
            replay.letters.append(letter)
    replay.letters.sort(key=attrgetter("source"))
    return replay


async def _sensor_partitions(settings: Settings) -> dict[str, int]:
    """Partition counts of the sensor topics: nothing else is ever sent to, whatever a header says."""
    names = [sensor_topic(settings, tier) for tier in TIERS]
    counts = await partition_counts(settings, [Topic(name, 0) for name in names])
    return {name: count for name, count in counts.items() if count is not None}


async def send_again(settings: Settings, letters: list[DeadLetter], on_progress: OnProgress) -> int:
    """Send messages of dead letters, in their order, each to the partition it came from, key and bytes unchanged.

    Returns
    -------
    How many the brokers have; fewer than given if some were deleted meanwhile.

    Raises
    ------
    DeadLetterError
        The brokers refuse one; the text says how many they have.
    """
    sent = 0
    producer = AIOKafkaProducer(
        **client_options(settings), acks="all", compression_type="gzip", max_request_size=_NO_LIMIT
    )
    async with topic_reader(settings) as consumer, started(producer, settings):
        for part in _parts(letters):
            records = {
                LetterId(record.partition, record.offset): record
                async for record in _records(consumer, dead_letter_topic(settings), part)
            }
            futures = []
            faults: list[Exception] = []
            for letter in part:
                record = records.get(letter.id)
                if record is None or letter.source is None:
                    continue
                headers = [(REPLAYED_FROM, str(letter.id).encode())]
                try:
                    future = await producer.send(
                        letter.source.topic, record.value, record.key, letter.source.partition, headers=headers
                    )
                except KafkaError as error:
                    faults.append(_refused(letter, error))
                    break
                futures.append((letter, future))
            for letter, future in futures:
                try:
                    await future
                    sent += 1
                except KafkaError as error:
                    faults.append(_refused(letter, error))
            if faults:
                raise DeadLetterError(f"{faults[0]}; {sent} of {len(letters)} were sent before it failed")
            on_progress(sent, len(letters))
    return sent


def _refused(letter: DeadLetter, error: KafkaError) -> Exception:
    topic = letter.source.topic if letter.source else ""
    if isinstance(error, MessageSizeTooLargeError):
        return DeadLetterError(
            f"dead letter {letter.id} of {letter.size or 0:,} bytes, compressed and with a header, is larger than"
            f" {topic} takes: raise the topic's max.message.bytes"
        )
    return DeadLetterError(
        f"Kafka does not take dead letter {letter.id} for {topic} ({error!r}): see the brokers' logs"
    )


def _parts(letters: Iterable[DeadLetter]) -> Iterator[list[DeadLetter]]:
    part: list[DeadLetter] = []
    size = 0
    for letter in letters:
        if part and size + (letter.size or 0) > PART_BYTES:
            yield part
            part, size = [], 0
        part.append(letter)
        size += letter.size or 0
    if part:
        yield part


async def _records(
    consumer: AIOKafkaConsumer, topic: str, letters: Iterable[DeadLetter]
) -> AsyncIterator[ConsumerRecord]:
    """Read the records of dead letters, whose sources' order is another than their own."""
    wanted = {letter.id for letter in letters}
    for partition, own in groupby(sorted(wanted), key=attrgetter("partition")):
        for stretch in _near([letter.offset for letter in own]):
            async for records in read(consumer, {TopicPartition(topic, partition): stretch}):
                for record in records:
                    if LetterId(partition, record.offset) in wanted:
                        yield record


def _near(offsets: list[int]) -> Iterator[Stretch]:
    """Gather sorted offsets into stretches without long gaps."""
    start = end = offsets[0]
    for offset in offsets:
        if offset - end > NEAR:
            yield Stretch(start, end + 1)
            start = offset
        end = offset
    yield Stretch(start, end + 1)
