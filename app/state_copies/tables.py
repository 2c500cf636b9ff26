"""Reading the state tables on this machine's disk beside the workers that write them."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import rocksdict

from app.settings import Settings, TierName
from app.state_copies.copies import StateCopy

ATTEMPTS = 3
"""A worker may remove files of its database in the moment between our reading its list and opening them."""

#: Keys of Faust's own.
_FAUSTS = b"__faust"


class TableError(Exception):
    """A database of a table cannot be read."""


class TablePartition(NamedTuple):
    """A partition of a tier's table in a worker's folder."""

    path: Path
    tier: TierName
    partition: int


def table_partitions(settings: Settings, tier: TierName) -> list[TablePartition]:
    """Find the partitions of a tier's table, in the folders of all workers of the data folder."""
    found = []
    for path in sorted(settings.datadir.glob(f"workers/*/v1/tables/{tier}-state-*.db")):
        number = re.fullmatch(rf"{tier}-state-([0-9]+)\.db", path.name)
        # A worker that has not written anything yet has a folder without a database.
        if number and (path / "CURRENT").exists():
            found.append(TablePartition(path, tier, int(number[1])))
    return found


def read_table(table: TablePartition, sensor_id: str) -> StateCopy | None:
    """Read a sensor's state; None where the partition has none.

    Raises
    ------
    TableError
        The database cannot be read.
    """
    with _opened(table) as database:
        snapshot = database.get(sensor_id.encode())
    return None if snapshot is None else StateCopy.of("table", table.tier, str(table.path), snapshot)


def read_whole_table(table: TablePartition) -> Iterator[tuple[str, StateCopy]]:
    """Read the states of all sensors of a partition, one after another.

    Raises
    ------
    TableError
        The database cannot be read.
    """
    with _opened(table) as database:
        for key, snapshot in database.items():
            if not key.startswith(_FAUSTS):
                sensor_id = key.decode(errors="backslashreplace")
                yield sensor_id, StateCopy.of("table", table.tier, str(table.path), snapshot)


@contextmanager
def _opened(table: TablePartition) -> Iterator[Any]:
    """Open a database as a secondary instance, which takes no lock, writes nothing into it, and sees the newest."""
    with tempfile.TemporaryDirectory() as folder:
        database = _open(table, folder)
        try:
            yield database
        except Exception as error:
            # rocksdict has no exceptions of its own.
            raise TableError(f"{table.path}: {error}") from error
        finally:
            database.close()


def _open(table: TablePartition, folder: str) -> Any:
    options = rocksdict.Options(raw_mode=True)
    options.create_if_missing(False)
    # Files that are open stay readable when the worker's compaction removes them.
    options.set_max_open_files(-1)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return rocksdict.Rdict(str(table.path), options, access_type=rocksdict.AccessType.secondary(folder))
        except Exception as error:
            if attempt == ATTEMPTS:
                raise TableError(f"{table.path}: {error}") from error
    raise AssertionError("unreachable")
