"""A stock Faust agent that waits for ever."""

import asyncio
import os
from pathlib import Path
from typing import Any

import faust

KAFKA, PREFIX, DATADIR = (os.environ[f"STOCK_{name}"] for name in ("KAFKA", "PREFIX", "DATADIR"))

app = faust.App(
    f"{PREFIX}stock",
    broker=f"kafka://{KAFKA}",
    datadir=Path(DATADIR),
    topic_disable_leader=True,
    broker_commit_livelock_soft_timeout=1.0,
    stream_processing_timeout=1.0,
)


@app.agent(app.topic(f"{PREFIX}rt-sensors", value_serializer="raw"))
async def wait_for_ever(stream: Any) -> None:
    async for _ in stream:
        print("wedged", flush=True)
        await asyncio.Event().wait()
