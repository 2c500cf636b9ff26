"""The on-demand function, served beside Kafka, as a process of its own."""

from __future__ import annotations

from pathlib import Path

import msgspec

from app.own_process import OwnProcess
from app.settings import Settings


class _Line(msgspec.Struct):
    """The part of a line of its figures that matters here."""

    partitions: list[int]


_lines = msgspec.json.Decoder(_Line)


class FunctionProcess(OwnProcess):
    """A process that serves the function for the settings' tiers.

    Parameters
    ----------
    settings
        Its settings.
    log
        File that its output is appended to.
    """

    kind = "function"

    def __init__(self, settings: Settings, log: Path) -> None:
        served = ["--tiers", ",".join(settings.tiers), "--window", "0", "--json"]
        super().__init__(["app", "function", "serve", *served], settings, log)

    async def _is_ready(self) -> bool:
        whole, _, _ = self.log.read_bytes()[self._log_start :].rpartition(b"\n")
        figures = [_lines.decode(line) for line in whole.splitlines() if line.startswith(b"{")]
        return bool(figures) and bool(figures[-1].partitions)
