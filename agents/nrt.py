"""The nrt agent: wearables, warm, state in memory."""

from typing import Any

from faust.types import StreamT

from app import app
from app.faust_app import QUEUED_BATCHES
from app.runtime.tier import Tier
from tables.nrt import nrt_state

tier = Tier(app, "nrt", nrt_state)
topic = app.topic(tier.topic, key_type=bytes, value_type=bytes, value_serializer="raw", maxsize=QUEUED_BATCHES)


@app.agent(topic, name="nrt")
async def nrt(stream: StreamT[Any]) -> None:
    """Consume partition batches of `nrt-sensors`."""
    await tier.consume(stream)
