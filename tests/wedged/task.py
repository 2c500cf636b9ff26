"""The application, whose agents wait for ever: its event loop goes on, its heartbeats too."""

import asyncio
from typing import Any

from app import app
from app.runtime.tier import Tier

__all__ = ["app"]


async def _wait_for_ever(*_: Any) -> None:
    await asyncio.Event().wait()


Tier.process = _wait_for_ever  # type: ignore[method-assign, assignment]
