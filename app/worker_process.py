"""A worker as a process of its own."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import aiohttp
import msgspec

from app.own_process import OwnProcess
from app.runtime.instance import living_workers
from app.settings import Settings
from app.web.status import WorkerStatus


class WorkerProcess(OwnProcess):
    """A worker process.

    Parameters
    ----------
    settings
        Its settings.
    log
        File that its output is appended to.
    """

    kind = "worker"
    application: ClassVar[str] = "app"
    """What Faust runs."""

    def __init__(self, settings: Settings, log: Path) -> None:
        self.url: str | None = None
        """Of its web pages, once they are served."""
        self._datadir = settings.datadir
        super().__init__(["faust", "-A", self.application, "worker", "-l", "info"], settings, log)

    async def _is_ready(self) -> bool:
        self.url = next((own.url for own in living_workers(self._datadir) if own.pid == self.process.pid), None)
        if self.url is None:
            return False
        try:
            async with aiohttp.ClientSession() as session, session.get(f"{self.url}/readyz") as response:
                return response.status == 200
        except aiohttp.ClientError:
            return False

    async def status(self) -> WorkerStatus:
        """Ask for its figures."""
        async with aiohttp.ClientSession() as session, session.get(f"{self.url}/v1/status") as response:
            return msgspec.json.decode(await response.read(), type=WorkerStatus)
