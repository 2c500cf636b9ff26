"""The conditions of a measurement: machine, versions, services, commit and what else matters to a suite."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

LIBRARIES = (
    "faust-streaming",
    "aiokafka",
    "redis",
    "numpy",
    "scipy",
    "msgspec",
    "rocksdict",
    "numba",
)


class Service(msgspec.Struct):
    """A server that took part.

    Attributes
    ----------
    version
        As it says itself, or as our own start of it does.
    place
        Where it runs, as in `embedded, 127.0.0.1:20001`.
    """

    version: str
    place: str


class Conditions(msgspec.Struct):
    """The conditions of a measurement.

    Attributes
    ----------
    measured_at
        When it began, ISO 8601 in UTC.
    cpu
        Model.
    cores
        That this process may use.
    load
        Average of the minute before.
    python
        Version and system.
    libraries
        Versions; None where one is not installed.
    commit
        Of the source; `unknown` where that is not a checkout.
    services
        Kafka and Redis, where the suite used them.
    settings
        Those in force that matter to it.
    remarks
        What else the figures depend on.
    """

    measured_at: str
    cpu: str
    cores: int
    load: float
    python: str
    libraries: dict[str, str | None]
    commit: str
    services: dict[str, Service] = {}
    settings: dict[str, str | int | float | bool | None] = {}
    remarks: dict[str, str] = {}

    def lines(self) -> dict[str, str]:
        """Give them as names and texts, for people."""
        lines = {
            "cpu": f"{self.cpu}, {self.cores} cores, load {self.load:.1f}",
            "python": self.python,
            "libraries": ", ".join(f"{name} {found or 'none'}" for name, found in self.libraries.items()),
            "commit": self.commit,
        }
        lines |= {name: f"{own.version}, {own.place}" for name, own in self.services.items()}
        if self.settings:
            lines["settings"] = ", ".join(f"{name} {value}" for name, value in self.settings.items())
        return lines | self.remarks

    def differences(self, other: Conditions) -> list[str]:
        """Say where others are not the same; time, load and commit hardly ever are, and do not count."""
        mine, theirs = self._compared(), other._compared()
        return [
            f"{name}: {theirs.get(name)} then, {mine.get(name)} now"
            for name in dict.fromkeys([*mine, *theirs])
            if mine.get(name) != theirs.get(name)
        ]

    def _compared(self) -> dict[str, object]:
        # Ports of embedded services differ from run to run and mean nothing.
        services = {name: f"{own.version}, {own.place.partition(' at ')[0]}" for name, own in self.services.items()}
        own = {"cpu": self.cpu, "cores": self.cores, "python": self.python}
        return {**own, **self.libraries, **services, **self.settings, **self.remarks}


def conditions() -> Conditions:
    """Machine, versions and commit, as they are now."""
    return Conditions(
        time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        _cpu(),
        len(os.sched_getaffinity(0)),
        round(os.getloadavg()[0], 2),
        f"{platform.python_version()} on {platform.system()} {platform.release()}",
        {name: _installed(name) for name in LIBRARIES},
        _commit(),
    )


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def _commit() -> str:
    describe = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        found = subprocess.run(describe, capture_output=True, text=True, check=True)  # noqa: S603 - our own words
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return found.stdout.strip()
