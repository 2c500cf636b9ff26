"""What has been delivered of each partition, and up to where that may be committed."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable

from faust.types import TP, Message


class Deliveries:
    """Messages delivered and not committed yet, in order, by partition.

    Faust keeps sets of acked offsets and of gaps between offsets, takes a gap for acked, counts a received offset
    as part of the gap before it, and holds unacked messages by weak references: commits stall, or pass messages
    that are not done. Here every delivered message is held until it is committed, and the commit point is the
    first delivered message that is not acked.
    """

    def __init__(self) -> None:
        self._delivered: defaultdict[TP, deque[Message]] = defaultdict(deque)

    def add(self, message: Message) -> None:
        """Note a message as delivered; its offset is the last one it stands for."""
        self._delivered[message.tp].append(message)

    def partitions(self) -> list[TP]:
        """Partitions with deliveries that are not committed."""
        return [tp for tp, messages in self._delivered.items() if messages]

    def commit_point(self, tp: TP) -> int | None:
        """Offset up to which all deliveries are acked, as Kafka commits it; None if the first is not."""
        point = None
        for message in self._delivered[tp]:
            if not message.acked:
                break
            point = message.offset + 1
        return point

    def committed(self, tp: TP, offset: int) -> None:
        """Forget what lies before a committed offset."""
        messages = self._delivered[tp]
        while messages and messages[0].offset < offset:
            messages.popleft()

    def forget(self, tps: Iterable[TP]) -> None:
        """Forget partitions: what was delivered of them will be read again."""
        for tp in tps:
            self._delivered.pop(tp, None)
