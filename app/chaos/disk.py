"""A small disk of a worker's own, which can be made full: a file system in memory, for those who may mount one."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

_SIZE = 4 << 30
_ATTEMPTS, _PAUSE = 50, 0.1


class SmallDisk:
    """A tmpfs; it takes no memory but for what lies on it.

    Parameters
    ----------
    folder
        Where it is mounted; made if it is not there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        _run("mount", "-t", "tmpfs", "-o", f"size={_SIZE},mode=700", "continuum-chaos", str(folder))

    @staticmethod
    def permitted() -> bool:
        """Whether this process may mount one; containers often refuse it, to root too."""
        probe = Path("/proc/self/ns/mnt")
        unshare = shutil.which("unshare")
        if os.geteuid() or unshare is None or not probe.exists():
            return False
        command = [unshare, "--mount", "mount", "-t", "tmpfs", "none", "/mnt"]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0  # noqa: S603 - our own words

    def fill(self) -> None:
        """Leave no room: the disk shrinks to what lies on it."""
        # What is written between the question and the answer makes it fail.
        for _ in range(_ATTEMPTS):
            if self._resize(shutil.disk_usage(self.folder).used):
                return

    def free(self) -> None:
        """Give the room back."""
        self._resize(_SIZE)

    def close(self) -> None:
        """Unmount it; what lay on it is gone."""
        for _ in range(_ATTEMPTS):
            if _try("umount", str(self.folder)):
                return
            time.sleep(_PAUSE)
        _run("umount", "--lazy", str(self.folder))

    def _resize(self, size: int) -> bool:
        return _try("mount", "-o", f"remount,size={size}", str(self.folder))


def _try(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0  # noqa: S603 - our own words


def _run(*command: str) -> None:
    subprocess.run(command, capture_output=True, check=True)  # noqa: S603 - our own words
