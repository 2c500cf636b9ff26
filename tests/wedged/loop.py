"""The application, whose event loop hangs in its first batch: only other threads go on."""

import time
from typing import Any

from app import app
from app.runtime.tier import Tier

__all__ = ["app"]


async def _hang(*_: Any) -> None:
    while True:
        time.sleep(1)  # noqa: ASYNC251 - the fault


Tier.process = _hang  # type: ignore[method-assign, assignment]
