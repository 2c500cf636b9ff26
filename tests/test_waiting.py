"""What is held of sensors that wait: joined batch by batch, in each sensor's order, and given up by partition."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, cast

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from app.dsp.snapshot import Position
from app.pipelines import shipped_pipelines
from app.runtime.portion import Pending, Portion
from app.runtime.waiting import Upgrade, Waiting, held_together
from app.wire.decode import BlockColumns

ECG = shipped_pipelines()["ecg"]


class Batches:
    """Batches of partitions, each a `Pending`."""

    def __init__(self) -> None:
        self.pending: defaultdict[tuple[int, int], Pending] = defaultdict(lambda: Pending(cast("Any", None)))

    def portion(self, sensor_id: str, partition: int, batch: int, seq: int, timestamp: int = 0) -> Portion:
        columns = BlockColumns(
            ECG, [sensor_id], [timestamp], [seq], [None], [0], [[float(seq)]], [0, 1], np.array([float(seq)])
        )
        position = Position("rt-sensors", partition, 10 * batch)
        return Portion(columns, cast("Any", [None]), position, self.pending[partition, batch])


@given(
    held=st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 2)), min_size=1, max_size=30),
    batch_of=st.lists(st.integers(0, 1), min_size=30, max_size=30),
)
def test_every_block_once_in_its_sensors_order(held, batch_of):
    batches, waiting, number = Batches(), {}, defaultdict(int)
    latest: defaultdict[int, int] = defaultdict(int)
    for place, (sensor_id, partition) in enumerate(held):
        latest[partition] += batch_of[place]
        own = waiting.setdefault(sensor_id, Waiting(sensor_id, 0.0))
        own.portions.append(batches.portion(sensor_id, partition, latest[partition], number[sensor_id]))
        number[sensor_id] += 1
    groups = held_together(list(waiting.values()))
    seen: defaultdict[str, list[int | None]] = defaultdict(list)
    begun: set[str] = set()
    for group in groups:
        columns = group.portion.columns
        assert columns.values.tolist() == columns.seqs
        for sensor_id, seq in zip(columns.sensor_ids, columns.seqs, strict=True):
            if seq == 0:
                assert sensor_id in group.begin
                begun.add(sensor_id)
            seen[sensor_id].append(seq)
    assert begun == set(waiting)
    assert seen == {sensor_id: list(range(count)) for sensor_id, count in number.items()}
    pieces: defaultdict[int, int] = defaultdict(int)
    for group in groups:
        pieces[id(group.portion.pending)] += group.pieces
    for own in batches.pending.values():
        assert pieces[id(own)] == sum(p.pending is own for w in waiting.values() for p in w.portions)


def test_sensors_of_one_batch_go_on_together():
    batches = Batches()
    some = [Waiting(f"s{n}", 0.0, portions=[batches.portion(f"s{n}", 1, b, b) for b in range(3)]) for n in range(50)]
    groups = held_together(some)
    assert [group.portion.columns.seqs for group in groups] == [[0] * 50, [1] * 50, [2] * 50]
    assert [len(group.begin) for group in groups] == [50, 0, 0]


def test_only_what_is_of_the_partitions_is_given_up():
    batches = Batches()
    portions = [batches.portion("s", 26, 1, 0), batches.portion("s", 2, 1, 1), batches.portion("s", 2, 2, 2)]
    waiting = Waiting("s", 0.0, portions=list(portions), samples=3)
    assert not waiting.give_up({7})
    assert waiting.give_up({26})
    assert (waiting.portions, waiting.samples) == (portions[1:], 2)
    waiting.upgrade = Upgrade(cast("Any", None), "ecg", 5)
    assert waiting.give_up({5})
    assert (waiting.upgrade, len(waiting.portions)) == (None, 2)
    assert waiting.give_up({2})
    assert not waiting.portions


@given(
    came_from=st.lists(st.integers(0, 2), min_size=1, max_size=12),
    arrival=st.randoms(use_true_random=False),
)
def test_blocks_from_several_partitions_are_held_in_their_time(came_from, arrival):
    """A sensor's later blocks may come first, from another partition; each partition keeps its own order."""
    batches = Batches()
    queues: defaultdict[int, list[Portion]] = defaultdict(list)
    for seq, partition in enumerate(came_from):
        queues[partition].append(batches.portion("s", partition, seq, seq, timestamp=4 * seq))
    waiting = Waiting("s", 0.0, patient=True)
    first: int | None = None
    while queues:
        partition = arrival.choice(sorted(queues))
        portion = queues[partition].pop(0)
        if not queues[partition]:
            del queues[partition]
        seq = portion.columns.seqs[0]
        waiting.hold(portion)
        first = seq if first is None else first
        assert waiting.found == (min(own.columns.seqs[0] for own in waiting.portions) < first)
    assert [portion.columns.seqs[0] for portion in waiting.portions] == list(range(len(came_from)))
    assert waiting.samples == len(came_from)


def test_a_clock_that_was_set_back_does_not_change_a_partitions_order():
    batches, waiting = Batches(), Waiting("s", 0.0, patient=True)
    for seq, timestamp in enumerate([100, 104, 0, 4]):
        waiting.hold(batches.portion("s", 1, seq, seq, timestamp))
    assert [portion.columns.seqs[0] for portion in waiting.portions] == [0, 1, 2, 3]
    assert not waiting.found
