"""The lease: until when the consumer group holds this worker's partitions for it."""

from __future__ import annotations

import threading
import time
from typing import Any, NamedTuple

from aiokafka.errors import NoError, RebalanceInProgressError
from aiokafka.protocol.group import HeartbeatRequest, SyncGroupRequest

#: Goes on while a machine sleeps, as the brokers' clocks do, where the system has such a clock.
CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

#: The broker counts on us as before; while the group rebalances, until we have handed over.
_HELD = {NoError.errno, RebalanceInProgressError.errno}


def now() -> float:
    """Seconds on the clock of leases."""
    return time.clock_gettime(CLOCK)


class _Term(NamedTuple):
    generation: int
    renewed: float


class Lease:
    """Whether no other worker can have this one's partitions.

    The group's coordinator gives a silent worker's partitions away when its session has expired. A worker that was
    paused for longer (SIGSTOP, a frozen container, a sleeping machine) wakes in the belief that they are its own,
    and learns of its loss a moment later: its next write would go between those of the new owner. So before it
    writes it looks at when it last sent a request that the coordinator answered: the session is counted
    from a later moment, and cannot have expired where not even this one is that long ago.

    Renewed in the consumer's thread, and read in the application's.

    Parameters
    ----------
    seconds
        The session timeout.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._term: _Term | None = None
        self._lock = threading.Lock()

    def begin(self, generation: int, sent: float) -> None:
        """Begin a term: the group has answered a request of that moment with an assignment."""
        with self._lock:
            self._term = _Term(generation, sent)

    def renew(self, generation: int, sent: float) -> None:
        """Prolong the term, if it has not ended: the group has answered a heartbeat of that moment."""
        with self._lock:
            if self._term is not None and self._term.generation == generation:
                self._term = _Term(generation, max(sent, self._term.renewed))

    def end(self) -> None:
        """End the term: the partitions are handed over, or lost."""
        with self._lock:
            self._term = None

    def holds(self, generation: int) -> bool:
        """Whether the term of a generation has not ended, though it may have run out since the last answer."""
        term = self._term
        return term is not None and term.generation == generation

    def valid(self, generation: int) -> bool:
        """Whether the group surely holds the partitions of a generation for this worker, now."""
        term = self._term
        return term is not None and term.generation == generation and now() - term.renewed < self._seconds

    def follow(self, coordinator: Any) -> None:
        """Follow what the group's coordinator answers to a consumer.

        Parameters
        ----------
        coordinator
            aiokafka's `GroupCoordinator`, which has no hook for it: all its requests go through `_send_req`, and
            it calls `reset_generation` when it learns that the group goes on without it.
        """
        send, reset = coordinator._send_req, coordinator.reset_generation  # noqa: SLF001

        async def send_and_note(request: Any) -> Any:
            generation, sent = coordinator.generation, now()
            response = await send(request)
            if isinstance(request, SyncGroupRequest) and response.error_code == NoError.errno:
                self.begin(generation, sent)
            elif isinstance(request, HeartbeatRequest) and response.error_code in _HELD:
                self.renew(generation, sent)
            return response

        def end_and_reset() -> None:
            self.end()
            reset()

        coordinator._send_req, coordinator.reset_generation = send_and_note, end_and_reset  # noqa: SLF001
