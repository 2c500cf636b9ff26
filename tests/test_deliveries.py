"""The commit point: never past a batch that is not done, and up to the last that is."""

from __future__ import annotations

from faust.types import TP, ConsumerMessage
from hypothesis import given
from hypothesis import strategies as st

from app.transport.deliveries import Deliveries

PARTITION = TP("t", 0)


def message(offset: int, tp: TP = PARTITION) -> ConsumerMessage:
    return ConsumerMessage(tp.topic, tp.partition, offset, 0.0, 0, [], None, None, None, tp=tp)


@given(
    st.lists(st.tuples(st.integers(1, 500), st.booleans()), max_size=30),
    st.lists(st.integers(0, 100), max_size=10),
)
def test_commit_point_is_the_first_that_is_not_acked(steps: list[tuple[int, bool]], rounds: list[int]) -> None:
    deliveries = Deliveries()
    offset, messages = -1, []
    for length, acked in steps:
        offset += length  # gaps between batches, and batches of any length, look alike
        messages.append(message(offset))
        messages[-1].acked = acked
        deliveries.add(messages[-1])
    committed = 0
    for choice in [*rounds, 0]:
        done = 0
        while done < len(messages) and messages[done].acked:
            done += 1
        point = deliveries.commit_point(PARTITION)
        if done:
            assert point in (messages[done - 1].offset + 1, None)
            assert point is not None or committed == messages[done - 1].offset + 1
        else:
            assert point is None
        if point is not None:
            assert point > committed
            deliveries.committed(PARTITION, point)
            committed = point
        waiting = [own for own in messages if not own.acked]
        if waiting:
            waiting[choice % len(waiting)].acked = True


def test_a_commit_that_failed_is_tried_again() -> None:
    deliveries = Deliveries()
    deliveries.add(message(41))
    deliveries.add(message(99))
    assert deliveries.commit_point(PARTITION) is None
    deliveries._delivered[PARTITION][0].acked = True
    assert deliveries.commit_point(PARTITION) == 42
    assert deliveries.commit_point(PARTITION) == 42
    deliveries.committed(PARTITION, 42)
    assert deliveries.commit_point(PARTITION) is None
    assert deliveries.partitions() == [PARTITION]


def test_forgotten_partitions_are_not_committed() -> None:
    deliveries, other = Deliveries(), TP("t", 1)
    for tp in (PARTITION, other):
        done = message(5, tp)
        done.acked = True
        deliveries.add(done)
    deliveries.forget([PARTITION])
    assert deliveries.partitions() == [other]
    assert deliveries.commit_point(PARTITION) is None
    assert deliveries.commit_point(other) == 6


def test_unacked_messages_are_held() -> None:
    """Faust keeps them by weak references, and takes one that nobody holds for done."""
    deliveries = Deliveries()
    deliveries.add(message(7))
    done = message(8)
    done.acked = True
    deliveries.add(done)
    assert deliveries.commit_point(PARTITION) is None
