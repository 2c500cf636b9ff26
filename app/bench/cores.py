"""Which core does what, and how much of it each process has used."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.bench.result import SuiteResult
    from app.bench.surroundings import Surroundings

TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Cores:
    """The cores that this process may use, shared out.

    Attributes
    ----------
    measured
        The one core of what is measured.
    others
        Those of everything else: the same one where there is no other.
    """

    measured: frozenset[int]
    others: frozenset[int]

    def remark(self, *, moved: bool) -> str:
        """Say who is where.

        Parameters
        ----------
        moved
            Whether Kafka and Redis were put onto the other cores, as they are ours.
        """
        if self.measured == self.others:
            return "one core for everything"
        services = "Kafka, Redis and the bench" if moved else "the bench; Kafka or Redis, as they were given, anywhere"
        return f"one for the contender alone; {len(self.others)} for {services}"


def shared_out() -> Cores:
    """Give the last of the cores that this process may use to what is measured, and the rest to all else."""
    usable = os.sched_getaffinity(0)
    measured = frozenset({max(usable)})
    return Cores(measured, frozenset(usable - measured) or measured)


@contextmanager
def kept_on(cores: frozenset[int]) -> Iterator[None]:
    """Keep this thread, and all processes that it starts, on some cores for the time of a `with` block."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def moved_to(pids: list[int], cores: frozenset[int]) -> Iterator[None]:
    """Keep all threads of running processes on some cores for the time of a `with` block."""
    before = {pid: os.sched_getaffinity(pid) for pid in pids}
    for pid in pids:
        _move(pid, cores)
    try:
        yield
    finally:
        for pid, own in before.items():
            _move(pid, own)


@contextmanager
def one_apart(surroundings: Surroundings, result: SuiteResult) -> Iterator[frozenset[int]]:
    """Keep everything off the core of what is measured for the time of a `with` block, which it gives; say so."""
    cores = shared_out()
    ours = [pid for pid in (surroundings.kafka_pid, surroundings.redis_pid) if pid is not None]
    result.conditions.remarks["cores"] = cores.remark(moved=len(ours) == 2)
    with kept_on(cores.others), moved_to(ours, cores.others):
        yield cores.measured


def _move(pid: int, cores: frozenset[int] | set[int]) -> None:
    with suppress(FileNotFoundError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with suppress(ProcessLookupError):
                os.sched_setaffinity(int(task.name), cores)


def cpu_seconds(pid: int | None) -> float:
    """CPU that a process has used so far, of all its threads; 0 where there is none or it has ended."""
    return 0.0 if pid is None else _seconds(Path(f"/proc/{pid}/stat"))


def main_thread_seconds(pid: int) -> float:
    """CPU that the first thread of a process has used so far; 0 where it has ended."""
    return _seconds(Path(f"/proc/{pid}/task/{pid}/stat"))


def _seconds(stat: Path) -> float:
    try:
        fields = stat.read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS
