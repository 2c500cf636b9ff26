"""The batch agent: reports, a block of a sensor every so often, state at rest in between."""

from typing import Any

from faust.types import StreamT

from app import app
from app.faust_app import QUEUED_BATCHES
from app.runtime.tier import Tier
from tables.batch import batch_state

tier = Tier(app, "batch", batch_state)
topic = app.topic(tier.topic, key_type=bytes, value_type=bytes, value_serializer="raw", maxsize=QUEUED_BATCHES)


@app.agent(topic, name="batch")
async def batch(stream: StreamT[Any]) -> None:
    """Consume partition batches of `batch-sensors`."""
    await tier.consume(stream)
