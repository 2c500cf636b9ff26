"""What a changelog holds, and that no record in it is older than one before it."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from app.dsp.snapshot import decode
from app.topics import changelog_topic
from tests.system import System


async def changelog_records(system: System, tier: Any = "rt") -> list[Any]:
    """All records, in order within a partition."""
    records = await system.read(changelog_topic(system.settings, tier), until=1_000_000, seconds=4)
    return sorted(records, key=lambda record: (record.partition, record.offset))


def stale_records(records: list[Any]) -> list[str]:
    """Those whose state is not newer than that of one before them, in words."""
    newest: defaultdict[bytes, int] = defaultdict(lambda: -1)
    stale = []
    for record in records:
        reached = decode(record.value).header.next
        if reached <= newest[record.key]:
            stale.append(f"{record.key!r} at {record.partition}-{record.offset}: {reached} after {newest[record.key]}")
        newest[record.key] = max(reached, newest[record.key])
    return stale
