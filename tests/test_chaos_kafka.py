"""Three Kafka nodes lose one, take every message all the same, and have it back with all its replicas."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from app.chaos.kafka_cluster import NODES, KafkaCluster
from app.services.kafka import describe_cluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

PARTITIONS = 12


async def test_a_node_is_lost_and_comes_back(tmp_path: Path, stopped_at_end: Callable[[Path], Path]) -> None:
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    cluster = KafkaCluster(stopped_at_end(tmp_path))
    try:
        await asyncio.to_thread(cluster.start, print)
        await create_topic(cluster)
        producer = AIOKafkaProducer(bootstrap_servers=cluster.bootstrap, acks="all", enable_idempotence=True)
        async with producer:
            for number in range(1, NODES + 1):
                await asyncio.to_thread(cluster.kill, number)
                await asyncio.gather(*[producer.send_and_wait("t", b"x", partition=one) for one in range(PARTITIONS)])
                await asyncio.to_thread(cluster.restart, number)
                await asyncio.to_thread(cluster.wait_in_sync)
                _, brokers = await describe_cluster(cluster.bootstrap)
                assert brokers == {1, 2, 3}
            last = [await producer.send_and_wait("t", b"x", partition=one) for one in range(PARTITIONS)]
            assert [sent.offset for sent in last] == [NODES] * PARTITIONS, "each message is there, and once"
    finally:
        await asyncio.to_thread(cluster.stop)


async def create_topic(cluster: KafkaCluster) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=cluster.bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic("t", PARTITIONS, NODES)])
    finally:
        await admin.close()
