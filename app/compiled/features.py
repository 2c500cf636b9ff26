"""Feature records of whole slices, from arrays to record batches that the producer sends."""

from __future__ import annotations

import time
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from app.compiled.batches import BATCH_COLUMNS, INVALID, PLACE_COLUMNS, write_batches
from app.compiled.checksum import crc32c
from app.compiled.partitions import partitions_of
from app.dsp.pipeline import Pipeline
from app.dsp.stage import Floats, Indices
from app.runtime.prepared import Prepared

Bytes = NDArray[np.uint8]
Flags = NDArray[np.bool_]

UNLIMITED = 1 << 62
"""Bytes of a batch that is never sent."""


class Rows(NamedTuple):
    """What records are made of, a row each; nothing was missing before, and every sample was measured."""

    texts: Bytes
    """Sensor ids in UTF-8, in any order,"""
    begins: Indices
    """(n,) where each row's begins there,"""
    ends: Indices
    """(n,) and where it ends."""
    timestamps: Indices
    """(n,) of each block, ms since 1970."""
    seqs: Indices
    """(n,) index of each block's first sample."""
    values: Floats
    """(n, values) as `app.dsp.engine.Features` has them."""
    full: Flags
    """(n, values) whether the window behind a value was full."""


class Encoded:
    """Records in batches.

    Parameters
    ----------
    batches
        Each with its partition; those of a partition in order.
    places
        (n, 3) batch of each row's record, and where its value begins and ends there.
    """

    def __init__(self, batches: list[tuple[int, Prepared]], places: Indices) -> None:
        self.batches = batches
        self._places = places

    def __len__(self) -> int:
        return len(self._places)

    def record(self, row: int) -> bytes:
        """Give the JSON of a row's record."""
        batch, begin, end = self._places[row].tolist()
        return bytes(self.batches[batch][1].data[begin:end])

    def records(self) -> list[bytes]:
        """Give the JSON of all rows' records."""
        data = [memoryview(batch.data) for _, batch in self.batches]
        return [data[batch][begin:end].tobytes() for batch, begin, end in self._places.tolist()]


class FeatureBatches:
    """Encodes feature records as `app.wire.features.FeatureEncoder` does, by arrays; for one thread at a time.

    Parameters
    ----------
    pipeline
        Whose features.
    tier
        Name of the tier that computes them.
    """

    def __init__(self, pipeline: Pipeline, tier: str) -> None:
        json = msgspec.json.Encoder().encode
        names = [b",%b:" % json(name) for name in pipeline.feature_names]
        tail = b',"tier":%b,"pipeline":%b,"gap":0,"quality":1.0}' % (json(tier), json(pipeline.name))
        pieces = [b'{"sensorId":"', b'","timestamp":', *names, b',"seq":', tail]
        literals = np.array(bytearray(b"".join(pieces)))
        cuts = np.cumsum([0, *map(len, pieces)], dtype=np.int64)
        self._pieces = literals, cuts, np.array(pipeline.widths, np.int64)
        self._encoder = msgspec.json.Encoder()
        self._room = np.empty(1 << 16, np.uint8)

    def encode(self, rows: Rows, partitions: Indices | NDArray[np.int32], count: int, limit: int) -> Encoded:
        """Encode a record for each row, with the sensor's id as its key.

        Parameters
        ----------
        rows
            What of.
        partitions
            (n,) where each row's record goes, of
        count
            so many.
        limit
            Largest batch that the producer takes, bytes; a record that is larger by itself is one nevertheless.

        Raises
        ------
        ValueError
            The arrays do not fit one another.
        """
        length = len(partitions)
        batches = np.empty((length, BATCH_COLUMNS), np.int64)
        places = np.empty((length, PLACE_COLUMNS), np.int64)
        made = self._write(rows, partitions, count, limit, batches, places) if length else 0
        now, room = int(time.time() * 1000), self._room.data
        prepared = [
            (partition, Prepared(bytearray(room[begin:end]), records, now, crc32c))
            for partition, begin, end, records in batches[:made].tolist()
        ]
        return Encoded(prepared, places)

    def encode_by_key(self, rows: Rows, count: int, limit: int) -> Encoded:
        """Do as `encode`, each record in the partition of its key."""
        return self.encode(rows, partitions_of(rows.texts, rows.begins, rows.ends, count), count, limit)

    def records(self, rows: Rows) -> list[bytes]:
        """Encode the same records, but give just their JSON; for what a state keeps of its sensor's last block."""
        encoded = self.encode(rows, np.zeros(len(rows.timestamps), np.int64), 1, UNLIMITED)
        return encoded.records()

    def _write(
        self,
        rows: Rows,
        partitions: Indices | NDArray[np.int32],
        count: int,
        limit: int,
        batches: Indices,
        places: Indices,
    ) -> int:
        length, width = rows.values.shape
        numbers = bytearray()
        self._encoder.encode_into(rows.values.ravel().tolist(), numbers)
        bounds, order = np.empty(length * width + 1, np.int64), np.empty(length, np.int64)
        values = np.frombuffer(numbers, np.uint8), bounds, np.ascontiguousarray(rows.full)
        texts = rows.texts, rows.begins, rows.ends, rows.timestamps, rows.seqs
        where = np.ascontiguousarray(partitions, np.int64)
        made: int
        while (
            made := write_batches(
                self._pieces, values, texts, where, order, count, limit, (self._room, batches, places)
            )
        ) < INVALID:
            self._room = np.empty(-2 * made, np.uint8)  # so many bytes were missing, at the most
        if made == INVALID:
            raise ValueError(
                f"expected {length} rows with ids within {len(rows.texts)} bytes, and partitions below {count}"
            )
        return made
