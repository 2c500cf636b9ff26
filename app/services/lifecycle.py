"""Starting, finding and stopping the embedded services of a data folder."""

from __future__ import annotations

import fcntl
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec

from app.services.errors import ServiceError
from app.services.kafka import KafkaServer
from app.services.redis import RedisServer
from app.settings import ENDPOINTS_FILE

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from pathlib import Path

    from app.services.service import Progress, Service

#: The settings that embedded services can be the value of.
SETTINGS = (KafkaServer.setting, RedisServer.setting)

_LOCK_FILE = "services.lock"
_MIB = 1 << 20
# Kafka's logs of a demo or a test run, with room to spare.
_FREE_MIB = 512


class Endpoints(msgspec.Struct, frozen=True):
    """Addresses of the embedded services.

    Attributes
    ----------
    kafka_bootstrap
        As in `127.0.0.1:20001`.
    redis_url
        As in `redis://127.0.0.1:20003/0`.
    """

    kafka_bootstrap: str
    redis_url: str


def _silent(_: str) -> None:
    pass


def up(datadir: Path, *, progress: Progress = _silent) -> Endpoints:
    """Start what is not running of Kafka and Redis; return when both are healthy.

    They run on when this process ends, whatever ends it. Their data and ports stay the same from run to run;
    a port that has been taken meanwhile is replaced. Another `up` or `down` on the folder is waited for.
    Blocks, and runs an event loop of its own: from a coroutine, call it in a thread.

    Parameters
    ----------
    datadir
        Data folder; made if there is none.
    progress
        Told what happens, one line at a time.

    Raises
    ------
    ServiceError
        Something is missing (a package, the network, disk space, the right to write), or a service does not
        become healthy; says what to do about it.
    """
    return Endpoints(**start(datadir, SETTINGS, progress=progress))


def start(datadir: Path, settings: Collection[str], *, progress: Progress = _silent) -> dict[str, str]:
    """Do as `up`, with only those services whose settings are named (see `SETTINGS`); give their values."""
    with _locked(datadir, progress):
        services = _services(datadir)
        wanted = [service for service in services if service.setting in settings]
        stopped = [service for service in wanted if service.address is None]
        if stopped:
            # What it says holds no more, and a reader must not meet a service that is still coming up.
            (datadir / ENDPOINTS_FILE).unlink(missing_ok=True)
            _check_free_space(datadir)
        for service in stopped:
            service.prepare(progress)
        for service in wanted:
            service.start(progress)
        running_now = _addresses(services)
        _write_endpoints(datadir, running_now)
        return {setting: running_now[setting] for setting in settings}


def down(datadir: Path, settings: Collection[str] = SETTINGS) -> list[str]:
    """Stop the services of a data folder, and only these; their data stays.

    Parameters
    ----------
    datadir
        Data folder.
    settings
        Stop only the services of these settings (see `SETTINGS`).

    Returns
    -------
    list of str
        Names of those that were running.

    Raises
    ------
    ServiceError
        A service does not end.
    """
    if not datadir.is_dir():
        return []
    with _locked(datadir, _silent):
        services = _services(datadir)
        (datadir / ENDPOINTS_FILE).unlink(missing_ok=True)
        stopped = [service.name for service in services if service.setting in settings and service.stop()]
        if left := _addresses(services):
            _write_endpoints(datadir, left)
        return stopped


def running(datadir: Path) -> Endpoints | None:
    """Give the addresses of the services if both are up, else None. Asks the system, not the services."""
    if not (datadir / ENDPOINTS_FILE).exists():
        return None
    addresses = addresses_of(datadir)
    return Endpoints(**addresses) if len(addresses) == len(SETTINGS) else None


def addresses_of(datadir: Path) -> dict[str, str]:
    """Give the addresses, by setting, of those services of a data folder that run, healthy or not yet."""
    return _addresses(_services(datadir))


def _addresses(services: Iterable[Service]) -> dict[str, str]:
    return {service.setting: address for service in services if (address := service.address)}


def _services(datadir: Path) -> tuple[Service, ...]:
    # In the order of starting: the quick one first, so that what is wrong shows soon.
    return RedisServer(datadir), KafkaServer(datadir)


@contextmanager
def _locked(datadir: Path, progress: Progress) -> Iterator[None]:
    """Hold the data folder's lock; the system releases it when its holder ends, however it ends."""
    try:
        datadir.mkdir(parents=True, exist_ok=True)
        file = (datadir / _LOCK_FILE).open("w")
    except OSError as error:
        raise ServiceError(
            f"cannot write into the data folder {datadir} ({error}): name another in CONTINUUM_DATADIR"
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress(f"waiting for another start or stop in {datadir}")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _check_free_space(datadir: Path) -> None:
    free = shutil.disk_usage(datadir).free // _MIB
    if free < _FREE_MIB:
        raise ServiceError(
            f"only {free} MiB are free in {datadir.absolute()}, and Kafka needs {_FREE_MIB} MiB: make room, or name"
            " a folder on another disk in CONTINUUM_DATADIR"
        )


def _write_endpoints(datadir: Path, addresses: dict[str, str]) -> None:
    target = datadir / ENDPOINTS_FILE
    aside = target.with_suffix(".new")
    aside.write_bytes(msgspec.json.format(msgspec.json.encode(addresses)))
    aside.replace(target)
