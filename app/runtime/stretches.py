"""Batches cut and joined into stretches: as much as is worked on in one go, of as many partitions as there are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from app.runtime.portion import Pending
from app.transport.raw_records import RawRecords

STRETCH_BYTES = 4 << 20
"""Of messages that are worked on in one go, between two looks at everything else: some hundredths of a second's worth
where there is a backlog, and what there is where there is none."""

EXPRESS_TIMES = 4
"""How many times the records of the ordinary way a stretch may have where there is an express lane, which takes a
quarter of the time."""

SLICE_BYTES = 8 << 20
"""Of messages that are decoded at once in the ordinary way; their samples take up to sixteen times as much."""


class Lot(NamedTuple):
    """Records of one batch, in order."""

    pending: Pending
    partition: int
    records: Sequence[Any]


def stretches(lots: Sequence[Lot], at_once: Callable[[], int]) -> Iterator[list[Lot]]:
    """Cut and join batches.

    Parameters
    ----------
    lots
        The batches.
    at_once
        Gives the most records of the next stretch.
    """
    stretch: list[Lot] = []
    room, most = STRETCH_BYTES, at_once()
    for lot in lots:
        if not isinstance(lot.records, RawRecords):
            if stretch:
                yield stretch
            for records in slices(lot.records, at_once):
                yield [Lot(lot.pending, lot.partition, records)]
            stretch, room, most = [], STRETCH_BYTES, at_once()
            continue
        begin, count = 0, len(lot.records)
        sizes = np.cumsum(lot.records.value_ends - lot.records.value_begins)
        while begin < count:
            before = int(sizes[begin - 1]) if begin else 0
            fitting = min(int(np.searchsorted(sizes, before + room, side="right")), begin + most)
            # One at least, however large.
            end = max(begin + (not stretch), fitting)
            if end > begin:
                stretch.append(Lot(lot.pending, lot.partition, lot.records[begin:end]))
                room -= int(sizes[end - 1]) - before
                most -= end - begin
            if end < count:
                yield stretch
                stretch, room, most = [], STRETCH_BYTES, at_once()
            begin = end
    if stretch:
        yield stretch


def slices(records: Sequence[Any], at_once: Callable[[], int]) -> Iterator[Sequence[Any]]:
    """Split a batch into parts of so many records, fewer where they are large: a small one may hold gigabytes."""
    begin = size = 0
    most = at_once()
    for number, record in enumerate(records):
        length = len(record.value or b"")
        if number - begin == most or (size + length > SLICE_BYTES and number > begin):
            yield records[begin:number]
            begin, size = number, 0
            most = at_once()
        size += length
    yield records[begin:]
