"""The RocksDB database of one partition of a state table: many small ones in a worker, each a copy of a changelog."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import rocksdict

logger = logging.getLogger(__name__)

WRITE_BUFFER = 512 << 10
"""Bytes of a partition that are in memory before they go to a file: some hundred snapshots."""

OPEN_FILES = 64
KEPT_LOGS = 2
"""Of RocksDB's own; it starts one whenever a database is opened."""

#: All databases of a worker share it. A state is read once, when its sensor is met: there is little to keep.
_CACHE = rocksdict.Cache(8 << 20)


def exists(path: Path) -> bool:
    """Whether there is a database that may be opened."""
    return (path / "CURRENT").exists() and not _mark(path).exists()


def open_database(path: Path) -> rocksdict.Rdict:
    """Open a database, or make one; one that is damaged makes way for an empty one, as the changelog has it all."""
    if _mark(path).exists():
        _remove(path)
    try:
        return rocksdict.Rdict(str(path), _options())
    except Exception as error:
        if not _is_damage(error):
            raise
        logger.warning("%s is damaged (%s): it is read from the changelog again", path, error)
        _remove(path)
        return rocksdict.Rdict(str(path), _options())


@contextmanager
def marking_damage(path: Path) -> Iterator[None]:
    """Mark a database that turns out to be damaged while it is used, so that it is not opened again as it is."""
    try:
        yield
    except Exception as error:
        if _is_damage(error):
            logger.error("%s is damaged: the next start reads it from the changelog again", path)  # noqa: TRY400 - raised
            _mark(path).touch()
        raise


def _options() -> rocksdict.Options:
    options = rocksdict.Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_max_open_files(OPEN_FILES)
    options.set_write_buffer_size(WRITE_BUFFER)
    options.set_max_write_buffer_number(2)
    options.set_compression_type(rocksdict.DBCompressionType.none())  # states are numbers that hardly shrink
    options.set_stats_dump_period_sec(0)
    options.set_stats_persist_period_sec(0)
    options.set_keep_log_file_num(KEPT_LOGS)
    tables = rocksdict.BlockBasedOptions()
    tables.set_bloom_filter(10, block_based=False)
    tables.set_block_cache(_CACHE)
    options.set_block_based_table_factory(tables)
    return options


def _is_damage(error: Exception) -> bool:
    """Whether what lies on disk is not what RocksDB wrote; rocksdict has no exceptions of its own."""
    text = str(error)
    return text.startswith("Corruption") or (text.startswith("IO error") and "No such file or directory" in text)


def _mark(path: Path) -> Path:
    return path.with_name(f"{path.name}.damaged")


def _remove(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)
    _mark(path).unlink(missing_ok=True)
