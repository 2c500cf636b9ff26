"""Doing what the plan says: signals, deleted folders, full disks, broken connections, dead brokers."""

from __future__ import annotations

import asyncio
import shutil
import signal

from app.chaos.fleet import Fleet, Slot
from app.chaos.kafka_cluster import KafkaCluster
from app.chaos.plan import Fault
from app.chaos.proxy import Condition, Network
from app.chaos.redis_cluster import RedisCluster
from app.chaos.surroundings import Surroundings
from app.redis_client import redis_client

_LIVE_WIPE_SECONDS = 2.0
"""How long a worker goes on without its folder before it is killed."""


class Faults:
    """Injects faults into workers and what they live among.

    Parameters
    ----------
    fleet, surroundings
        What fails.
    """

    def __init__(self, fleet: Fleet, surroundings: Surroundings) -> None:
        self._fleet = fleet
        self._surroundings = surroundings
        # Two brokers of three at a time are more than any replica survives.
        self._broker = asyncio.Lock()
        self._redis = asyncio.Lock()

    async def inject(self, fault: Fault) -> None:  # noqa: C901, PLR0912 - a case for each kind
        """Make a fault happen; returns when it is over and what it took away is back."""
        around = self._surroundings
        slot = self._fleet.slots[min(fault.target, len(self._fleet.slots)) - 1]
        match fault.kind:
            case "kill":
                await self._kill(slot, fault.seconds)
            case "term":
                async with slot.busy:
                    await slot.end(signal.SIGTERM)
            case "pause":
                await self._pause(slot, fault.seconds)
            case "join":
                async with slot.busy:
                    slot.start()
                    await slot.ready()
            case "leave":
                async with slot.busy:
                    await slot.end(signal.SIGTERM, again=False)
            case "wipe":
                async with slot.busy, slot.down():
                    await _wipe(slot)
            case "wipe-live":
                async with slot.busy:
                    await slot.living()
                    await _wipe(slot)
                    await asyncio.sleep(_LIVE_WIPE_SECONDS)
                    await slot.end(signal.SIGKILL)
            case "disk-full":
                await self._fill_disk(slot, fault.seconds)
            case "cut" if around.network is not None:
                await self._break(around.network, slot, "refused", fault.seconds)
            case "stall" if around.network is not None:
                await self._break(around.network, slot, "stalled", fault.seconds)
            case "broker" if around.kafka is not None:
                await self._lose_broker(around.kafka, fault)
            case "redis-kill" if around.redis is not None:
                await self._lose_redis(around.redis, fault)
            case "redis-pause" if around.redis is not None:
                await self._stop_redis(around.redis, fault)
            case "redis-flush":
                async with self._redis:
                    await self._flush()

    async def _kill(self, slot: Slot, seconds: float) -> None:
        if not seconds:
            await slot.end(signal.SIGKILL)
            return
        async with slot.busy, slot.down():
            await asyncio.sleep(seconds)

    async def _pause(self, slot: Slot, seconds: float) -> None:
        async with slot.busy:
            worker = await slot.living()
            worker.signal(signal.SIGSTOP)
            try:
                await asyncio.sleep(seconds)
            finally:
                worker.signal(signal.SIGCONT)

    async def _fill_disk(self, slot: Slot, seconds: float) -> None:
        disk = self._surroundings.disks[slot.number]
        async with slot.busy:
            await asyncio.to_thread(disk.fill)
            try:
                await asyncio.sleep(seconds)
            finally:
                await asyncio.to_thread(disk.free)

    async def _break(self, network: Network, slot: Slot, condition: Condition, seconds: float) -> None:
        async with slot.busy:
            network.set(slot.number - 1, condition)
            try:
                await asyncio.sleep(seconds)
            finally:
                network.set(slot.number - 1, "open")

    async def _lose_broker(self, kafka: KafkaCluster, fault: Fault) -> None:
        async with self._broker:
            await asyncio.to_thread(kafka.wait_in_sync)
            await asyncio.to_thread(kafka.kill, fault.target)
            await asyncio.sleep(fault.seconds)
            await asyncio.to_thread(kafka.restart, fault.target)
            await asyncio.to_thread(kafka.wait_in_sync)

    async def _lose_redis(self, redis: RedisCluster, fault: Fault) -> None:
        async with self._redis:
            masters = await asyncio.to_thread(redis.masters)
            number = await asyncio.to_thread(redis.kill_master, fault.target % len(masters))
            await asyncio.sleep(fault.seconds)
            await asyncio.to_thread(redis.restart, number)
            await asyncio.to_thread(redis.wait_until_whole)

    async def _stop_redis(self, redis: RedisCluster, fault: Fault) -> None:
        async with self._redis:
            masters = await asyncio.to_thread(redis.masters)
            number = masters[fault.target % len(masters)]
            redis.signal(number, signal.SIGSTOP)
            try:
                await asyncio.sleep(fault.seconds)
            finally:
                redis.signal(number, signal.SIGCONT)
            await asyncio.to_thread(redis.wait_until_whole)

    async def _flush(self) -> None:
        client = redis_client(self._surroundings.settings)
        try:
            await client.flushall()
        finally:
            await client.aclose()


async def _wipe(slot: Slot) -> None:
    """Delete what a worker keeps; a living one may write into the folder meanwhile."""
    await asyncio.to_thread(shutil.rmtree, slot.settings.datadir / "workers", ignore_errors=True)
