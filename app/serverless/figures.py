"""What a function that runs here has done: counts and times, as `continuum function serve` and the pages show them."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from app.serverless.environment import Invocation

RECENT = 1000
"""Invocations whose durations count for the quantiles."""


class FunctionStatus(msgspec.Struct, frozen=True):
    """A function's figures, since its start."""

    invocations: int
    cold_starts: int
    errors: int
    """Invocations that failed as a whole: an error, a timeout or a dead process."""
    partial: int
    """Invocations some of whose records failed."""
    records: int
    """Messages processed and committed."""
    retried: int
    """Messages sent again after a failure, counted each time."""
    p50: float | None
    """Median of the last invocations' durations, s, cold starts not counted in."""
    p99: float | None
    init: float | None
    """Median of the last cold starts, s."""
    memory: int | None
    """Most memory of a process, bytes."""
    last_error: str | None


class Figures:
    """Counts what becomes of a function's invocations."""

    def __init__(self) -> None:
        self._invocations = self._cold_starts = self._errors = self._partial = self._records = self._retried = 0
        self._seconds: deque[float] = deque(maxlen=RECENT)
        self._init: deque[float] = deque(maxlen=RECENT)
        self._memory: int | None = None
        self._last_error: str | None = None

    def add(self, invocation: Invocation, *, done: int, left: int) -> None:
        """Count an invocation, with how many of its records are done and how many are left to be sent again."""
        self._invocations += 1
        self._records += done
        self._retried += left
        if invocation.init_seconds is not None:
            self._cold_starts += 1
            self._init.append(invocation.init_seconds)
        if invocation.memory is not None:
            self._memory = max(invocation.memory, self._memory or 0)
        if invocation.error is not None:
            self._errors += 1
            self._last_error = f"{invocation.error.error_type}: {invocation.error.error_message}"
        else:
            self._partial += left > 0
            self._seconds.append(invocation.seconds)

    def status(self) -> FunctionStatus:
        """Give the figures as they are now."""
        return FunctionStatus(
            self._invocations,
            self._cold_starts,
            self._errors,
            self._partial,
            self._records,
            self._retried,
            quantile(self._seconds, 0.5),
            quantile(self._seconds, 0.99),
            quantile(self._init, 0.5),
            self._memory,
            self._last_error,
        )


def quantile(values: Iterable[float], share: float) -> float | None:
    """Smallest value that a share of them does not exceed; None of none."""
    ordered = sorted(values)
    return ordered[math.ceil(share * len(ordered)) - 1] if ordered else None
