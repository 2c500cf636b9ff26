"""Reading states from a tier's changelog, which holds every snapshot since it was compacted last."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from aiokafka import AIOKafkaConsumer

from app.kafka_reader import Stretches, read, retained
from app.settings import Settings, TierName
from app.state_copies.copies import StateCopy
from app.topics import changelog_topic

#: Called with how much has been done, and of how much.
OnProgress = Callable[[int, int], object]


async def changelog_stretches(consumer: AIOKafkaConsumer, settings: Settings, tier: TierName) -> Stretches:
    """Tell what a tier's changelog holds.

    Raises
    ------
    TopicError
        There is no such topic.
    """
    return await retained(consumer, settings, changelog_topic(settings, tier))


async def changelog_copies(
    consumer: AIOKafkaConsumer,
    stretches: Stretches,
    tier: TierName,
    *,
    only: bytes | None = None,
    on_progress: OnProgress = lambda _done, _total: None,
) -> AsyncIterator[tuple[int, bytes, StateCopy | None]]:
    """Read the states on a changelog, older ones too, each partition's in order.

    Parameters
    ----------
    consumer, stretches, tier
        What to read, and whose it is.
    only
        A sensor's encoded id; else all sensors' states are given.
    on_progress
        Called as the offsets are read.

    Yields
    ------
    The partition, the encoded id, and the state; None for one that was deleted.
    """
    total = sum(stretch.end - stretch.start for stretch in stretches.values())
    done = 0
    async for records in read(consumer, stretches):
        for record in records:
            if only is None or record.key == only:
                where = f"{record.topic}-{record.partition}-{record.offset}"
                copy = StateCopy.of("changelog", tier, where, record.value) if record.value else None
                yield record.partition, record.key or b"", copy
        done += len(records)
        on_progress(done, total)
