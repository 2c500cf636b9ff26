"""The rt agent: ECG and audio, always on, state in memory."""

from typing import Any

from faust.types import StreamT

from app import app
from app.faust_app import QUEUED_BATCHES
from app.runtime.tier import Tier
from tables.rt import rt_state

tier = Tier(app, "rt", rt_state)
topic = app.topic(tier.topic, key_type=bytes, value_type=bytes, value_serializer="raw", maxsize=QUEUED_BATCHES)


@app.agent(topic, name="rt")
async def rt(stream: StreamT[Any]) -> None:
    """Consume partition batches of `rt-sensors`."""
    await tier.consume(stream)
