"""Three embedded Kafka nodes, each broker and controller in one: what survives the loss of one of them."""

from __future__ import annotations

import asyncio
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from app.services.daemon import Daemon
from app.services.errors import ServiceError
from app.services.kafka import (
    CONFIG_FILE,
    LOG_DIR,
    class_path,
    describe_cluster,
    new_cluster_id,
    node_command,
    node_environment,
)
from app.services.ports import LOOPBACK, free_ports
from app.services.service import Progress

NODES = 3
START_SECONDS = 120.0
SYNC_SECONDS = 90.0
_POLL_SECONDS = 0.2

# Listeners beside CLIENTS are the entrances: each advertises the port of a proxy in front of it. Every listener has
# network threads of its own.
_CONFIG = """\
process.roles=broker,controller
node.id={node}
listeners={listeners}
advertised.listeners={advertised}
listener.security.protocol.map={protocols}
inter.broker.listener.name=CLIENTS
controller.listener.names=CONTROLLER
controller.quorum.voters={voters}
log.dirs={log_dir}
num.network.threads=1
num.io.threads=4

# A dead node's partitions get other leaders after this long.
broker.session.timeout.ms=4000
broker.heartbeat.interval.ms=1000
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
default.replication.factor=3
min.insync.replicas=2
offsets.topic.replication.factor=3
offsets.topic.num.partitions={offset_partitions}
transaction.state.log.replication.factor=3
transaction.state.log.min.isr=2
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=3
share.coordinator.state.topic.min.isr=2

log.index.size.max.bytes=1048576
log.cleaner.dedupe.buffer.size=33554432
log.segment.bytes=33554432
"""

OFFSET_PARTITIONS = 4

# Starts count here more than the last third of speed: C1 alone and the serial collector take half the CPU.
_JAVA_OPTIONS = ("-Xms128m", "-Xmx320m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")


class Route(NamedTuple):
    """A way into one broker: clients come to `port`, where a proxy passes them on to `broker_port`."""

    port: int
    broker_port: int


class _Node(NamedTuple):
    number: int
    daemon: Daemon
    port: int
    controller_port: int
    entrances: list[Route]


class KafkaCluster:
    """Three nodes on loopback ports; topics have three replicas, of which two must take every message.

    Its methods block, and run event loops of their own: from a coroutine, call them in a thread.

    Parameters
    ----------
    folder
        Data folder; each node has one of its own in it.
    entrances
        How many groups of clients come by proxies of their own (`routes`).
    """

    def __init__(self, folder: Path, entrances: int = 0) -> None:
        ports = iter(free_ports(NODES * (2 + 2 * entrances)))
        self._nodes = [
            _Node(
                number,
                Daemon(folder.absolute() / f"kafka-{number}"),
                next(ports),
                next(ports),
                [Route(next(ports), next(ports)) for _ in range(entrances)],
            )
            for number in range(1, NODES + 1)
        ]
        self._command: list[str] = []
        self._environment: dict[str, str] = {}

    @property
    def bootstrap(self) -> str:
        """Addresses of the brokers, for clients that come without a proxy."""
        return ",".join(f"{LOOPBACK}:{node.port}" for node in self._nodes)

    def routes(self, entrance: int) -> list[Route]:
        """Give an entrance's way into each broker, entrances counted from 0."""
        return [node.entrances[entrance] for node in self._nodes]

    def entrance(self, entrance: int) -> str:
        """Addresses of the brokers, for clients that come by an entrance's proxies."""
        return ",".join(f"{LOOPBACK}:{route.port}" for route in self.routes(entrance))

    def start(self, progress: Progress) -> None:
        """Start all nodes of a new cluster; return when each serves clients.

        Raises
        ------
        ServiceError
            A program is missing, or a node does not start.
        """
        self._environment = node_environment(class_path(progress))
        self._command = node_command(new_cluster_id(), _JAVA_OPTIONS)
        progress(f"starting Kafka on {NODES} nodes")
        began = time.monotonic()
        with ThreadPoolExecutor(NODES) as pool:
            for done in [pool.submit(self.restart, node.number) for node in self._nodes]:
                done.result()
        progress(f"Kafka is ready at {self.bootstrap} after {time.monotonic() - began:.1f} s")

    def kill(self, number: int) -> None:
        """End a node, from 1, by SIGKILL."""
        self._node(number).daemon.kill()

    def restart(self, number: int) -> None:
        """Start a node that is down; return when it serves clients again."""
        node = self._node(number)
        node.daemon.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (node.daemon.folder / CONFIG_FILE).write_text(self._config(node))
        node.daemon.start(self._command, self._environment)
        deadline = time.monotonic() + START_SECONDS
        while not _serves(node):
            if node.daemon.pid() is None:
                raise ServiceError(f"Kafka's node {number} ended; {node.daemon.log_tail()}")
            if time.monotonic() > deadline:
                raise ServiceError(
                    f"Kafka's node {number} serves nobody after {START_SECONDS:g} s; {node.daemon.log_tail()}"
                )
            time.sleep(_POLL_SECONDS)

    def wait_in_sync(self) -> None:
        """Wait until every partition has all its replicas: another node may then be lost.

        Raises
        ------
        ServiceError
            They are not there in time.
        """
        deadline = time.monotonic() + SYNC_SECONDS
        while behind := asyncio.run(_behind(self.bootstrap)):
            if time.monotonic() > deadline:
                raise ServiceError(f"{behind} partitions of Kafka lack a replica after {SYNC_SECONDS:g} s")
            time.sleep(_POLL_SECONDS)

    def stop(self) -> None:
        """End all nodes at once: what they hold is not needed any more."""
        for node in self._nodes:
            node.daemon.kill()

    def _node(self, number: int) -> _Node:
        return self._nodes[number - 1]

    def _config(self, node: _Node) -> str:
        names = [f"ENTRANCE{number}" for number in range(len(node.entrances))]
        own = [f"CLIENTS://{LOOPBACK}:{node.port}"]
        inside = [f"{name}://{LOOPBACK}:{route.broker_port}" for name, route in zip(names, node.entrances, strict=True)]
        outside = [f"{name}://{LOOPBACK}:{route.port}" for name, route in zip(names, node.entrances, strict=True)]
        return _CONFIG.format(
            node=node.number,
            listeners=",".join([*own, f"CONTROLLER://{LOOPBACK}:{node.controller_port}", *inside]),
            advertised=",".join([*own, *outside]),
            protocols=",".join(f"{name}:PLAINTEXT" for name in ["CLIENTS", "CONTROLLER", *names]),
            voters=",".join(f"{other.number}@{LOOPBACK}:{other.controller_port}" for other in self._nodes),
            log_dir=LOG_DIR,
            offset_partitions=OFFSET_PARTITIONS,
        )


def _serves(node: _Node) -> bool:
    """Whether a node answers, as a member of the whole cluster or of what is left of it."""
    try:
        # Before it listens, a client would only fill the log with failed attempts.
        socket.create_connection((LOOPBACK, node.port), timeout=1.0).close()
        _, brokers = asyncio.run(describe_cluster(f"{LOOPBACK}:{node.port}"))
    except (OSError, KafkaError, TimeoutError):
        return False
    return node.number in brokers


async def _behind(bootstrap: str) -> int:
    """Count the partitions that lack a replica."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        await admin.start()
        topics = await admin.describe_topics()
    except (OSError, KafkaError) as error:
        raise ServiceError(f"Kafka does not answer at {bootstrap} ({error!r})") from error
    finally:
        await admin.close()
    return sum(len(one["isr"]) < len(one["replicas"]) for topic in topics for one in topic["partitions"])
