"""What the embedded Kafka and Redis have in common: from nothing to healthy, and back."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

import msgspec

from app.services import ports
from app.services.daemon import Daemon
from app.services.errors import ServiceError

if TYPE_CHECKING:
    from pathlib import Path

#: Is told what happens, one line at a time.
Progress = Callable[[str], None]

_POLL_SECONDS = 0.05
_NOTE_SECONDS = 10.0
_ATTEMPTS = 3


class Service(ABC):
    """A server of ours that listens on loopback ports and keeps its data in a folder.

    Parameters
    ----------
    datadir
        The data folder of the application; the service has a folder of its own in it.
    """

    #: Its name for people, and in lower case that of its folder.
    name: ClassVar[str]
    #: The setting that its address is the value of.
    setting: ClassVar[str]
    #: How many ports it listens on; the first is the one clients use.
    port_count: ClassVar[int]
    #: How long it may take to become healthy (after a crash, with much data) and to stop, s.
    start_seconds: ClassVar[float]
    stop_seconds: ClassVar[float]

    def __init__(self, datadir: Path) -> None:
        self.folder = datadir.absolute() / self.name.lower()
        self.daemon = Daemon(self.folder)
        self._ports_file = self.folder / "ports.json"

    @abstractmethod
    def prepare(self, progress: Progress) -> None:
        """Find or fetch the programs; a `ServiceError` says which are missing."""

    @abstractmethod
    def configure(self, numbers: list[int]) -> tuple[list[str], dict[str, str]]:
        """Write what the server reads when it starts; give its command and variables for its environment."""

    @abstractmethod
    def problem(self, port: int) -> str | None:
        """Say why the server is not healthy; None if it answers on `port`, and is ours."""

    @abstractmethod
    def address_at(self, port: int) -> str:
        """Give the value of the setting for a server on `port`."""

    @property
    def address(self) -> str | None:
        """Address of the running server; None where it is not running."""
        return None if self.daemon.pid() is None else self.address_at(self._recorded_ports()[0])

    def start(self, progress: Progress) -> None:
        """Bring the server up, or wait for one that is already coming up; return when it is healthy.

        Ports of the run before are taken again where they are free.

        Raises
        ------
        ServiceError
            It ends, or does not become healthy in time. One that we started is stopped again.
        """
        if (pid := self.daemon.pid()) is not None:
            if reason := self._wait_until_healthy(progress):
                raise ServiceError(
                    f"{self.name} is running (process {pid}), but {reason}; end it with `continuum down`, then try"
                    f" again; {self.daemon.log_tail()}"
                )
            progress(f"{self.name} is running at {self.address}")
            return
        for _ in range(_ATTEMPTS):
            numbers = self._choose_ports(progress)
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            command, environment = self.configure(numbers)
            # Written before the start, so that a server whose starter was killed is still found.
            self._ports_file.write_bytes(msgspec.json.encode(numbers))
            began = time.monotonic()
            progress(f"starting {self.name}")
            self.daemon.start(command, environment)
            reason = self._wait_until_healthy(progress)
            if reason is None:
                progress(f"{self.name} is ready at {self.address} after {time.monotonic() - began:.1f} s")
                return
            self.daemon.stop(self.stop_seconds)
            if all(ports.is_free(number) for number in numbers):
                break
            # Somebody took a port between our choice and the start: try others.
        raise ServiceError(f"{self.name} did not start: {reason}; {self.daemon.log_tail()}")

    def stop(self) -> bool:
        """Stop the server; say whether there was one."""
        return self.daemon.stop(self.stop_seconds)

    def _wait_until_healthy(self, progress: Progress) -> str | None:
        """Wait for it; say what is wrong where it ends or stays silent too long, None where it is healthy."""
        port = self._recorded_ports()[0]
        began = time.monotonic()
        notes = 1
        while self.daemon.pid() is not None:
            reason = self.problem(port)
            if reason is None:
                return None
            waited = time.monotonic() - began
            if waited >= self.start_seconds:
                return f"{reason}; waited {self.start_seconds:g} s"
            if waited >= notes * _NOTE_SECONDS:
                progress(f"still waiting for {self.name}, which writes to {self.daemon.log_file}")
                notes += 1
            time.sleep(_POLL_SECONDS)
        return "it ended"

    def _choose_ports(self, progress: Progress) -> list[int]:
        try:
            numbers = self._recorded_ports()
        except (FileNotFoundError, msgspec.DecodeError):
            return ports.free_ports(self.port_count)
        taken = [number for number in numbers if not ports.is_free(number)]
        if not taken:
            return numbers
        others = ports.free_ports(self.port_count)
        progress(f"{self.name} used port {taken[0]} before, which is taken now: {others[0]} instead")
        return others

    def _recorded_ports(self) -> list[int]:
        return msgspec.json.decode(self._ports_file.read_bytes(), type=list[int])
