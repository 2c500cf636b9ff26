"""Wait for the first feature record of a sensor, and print it: what a reader of the manual would look at."""

from __future__ import annotations

import asyncio
import json
import sys
import time

from aiokafka import AIOKafkaConsumer

from app.kafka_client import client_options, started
from app.settings import load_settings


async def main(sensor_id: str) -> None:
    settings = load_settings()
    consumer = AIOKafkaConsumer("ecg-features", **client_options(settings), auto_offset_reset="earliest")
    async with started(consumer, settings):
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            for records in (await consumer.getmany(timeout_ms=500)).values():
                for record in records:
                    if json.loads(record.value)["sensorId"] == sensor_id:
                        print(record.value.decode())
                        return
    sys.exit(f"no record of {sensor_id}")


asyncio.run(main(sys.argv[1]))
