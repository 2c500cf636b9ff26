"""Fetching only what will be taken.

aiokafka fetches all partitions that are assigned, wanted or not, and sends no request to a broker for a while if it
holds records of one of its partitions that nobody has taken. Faust pauses partitions for itself alone. So changelogs
that nobody reads would lie in memory, and a tier whose queue is full would delay the records of all others.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aiokafka.consumer.fetcher import Fetcher
    from faust.types import TP

UNTAKEN_SECONDS = 0.005
"""For how long a broker is asked for nothing while records of a wanted partition of its have not been taken."""


class _Some:
    """An assignment as aiokafka's fetcher sees it, with only some of its partitions."""

    def __init__(self, assignment: Any, tps: list[Any]) -> None:
        self.tps = tps
        self.state_value = assignment.state_value


# ruff: noqa: SLF001 - aiokafka offers no hook


class Interest:
    """What is wanted of the partitions that are assigned.

    Used by the consumer's thread alone.

    Parameters
    ----------
    fetcher
        Of aiokafka's consumer.
    """

    def __init__(self, fetcher: Fetcher) -> None:
        self._fetcher = fetcher
        self._wanted: frozenset[Any] = frozenset()
        self._usual_actions = fetcher._get_actions_per_node
        fetcher._prefetch_backoff = UNTAKEN_SECONDS
        fetcher._get_actions_per_node = self._actions

    def wants(self, partitions: Iterable[TP]) -> None:
        """Note what is wanted from now on."""
        wanted = frozenset(partitions)
        if wanted != self._wanted:
            self._wanted = wanted
            # It looks again what there is to do.
            self._fetcher._notify(self._fetcher._wait_consume_future)

    def _actions(self, assignment: Any) -> Any:
        # A partition without a position needs one, wanted or not.
        tps = [tp for tp in assignment.tps if tp in self._wanted or not assignment.state_value(tp).has_valid_position]
        return self._usual_actions(_Some(assignment, tps))
