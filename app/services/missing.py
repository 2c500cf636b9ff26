"""Embedded services in place of those that the settings do not name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.services.lifecycle import SETTINGS, addresses_of, down, start
from app.services.service import Progress
from app.settings import PREFIX, Settings


def given_addresses() -> list[str]:
    """Name the settings of services (see `SETTINGS`) that the environment itself gives."""
    # Unlike `load_settings`, this does not know what an earlier `up` left behind.
    given = Settings.model_validate({})
    return [setting for setting in SETTINGS if getattr(given, setting) is not None]


def start_missing(datadir: Path, *, progress: Progress) -> dict[str, str]:
    """Start those services whose addresses nobody gave, as far as they do not run.

    Returns
    -------
    The addresses of the embedded services, by setting; empty if all are given.
    """
    given = given_addresses()
    for setting in given:
        progress(f"{PREFIX}{setting.upper()} is set: that server is used, and none started in its place")
    wanted = [setting for setting in SETTINGS if setting not in given]
    return start(datadir, wanted, progress=progress) if wanted else {}


@contextmanager
def temporary_services(datadir: Path, *, keep: bool = False, progress: Progress) -> Iterator[None]:
    """Do as `start_missing`, for the time of a `with` block: what did not run before is stopped, however it ends.

    Parameters
    ----------
    datadir
        Data folder.
    keep
        Leave them running.
    progress
        Told what happens, one line at a time.
    """
    ran_before = addresses_of(datadir)
    try:
        start_missing(datadir, progress=progress)
        yield
    finally:
        # Asked now, as a start that failed or was interrupted has not said what it had started.
        if not keep and (stopped := down(datadir, [name for name in SETTINGS if name not in ran_before])):
            progress(f"stopped {' and '.join(stopped)}")
