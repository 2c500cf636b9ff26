"""A Kafka of its own is stopped, moved, killed, and left alone by its starter; its topics and messages stay."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from app.services import Endpoints, down, ports, running, start, up
from app.services.kafka import KafkaServer
from app.services.redis import RedisServer

PARTITIONS = 100


@pytest.fixture(scope="module")
def datadir(tmp_path_factory: pytest.TempPathFactory, stopped_at_end: Callable[[Path], Path]) -> Iterator[Path]:
    folder = stopped_at_end(tmp_path_factory.mktemp("kafka"))
    yield folder
    down(folder)


def pids(datadir: Path) -> list[int | None]:
    return [KafkaServer(datadir).daemon.pid(), RedisServer(datadir).daemon.pid()]


def create_topic(bootstrap: str) -> None:
    async def create() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
        await admin.start()
        try:
            await admin.create_topics([NewTopic("kept", PARTITIONS, 1)])
        finally:
            await admin.close()

    asyncio.run(create())


def send(bootstrap: str, value: bytes) -> None:
    async def send_one() -> None:
        async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all") as producer:
            await producer.send_and_wait("kept", value, key=b"sensor", partition=7)

    asyncio.run(send_one())


def received(bootstrap: str) -> list[bytes]:
    async def receive() -> list[bytes]:
        async with AIOKafkaConsumer(bootstrap_servers=bootstrap) as consumer:
            partition = TopicPartition("kept", 7)
            consumer.assign([partition])
            end = (await consumer.end_offsets([partition]))[partition]
            consumer.seek(partition, 0)
            records = [await consumer.getone() for _ in range(end)]
            assert len(await _partitions(consumer)) == PARTITIONS
            return [record.value for record in records if record.key == b"sensor"]

    return asyncio.run(receive())


async def _partitions(consumer: Any) -> set[int]:
    await consumer.topics()  # asks for all of them
    return set(consumer.partitions_for_topic("kept"))


def test_both_come_up_once_and_stop(datadir: Path) -> None:
    endpoints = up(datadir)
    first = pids(datadir)
    assert up(datadir) == endpoints == running(datadir)
    assert pids(datadir) == first
    assert down(datadir) == ["Redis", "Kafka"]
    assert pids(datadir) == [None, None]
    assert running(datadir) is None


def test_its_data_stays_through_a_move_and_a_crash(datadir: Path) -> None:
    endpoints = up(datadir)
    create_topic(endpoints.kafka_bootstrap)
    send(endpoints.kafka_bootstrap, b"before the move")

    down(datadir)
    host, port = endpoints.kafka_bootstrap.split(":")
    with socket.create_server((host, int(port))):
        moved = up(datadir)
        assert moved.kafka_bootstrap != endpoints.kafka_bootstrap
        assert moved.redis_url == endpoints.redis_url
        send(moved.kafka_bootstrap, b"before the crash")

    process = psutil.Process(KafkaServer(datadir).daemon.pid())
    process.kill()
    process.wait(10)
    assert running(datadir) is None
    assert up(datadir) == moved
    assert received(moved.kafka_bootstrap) == [b"before the move", b"before the crash"]


def test_a_start_whose_starter_is_killed_is_taken_up(datadir: Path) -> None:
    down(datadir)
    starter = subprocess.Popen(
        [Path(sys.executable).with_name("continuum"), "up"],
        env={**os.environ, "CONTINUUM_DATADIR": str(datadir)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        process_group=0,
        text=True,
    )
    assert starter.stderr is not None
    for line in starter.stderr:
        if line.startswith("starting Kafka"):
            break
    while (kafka := KafkaServer(datadir).daemon.pid()) is None:
        assert starter.poll() is None
    os.killpg(starter.pid, signal.SIGKILL)
    starter.communicate()
    assert running(datadir) is None  # nobody has said that it is healthy
    up(datadir)
    assert KafkaServer(datadir).daemon.pid() == kafka


def test_it_listens_on_loopback_alone(datadir: Path) -> None:
    up(datadir)
    for pid in pids(datadir):
        listening = [one for one in psutil.Process(pid).net_connections() if one.status == psutil.CONN_LISTEN]
        assert listening
        # Java shows IPv4 addresses as IPv6 ones.
        assert {one.laddr.ip.removeprefix("::ffff:") for one in listening} == {ports.LOOPBACK}


def test_another_kafka_on_its_port_does_not_pass_for_ours(datadir: Path, services: Endpoints) -> None:
    start(datadir, ["kafka_bootstrap"])
    reason = KafkaServer(datadir).problem(int(services.kafka_bootstrap.rpartition(":")[2]))
    assert reason is not None
    assert "another Kafka" in reason
