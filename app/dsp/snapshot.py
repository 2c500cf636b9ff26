"""Snapshots: one sensor's whole state as bytes, the same in the table, its changelog, Redis and a file.

Layout, little-endian::

    4 bytes   magic "CTNM"
    uint16    format version
    uint16    length of the header
    header    MessagePack map: the fields of `Header` (those at their default may be left out), and arrays
    data      the arrays named by the header, one after another
    uint32    CRC-32 of all before it

The header describes each array by node, name, dtype and shape, so that a snapshot can be shown without its
pipeline. A snapshot that does not fit is refused whole, with the remedy.

Version 1 had of the header's fields only fingerprint, epoch, next, time and position, and of the arrays only the
stages'; it is upgraded when read.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from app.dsp.errors import SnapshotError
from app.dsp.stage import Array

MAGIC = b"CTNM"
VERSION = 2
_MOST_CHANNELS = 65_536
_PREFIX = struct.Struct("<4sHH")
_CRC = struct.Struct("<I")


class Position(msgspec.Struct, frozen=True, array_like=True):
    """How far a state has consumed its source: every message of the partition before ``offset``."""

    topic: str
    partition: int
    offset: int


class ArrayLayout(msgspec.Struct, frozen=True, array_like=True):
    """Where an array belongs and what it is; ``dtype`` as numpy spells it, little-endian."""

    node: str
    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes the array takes."""
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize


class Behind(msgspec.Struct, frozen=True, array_like=True):
    """Blocks dropped one after another that are behind their sensor's stream and yet follow one another.

    A device that counts or keeps time anew sends such blocks for ever; a resent one, only for a while.
    """

    messages: int
    """Messages they came in."""
    samples: int
    next: int
    """Index that the next one has; -1 where the device sends none."""
    time: float
    """Time that the next one has, ms."""


class Header(msgspec.Struct, frozen=True, omit_defaults=True):
    """All of a snapshot but its arrays' values.

    Attributes
    ----------
    fingerprint
        Of the pipeline that made the state.
    epoch
        Raised whenever a tier claims the sensor.
    next
        Index of the next sample.
    time
        Time expected of the next sample, ms since the epoch.
    position
        Up to where the source has been consumed.
    since
        Index from which on no sample is missing.
    restarts
        How often the sensor's stream began anew.
    stream
        The device's id of the stream; empty where it sends none.
    previous
        Id of the stream before.
    behind
        The blocks that were dropped since the last one consumed, if the device may have begun anew with them.
    """

    fingerprint: bytes
    epoch: int
    next: int
    time: float
    position: Position
    since: int
    restarts: int = 0
    stream: str = ""
    previous: str = ""
    behind: Behind | None = None

    @property
    def age(self) -> tuple[int, int]:
        """Of two states of one sensor the one with the greater age is the newer, whoever made it."""
        return self.restarts, self.next


class _StoredHeader(Header, frozen=True, kw_only=True):
    # All sensors of a pipeline have one layout: its encoding is made once, copied in, and compared as bytes.
    arrays: msgspec.Raw


class _HeaderVersion1(msgspec.Struct, frozen=True):
    fingerprint: bytes
    epoch: int
    next: int
    time: float
    position: Position
    arrays: tuple[ArrayLayout, ...]


class Snapshot(NamedTuple):
    """A decoded snapshot, whatever pipeline it is of."""

    header: Header
    arrays: dict[str, dict[str, Array]]
    """Read-only arrays by node and name."""


_encoder = msgspec.msgpack.Encoder()
_header_decoder = msgspec.msgpack.Decoder(_StoredHeader)
_header_decoder_1 = msgspec.msgpack.Decoder(_HeaderVersion1)
_layout_decoder = msgspec.msgpack.Decoder(tuple[ArrayLayout, ...])


def last_sample_layout(channels: int) -> ArrayLayout:
    """Where a snapshot keeps the stream's last sample, from which a gap is filled."""
    return ArrayLayout("input", "last", "<f8", (channels,))


def read_header(snapshot: bytes) -> Header:
    """Read the header of a snapshot of any pipeline.

    Raises
    ------
    SnapshotError
        Damaged, or of a format version that this release does not know.
    """
    return _open(snapshot)[0]


def decode(snapshot: bytes) -> Snapshot:
    """Decode a snapshot of any pipeline.

    Raises
    ------
    SnapshotError
        Damaged, or of a format version that this release does not know.
    """
    stored, data = _open(snapshot)
    arrays: dict[str, dict[str, Array]] = {}
    try:
        start = 0
        for entry in _layout_decoder.decode(stored.arrays):
            values = np.frombuffer(data[start : start + entry.nbytes], entry.dtype)
            arrays.setdefault(entry.node, {})[entry.name] = values.reshape(entry.shape)
            start += entry.nbytes
    except (msgspec.DecodeError, ValueError, TypeError) as error:
        raise _damaged(f"its arrays do not fit their description ({error})") from None
    if start != len(data):
        raise _damaged(f"{len(data)} bytes of arrays, expected {start}")
    return Snapshot(stored, arrays)


class Codec:
    """Snapshots of one pipeline, many sensors at once.

    Parameters
    ----------
    fingerprint
        Of the pipeline.
    layout
        The arrays of one sensor's state.
    """

    def __init__(self, fingerprint: bytes, layout: tuple[ArrayLayout, ...]) -> None:
        self.fingerprint = fingerprint
        self.layout = layout
        self._layout = _encoder.encode(layout)
        self._nbytes = sum(entry.nbytes for entry in layout)

    def encode(self, headers: Sequence[Header], arrays: Sequence[Array]) -> list[bytes]:
        """Encode one snapshot for each header.

        Parameters
        ----------
        headers
            Of n sensors.
        arrays
            One for each entry of the layout, (n, *shape).
        """
        data = np.concatenate(
            [
                np.ascontiguousarray(values, dtype=entry.dtype).view(np.uint8).reshape(len(headers), entry.nbytes)
                for entry, values in zip(self.layout, arrays, strict=True)
            ],
            axis=1,
        )
        raw_layout = msgspec.Raw(self._layout)
        snapshots = []
        for header, values in zip(headers, data, strict=True):
            fields = _encoder.encode(_StoredHeader(*msgspec.structs.astuple(header), arrays=raw_layout))
            body = b"".join((_PREFIX.pack(MAGIC, VERSION, len(fields)), fields, values.tobytes()))
            snapshots.append(body + _CRC.pack(zlib.crc32(body)))
        return snapshots

    def decode(self, snapshots: Sequence[bytes]) -> tuple[list[Header], list[Array]]:
        """Decode snapshots, all of this pipeline: their headers, and the arrays (n, *shape) of the layout.

        Raises
        ------
        SnapshotError
            One is damaged, of another format version, or of another pipeline.
        """
        headers: list[Header] = []
        data = bytearray()
        for snapshot in snapshots:
            stored, values = _open(snapshot)
            if stored.fingerprint != self.fingerprint or bytes(stored.arrays) != self._layout:
                raise SnapshotError(
                    f"snapshot of pipeline {stored.fingerprint.hex()} does not fit {self.fingerprint.hex()}; run the"
                    " pipeline that made it, or give the changed pipeline and its sensors new names"
                )
            if len(values) != self._nbytes:
                raise _damaged(f"{len(values)} bytes of arrays, expected {self._nbytes}")
            headers.append(stored)
            data += values
        matrix = np.frombuffer(data, np.uint8).reshape(len(headers), self._nbytes)
        arrays, start = [], 0
        for entry in self.layout:
            column = np.ascontiguousarray(matrix[:, start : start + entry.nbytes])
            arrays.append(column.view(entry.dtype).reshape(len(headers), *entry.shape))
            start += entry.nbytes
        return headers, arrays


def _open(snapshot: bytes) -> tuple[_StoredHeader, bytes | memoryview]:
    """Check a snapshot, and give its header and its data."""
    if len(snapshot) < _PREFIX.size + _CRC.size or not snapshot.startswith(MAGIC):
        raise SnapshotError(
            f"not a snapshot: {len(snapshot)} bytes that begin with {bytes(snapshot[:4])!r}, expected {MAGIC!r};"
            " restore it from another copy (table, changelog or mirror)"
        )
    _, version, header_length = _PREFIX.unpack_from(snapshot)
    if not 1 <= version <= VERSION:
        raise SnapshotError(
            f"snapshot of format version {version}: this release reads versions 1 to {VERSION};"
            " run the release that wrote it, or a newer one"
        )
    (expected,) = _CRC.unpack_from(snapshot, len(snapshot) - _CRC.size)
    actual = zlib.crc32(memoryview(snapshot)[: -_CRC.size])
    if actual != expected:
        raise _damaged(f"CRC-32 {actual:08x}, expected {expected:08x}")
    content = memoryview(snapshot)[_PREFIX.size : -_CRC.size]
    fields, data = content[:header_length], content[header_length:]
    try:
        if version == 1:
            return _upgraded(_header_decoder_1.decode(fields), data)
        return _header_decoder.decode(fields), data
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _damaged(f"header: {error}") from None


def _upgraded(header: _HeaderVersion1, data: memoryview) -> tuple[_StoredHeader, bytes]:
    """Make version 2 of version 1, which knew neither restarts nor stream ids nor the last sample."""
    # Every stage that version 1 had kept an array with a row for each channel.
    channels = next((entry.shape[0] for entry in header.arrays if entry.shape), 0)
    if not 1 <= channels <= _MOST_CHANNELS:
        raise _damaged(f"arrays of {channels} channels")
    last = last_sample_layout(channels)
    stored = _StoredHeader(
        header.fingerprint,
        header.epoch,
        header.next,
        header.time,
        header.position,
        header.next,
        arrays=msgspec.Raw(_encoder.encode((*header.arrays, last))),
    )
    return stored, bytes(data) + bytes(last.nbytes)


def _damaged(fault: str) -> SnapshotError:
    return SnapshotError(f"damaged snapshot: {fault}; restore it from another copy (table, changelog or mirror)")
