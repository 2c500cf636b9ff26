"""A real MQTT broker: the system's mosquitto, or Debian's, unpacked for this user."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

#: Debian's packages of the broker, and of those of its libraries that a plain system lacks.
_PACKAGES = ["mosquitto", "libmosquitto1", "libcjson1", "libdlt2", "libwrap0", "libwebsockets17"]


def mosquitto_command() -> tuple[list[str], dict[str, str]]:
    """Give the command of a mosquitto and the environment that it needs; skips the test where none can be had."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
    if found := shutil.which("mosquitto", path=path):
        return [found], {}
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        pytest.skip("MQTT IS NOT TESTED: there is no mosquitto in PATH, and no apt-get to fetch Debian's with")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "continuum-tests"
    cache.mkdir(parents=True, exist_ok=True)
    root = cache / "mosquitto"
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (root / "usr/sbin/mosquitto").exists():
            _unpack(cache, root)
    libraries = next((root / "usr/lib").glob("*-linux-gnu*"))
    return [str(root / "usr/sbin/mosquitto")], {"LD_LIBRARY_PATH": str(libraries)}


def _unpack(cache: Path, root: Path) -> None:
    downloads, unpacked = cache / "downloads", cache / "unpacked"
    for folder in (downloads, unpacked):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    for package in _PACKAGES:
        done = subprocess.run(
            ["apt-get", "download", package], cwd=downloads, capture_output=True, text=True, check=False
        )
        # Another release of Debian has other libraries; whether the broker runs is what counts.
        if done.returncode and package == "mosquitto":
            pytest.skip(
                f"MQTT IS NOT TESTED: no mosquitto in PATH, and apt-get cannot fetch it: {done.stderr[-300:]!r}"
            )
    for archive in downloads.glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", archive, unpacked], check=True)
    unpacked.replace(root)
    shutil.rmtree(downloads)


class Mosquitto:
    """A broker on this machine, with its data in a folder; it may be killed and started again.

    Parameters
    ----------
    folder
        Of its settings, data and log.
    settings
        More lines for its configuration.
    """

    def __init__(self, folder: Path, *settings: str) -> None:
        self._command, self._environment = mosquitto_command()
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = int(free.getsockname()[1])
        folder.mkdir()
        self._folder = folder
        lines = [
            f"listener {self.port} 127.0.0.1",
            "persistence true",
            f"persistence_location {folder}/",
            "autosave_on_changes true",
            "autosave_interval 1",
            "max_queued_messages 0",
            *(settings or ("allow_anonymous true",)),
        ]
        if os.getuid() == 0:
            lines.append("user root")
        (folder / "mosquitto.conf").write_text("\n".join(lines) + "\n")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self._command, "-c", self._folder / "mosquitto.conf"],
                env={**os.environ, **self._environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                assert self._process.poll() is None and time.monotonic() < deadline, self.log()  # noqa: PT018
                time.sleep(0.05)
            else:
                return

    def stop(self) -> None:
        """End it; it saves what it holds."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def log(self) -> str:
        return (self._folder / "log").read_text()
