"""Processes that tests look into: how much memory they have, and the Kafka that they may stop."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.services.kafka import KafkaServer


def resident_bytes(pid: int) -> int:
    """Memory that a process has now."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


@contextmanager
def paused_kafka(datadir: Path) -> Iterator[None]:
    """Stop the Kafka of a data folder for the time of a `with` block: it takes connections, and does not answer."""
    pid = KafkaServer(datadir).daemon.pid()
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
