"""The `continuum` command as typed, with a system's settings; in a thread, as a process of its own takes a second."""

from __future__ import annotations

import asyncio
import io
import os
from typing import NamedTuple
from unittest.mock import patch

import msgspec

from app.cli import main
from app.settings import Settings, as_environment


class Done(NamedTuple):
    code: int
    out: bytes
    notes: str

    @property
    def json(self):
        return msgspec.json.decode(self.out)


async def continuum(settings: Settings, *arguments: str, stdin: bytes = b"") -> Done:
    """Run a command to its end; its output goes to a pipe of 200 columns."""
    return await asyncio.to_thread(_run, settings, arguments, stdin)


def _run(settings: Settings, arguments: tuple[str, ...], stdin: bytes) -> Done:
    streams = [io.TextIOWrapper(io.BytesIO(given), encoding="utf-8", write_through=True) for given in (stdin, b"", b"")]
    with (
        patch("sys.argv", ["continuum", *arguments]),
        patch("sys.stdin", streams[0]),
        patch("sys.stdout", streams[1]),
        patch("sys.stderr", streams[2]),
        patch.dict(os.environ, {**as_environment(settings), "COLUMNS": "200"}),
    ):
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
    out, err = (stream.buffer.getvalue() for stream in streams[1:])  # type: ignore[attr-defined]
    return Done(code, out, " ".join(err.decode().split()))
