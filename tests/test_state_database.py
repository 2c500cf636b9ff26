"""A partition's database: made when something is written, whole after kill -9, and read again where it is damaged."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from faust.types import TP

from app.faust_app import ContinuumApp
from app.runtime.database import exists
from app.runtime.state_table import StateTable
from app.settings import load_settings
from tests.test_state_table import SENSORS, SNAPSHOTS, on_disk, recover, store_of

LOG = [(sensor_id.encode(), SNAPSHOTS[sensor_id][age]) for age in range(3) for sensor_id in SENSORS]
NEWEST = {sensor_id: SNAPSHOTS[sensor_id][2] for sensor_id in SENSORS}

# Applies a changelog without end, batch after batch, from where the disk is; says after each how far it has come.
_RECOVERING = """
import sys
from pathlib import Path
from tests.test_state_database import endless, open_table
from tests.test_state_table import recover, store_of

table = open_table(Path(sys.argv[1]))
reached = store_of(table).reached(0)
while True:
    recover(table, [endless(number) for number in range(reached + 1, reached + 8)], reached + 1)
    reached += 7
    print(reached, flush=True)
"""


def open_table(folder: Path) -> StateTable:
    settings = load_settings(kafka_bootstrap="127.0.0.1:1", redis_url="redis://127.0.0.1:1", datadir=folder)
    app = ContinuumApp(settings)
    app.conf.datadir = folder
    return StateTable.for_tier(app, "rt")


def database_of(table: StateTable) -> Path:
    return store_of(table).partition_path(0)


async def closed(table: StateTable, *, as_files: bool) -> Path:
    """Close a table, all of it in files of its own if so asked; gives its database's folder."""
    store = store_of(table)
    if as_files:
        store._db_for_partition(0).flush()
    await store.stop()
    return database_of(table)


def endless(number: int) -> tuple[bytes, bytes]:
    """Record of a changelog by its offset."""
    return b"%d" % (number % 100), b"%d " % number + random.Random(number).randbytes(2000)


def truncate(pattern: str, share: float) -> Callable[[Path], None]:
    def damage(database: Path) -> None:
        for path in database.glob(pattern):
            os.truncate(path, int(path.stat().st_size * share))

    return damage


def unlink(pattern: str) -> Callable[[Path], None]:
    def damage(database: Path) -> None:
        for path in database.glob(pattern):
            path.unlink()

    return damage


def scramble(database: Path) -> None:
    """Spoil the values, and leave what RocksDB looks at when it opens a file."""
    for path in database.glob("*.sst"):
        with path.open("r+b") as file:
            file.seek(200)
            file.write(bytes(500))


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(unlink("MANIFEST-*"), id="no manifest"),
        pytest.param(truncate("MANIFEST-*", 0.1), id="short manifest"),
        pytest.param(truncate("CURRENT", 0.0), id="empty CURRENT"),
        pytest.param(unlink("CURRENT"), id="no CURRENT"),
        pytest.param(unlink("*.sst"), id="no table"),
        pytest.param(truncate("*.sst", 0.5), id="short table"),
    ],
)
async def test_a_database_that_cannot_be_opened_is_read_from_the_changelog_again(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    table = open_table(tmp_path)
    recover(table, LOG)
    damage(await closed(table, as_files=True))
    table = open_table(tmp_path)
    assert store_of(table).persisted_offset(TP(table.changelog_topic_name, 0)) is None
    recover(table, LOG)
    assert on_disk(table) == NEWEST
    assert store_of(table).reached(0) == len(LOG) - 1


async def test_a_database_that_turns_out_to_be_damaged_ends_the_worker_and_is_not_opened_again(tmp_path: Path) -> None:
    table = open_table(tmp_path)
    recover(table, LOG)
    scramble(await closed(table, as_files=True))
    table = open_table(tmp_path)
    with pytest.raises(Exception, match="Corruption"):
        on_disk(table)
    await closed(table, as_files=False)
    table = open_table(tmp_path)
    assert store_of(table).reached(0) == -1
    recover(table, LOG)
    assert on_disk(table) == NEWEST
    await closed(table, as_files=False)
    assert on_disk(open_table(tmp_path)) == NEWEST, "and the mark is gone"


async def test_a_database_that_another_process_has_open_is_left_alone(tmp_path: Path) -> None:
    table = open_table(tmp_path)
    recover(table, LOG)
    with pytest.raises(Exception, match="lock"):
        on_disk(open_table(tmp_path))
    assert on_disk(table) == NEWEST


def test_a_partition_without_a_state_has_no_database(tmp_path: Path) -> None:
    table = open_table(tmp_path)
    assert on_disk(table) == dict.fromkeys(SENSORS)
    assert table.snapshots(0) == []
    assert store_of(table).reached(0) == -1
    assert not exists(database_of(table))
    recover(table, LOG)
    assert exists(database_of(table))
    assert dict(table.snapshots(0)) == {sensor_id.encode(): snapshot for sensor_id, snapshot in NEWEST.items()}


def test_a_recovery_that_is_killed_goes_on_from_what_it_has_written(tmp_path: Path) -> None:
    said = -1
    for lines in (5, 100):
        program = [sys.executable, "-c", _RECOVERING, str(tmp_path)]
        with subprocess.Popen(program, cwd=Path(__file__).parents[1], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for _ in range(lines):
                said = int(process.stdout.readline())
            process.send_signal(signal.SIGKILL)
    table = open_table(tmp_path)
    reached = store_of(table).reached(0)
    assert reached > 0
    assert said >= 100 * 7
    expected = dict(endless(number) for number in range(reached + 1))
    assert dict(table.snapshots(0)) == expected
