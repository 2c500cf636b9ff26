"""A worker's name and folder, the same again when it is restarted."""

from __future__ import annotations

import fcntl
import os
import secrets
import signal
import struct
import time
from contextlib import suppress
from dataclasses import dataclass
from io import TextIOWrapper
from itertools import count
from pathlib import Path
from typing import Literal, NamedTuple

from app.errors import ContinuumError
from app.settings import Settings

_NAME_FILE, _URL_FILE = "instance", "url"

# Linux's `struct flock` on 64 bits: type, whence, start, length, process id.
_FLOCK = struct.Struct("@hhqqi0q")


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
        Held while the worker lives; the kernel drops it with the process, and names the process to who asks. It
        would also drop it where this process opens and closes the file once more.
    """

    name: str
    folder: Path
    lock: TextIOWrapper

    def announce(self, url: str) -> None:
        """Tell others on this machine where the web pages are."""
        # With the process id, so that nobody takes it for a later worker's.
        (self.folder / _URL_FILE).write_text(f"{os.getpid()} {url}")


def claim_instance(settings: Settings, kind: Literal["worker", "function"] = "worker") -> Instance:
    """Take the first identity in the data folder that no living worker has, or a new one.

    Names are random, so that workers of several machines do not meet in one group; they are kept in the folder. The
    settings may name a worker; functions have identities of their own.

    Raises
    ------
    ContinuumError
        The name was set, and a living worker on this machine has it.
    """
    workers = settings.datadir / "workers"
    if kind == "worker" and settings.instance is not None:
        taken = any(worker.name == settings.instance for worker in living_workers(settings.datadir))
        instance = None if taken else _try(workers / settings.instance, settings.instance, kind)
        if instance is None:
            raise ContinuumError(
                f"CONTINUUM_INSTANCE={settings.instance}: a worker of this name is running on {workers};"
                " stop it, or give this one another name"
            )
        return instance
    for number in count(1):
        instance = _try(workers / (str(number) if kind == "worker" else f"{kind}-{number}"), None, kind)
        if instance is not None:
            return instance
    raise AssertionError("unreachable")


def _try(folder: Path, name: str | None, kind: str) -> Instance | None:
    folder.mkdir(parents=True, exist_ok=True)
    lock = (folder / _NAME_FILE).open("a+")
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # POSIX leaves the choice
        lock.close()
        return None
    lock.seek(0)
    known = lock.read().strip()
    if name is None:
        name = known or f"{kind}-{secrets.token_hex(4)}"
    if name != known:
        lock.truncate(0)
        lock.write(name)
        lock.flush()
    (folder / _URL_FILE).unlink(missing_ok=True)
    return Instance(name, folder, lock)


def living_workers(datadir: Path) -> list[LivingWorker]:
    """Find the workers that run on a data folder; one that has only begun to start goes by its folder's name."""
    workers = []
    for folder in sorted((datadir / "workers").glob("*/")):
        # A folder without the file is no worker's.
        with suppress(FileNotFoundError), (folder / _NAME_FILE).open() as file:
            holder = _lock_holder(file)
            if holder is not None:
                workers.append(LivingWorker(holder, file.read().strip() or folder.name, _url(folder, holder)))
    return workers


def _lock_holder(file: TextIOWrapper) -> int | None:
    """Ask the kernel which process has locked a file, without locking it; None if none has."""
    question = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    kind, _, _, _, pid = _FLOCK.unpack(fcntl.fcntl(file, fcntl.F_GETLK, question))
    return None if kind == fcntl.F_UNLCK else pid


def _url(folder: Path, holder: int) -> str | None:
    with suppress(FileNotFoundError):
        pid, _, url = (folder / _URL_FILE).read_text().partition(" ")
        return url if pid == str(holder) else None
    return None


def stop_workers(datadir: Path, seconds: float) -> list[str]:
    """Tell the workers of a data folder to stop, and wait until they have; gives their names.

    Raises
    ------
    ContinuumError
        One has not ended well after its deadline, or is not ours to stop.
    """
    workers = living_workers(datadir)
    # The kernel knows the processes of other containers and machines, but not by an id that means one here.
    if elsewhere := [worker.name for worker in workers if worker.pid <= 0]:
        raise ContinuumError(
            f"{', '.join(elsewhere)}: running on {datadir / 'workers'} in another container or on another machine;"
            " stop each there"
        )
    for worker in workers:
        with suppress(ProcessLookupError):
            os.kill(worker.pid, signal.SIGTERM)
    deadline = time.monotonic() + seconds + 5.0
    while left := living_workers(datadir):
        if time.monotonic() > deadline:
            names = ", ".join(f"{worker.name} (pid {worker.pid})" for worker in left)
            raise ContinuumError(f"still running {seconds + 5.0:g} s after SIGTERM: {names}; end them with kill -9")
        time.sleep(0.1)
    return [worker.name for worker in workers]
