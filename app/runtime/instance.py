"""A worker's name and folder, the same again when it is restarted."""

from __future__ import annotations

import fcntl
import os
import secrets
import signal
import time
from dataclasses import dataclass
from io import TextIOWrapper
from itertools import count
from pathlib import Path
from typing import NamedTuple

from app.errors import ContinuumError
from app.settings import Settings

_NAME_FILE, _PID_FILE, _URL_FILE = "instance", "pid", "url"


class LivingWorker(NamedTuple):
    """A worker that runs on a data folder."""

    pid: int
    name: str
    url: str | None
    """Of its web pages; None before they are served."""


@dataclass(frozen=True)
class Instance:
    """A worker's identity.

    Parameters
    ----------
    name
        Static member of the consumer group: a worker that comes back under it gets its partitions back at once.
    folder
        Where its tables lie.
    lock
        Held while the worker lives; the kernel drops it with the process.
    """

    name: str
    folder: Path
    lock: TextIOWrapper

    def announce(self, url: str) -> None:
        """Tell others on this machine where the web pages are."""
        (self.folder / _URL_FILE).write_text(url)


def claim_instance(settings: Settings) -> Instance:
    """Take the first identity in the data folder that no living worker has, or a new one.

    Names are random, so that workers of several machines do not meet in one group; they are kept in the folder.

    Raises
    ------
    ContinuumError
        The name was set, and a living worker on this machine has it.
    """
    workers = settings.datadir / "workers"
    if settings.instance is not None:
        taken = any(worker.name == settings.instance for worker in living_workers(settings.datadir))
        instance = None if taken else _try(workers / settings.instance, settings.instance)
        if instance is None:
            raise ContinuumError(
                f"CONTINUUM_INSTANCE={settings.instance}: a worker of this name is running on {workers};"
                " stop it, or give this one another name"
            )
        return instance
    for number in count(1):
        instance = _try(workers / str(number), None)
        if instance is not None:
            return instance
    raise AssertionError("unreachable")


def _try(folder: Path, name: str | None) -> Instance | None:
    folder.mkdir(parents=True, exist_ok=True)
    lock = (folder / _NAME_FILE).open("a+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return None
    lock.seek(0)
    known = lock.read().strip()
    if name is None:
        name = known or f"worker-{secrets.token_hex(4)}"
    if name != known:
        lock.truncate(0)
        lock.write(name)
        lock.flush()
    (folder / _URL_FILE).unlink(missing_ok=True)
    (folder / _PID_FILE).write_text(str(os.getpid()))
    return Instance(name, folder, lock)


def living_workers(datadir: Path) -> list[LivingWorker]:
    """Find the workers that run on a data folder."""
    workers = []
    for folder in sorted((datadir / "workers").glob("*/")):
        with (folder / _NAME_FILE).open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                url = folder / _URL_FILE
                pid = int((folder / _PID_FILE).read_text())
                workers.append(LivingWorker(pid, lock.read().strip(), url.read_text() if url.exists() else None))
    return workers


def stop_workers(datadir: Path, seconds: float) -> list[str]:
    """Tell the workers of a data folder to stop, and wait until they have; gives their names.

    Raises
    ------
    ContinuumError
        One has not ended well after its deadline.
    """
    workers = living_workers(datadir)
    for worker in workers:
        os.kill(worker.pid, signal.SIGTERM)
    deadline = time.monotonic() + seconds + 5.0
    while left := living_workers(datadir):
        if time.monotonic() > deadline:
            names = ", ".join(f"{worker.name} (pid {worker.pid})" for worker in left)
            raise ContinuumError(f"still running {seconds + 5.0:g} s after SIGTERM: {names}; end them with kill -9")
        time.sleep(0.1)
    return [worker.name for worker in workers]
