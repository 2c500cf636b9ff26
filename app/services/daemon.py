"""A program that runs on by itself in a folder of its own, and is found there again.

The folder holds the program's process id, its output and its data. The process id is written by the process
itself before it becomes the program, so that a daemon can always be found, wherever its starter was killed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any

from app.services.errors import ServiceError, missing_package

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_POLL_SECONDS = 0.02
_LOOKS = 5
_KILL = (signal.SIGKILL, 10.0)
# `exec` keeps the process id that the shell has just written.
# Kafka keeps files open for each partition, and many systems allow few unless asked.
_WRITE_PID_THEN_RUN = '{ ulimit -n 100000 || ulimit -S -n "$(ulimit -H -n)"; } 2>/dev/null; echo $$ >"$0" && exec "$@"'


class Daemon:
    """One daemon, identified by its folder.

    Parameters
    ----------
    folder
        Working folder of the program: its id (`pid`), output (`log`, and `log.old` of the run before) and
        data lie in it. Only one daemon may use it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log_file = folder / "log"
        self._pid_file = folder / "pid"

    def pid(self) -> int | None:
        """Process id of the daemon; None where it is not running.

        A process id alone proves nothing: after a crash or a reboot another process may have it. So the process
        must also work in our folder, which unlike a start time does not depend on the clock.
        """
        try:
            pid = int(self._pid_file.read_text())
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return None
        psutil = _psutil()
        for _ in range(_LOOKS):
            try:
                return pid if self.folder.samefile(psutil.Process(pid).cwd()) else None
            except (psutil.Error, OSError):
                if not psutil.pid_exists(pid):
                    return None
                # While a process turns into another program, the system does not say where it works.
                time.sleep(_POLL_SECONDS)
        return None

    def start(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start the program in a session of its own, so that neither Ctrl-C nor our end takes it along.

        Returns when the process runs or has ended already; `pid` tells which.

        Parameters
        ----------
        command
            Program and arguments.
        environment
            Variables to add to those of this process.
        """
        self._pid_file.unlink(missing_ok=True)
        if self.log_file.exists():
            self.log_file.replace(self.log_file.with_suffix(".old"))
        with self.log_file.open("wb") as log:
            process = subprocess.Popen(  # noqa: S603 - the command is ours
                ["/bin/sh", "-c", _WRITE_PID_THEN_RUN, self._pid_file.name, *command],
                cwd=self.folder,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        # As long as we live the daemon is our child, and would stay behind as a zombie when it ends.
        reaper = threading.Thread(target=process.wait, name=f"reap-{process.pid}", daemon=True)
        reaper.start()
        try:
            while self.pid() is None and reaper.is_alive():
                time.sleep(_POLL_SECONDS)
        except BaseException:
            # Interrupted before it has written its id: nobody else could find it.
            os.killpg(process.pid, signal.SIGKILL)
            raise

    def stop(self, grace: float) -> bool:
        """Ask the daemon to end; kill it where it has not after `grace` seconds.

        Returns
        -------
        bool
            Whether there was one to stop.

        Raises
        ------
        ServiceError
            Not even killing ended it.
        """
        return self._end((signal.SIGTERM, grace), _KILL)

    def kill(self) -> bool:
        """End the daemon at once, without a chance to tidy up; as for `stop` otherwise."""
        return self._end(_KILL)

    def _end(self, *attempts: tuple[signal.Signals, float]) -> bool:
        pid = self.pid()
        if pid is None:
            return False
        for number, seconds in attempts:
            try:
                # The whole group: helpers of the program must not outlive it.
                os.killpg(pid, number)
            except ProcessLookupError:
                return True
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline:
                if self.pid() is None:
                    return True
                time.sleep(_POLL_SECONDS)
        raise ServiceError(f"process {pid} in {self.folder} does not end, not even when killed: is its disk stuck?")

    def log_tail(self, lines: int = 15) -> str:
        """Give the last lines of the program's output, and say where the rest is."""
        try:
            text = self.log_file.read_text(errors="replace")
        except FileNotFoundError:
            return f"there is no log at {self.log_file}"
        tail = "\n".join(f"  {line}" for line in text.splitlines()[-lines:])
        return f"the last lines of {self.log_file}:\n{tail}" if tail else f"{self.log_file} is empty"


def _psutil() -> Any:
    # Part of the `embedded` extra, so absent from a production image, which imports this module all the same.
    try:
        import psutil  # type: ignore[import-untyped]  # noqa: PLC0415
    except ImportError:
        raise missing_package("psutil") from None
    return psutil
