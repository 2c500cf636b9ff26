"""How long features take: from a block's being handed over to be sent until its feature record has been read."""

from __future__ import annotations

import math
import time
from typing import NamedTuple

import numpy as np

from app.replay import Plan
from app.replay.messages import Message


class Latency(NamedTuple):
    """What a stream's features took, s."""

    first: float
    """The first of all: a function starts cold then, and a worker meets its sensors."""
    blocks: int
    """Blocks sent after the first feature was there, to which the others apply."""
    p50: float
    p99: float
    worst: float


class Latencies:
    """Measures the features of a plan's sensors.

    Parameters
    ----------
    plan
        Of their replay, a block a message.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._sent: dict[tuple[bytes, int], float] = {}
        self._first: float | None = None
        self._warm_since = math.inf
        self._seconds: list[float] = []

    def sent(self, message: Message) -> None:
        """Note that a message is handed over now."""
        # A sensor begins within a block's duration after the first; what is added is for rounding.
        block = math.floor(message.time / self._plan.duration + 1e-6)
        self._sent[message.key, block * self._plan.block] = time.monotonic()

    def received(self, sensor_id: str, seq: int) -> None:
        """Note that a block's feature has been read now."""
        sent, now = self._sent.pop((sensor_id.encode(), seq), None), time.monotonic()
        if sent is None:
            return
        if self._first is None:
            self._first, self._warm_since = now - sent, now
        elif sent >= self._warm_since:
            self._seconds.append(now - sent)

    def figures(self) -> Latency | None:
        """Give what they took; None before the first."""
        if self._first is None:
            return None
        if not self._seconds:
            return Latency(self._first, 0, math.nan, math.nan, math.nan)
        p50, p99, worst = np.quantile(self._seconds, [0.5, 0.99, 1.0]).tolist()
        return Latency(self._first, len(self._seconds), p50, p99, worst)
