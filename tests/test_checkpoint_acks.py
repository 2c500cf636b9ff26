"""What a checkpoint may ack: only batches of which all states are saved, whatever happens while they are written."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from app.runtime.checkpoint import Checkpointer
from app.runtime.portion import Pending
from app.tiers import TIER_DEFAULTS


class World:
    """A checkpointer of one partition, and a table that lets something happen while it is written."""

    def __init__(self) -> None:
        self.changed: list[Any] = []
        self.saved: list[bytes] = []
        self.acked: list[str] = []
        self.meanwhile: Callable[[], None] = lambda: None
        self.checkpoints = Checkpointer(
            cast("Any", SimpleNamespace(changed=lambda _: len(self.changed), take_states=self._take)),
            cast("Any", SimpleNamespace(write=self._write)),
            cast("Any", SimpleNamespace(put=lambda states: None)),
            cast("Any", None),
            lambda: 1,
            self._confirm,
            TIER_DEFAULTS["batch"],
        )

    def batch(self, name: str) -> Pending:
        """Begin a batch: it is in hand until it is done."""
        pending = Pending(cast("Any", SimpleNamespace(ack=lambda: self.acked.append(name))))
        self.checkpoints.add(3, pending)
        return pending

    def change(self, sensor_id: str) -> None:
        self.changed.append(SimpleNamespace(sensor_id=sensor_id, snapshot=sensor_id.encode()))

    def _take(self, partition: int, most: int) -> list[Any]:
        taken, self.changed = self.changed[:most], self.changed[most:]
        return taken

    async def _write(self, partition: int, snapshots: dict[bytes, bytes]) -> None:
        self.meanwhile()
        self.saved += snapshots

    async def _confirm(self, generation: int) -> bool:
        return True


@pytest.mark.parametrize("slices_before", [0, 1])
async def test_a_batch_that_ends_while_states_are_written_is_acked_by_the_next(slices_before: int) -> None:
    """Its last slice, or blocks that were held, have changed states that this one does not write."""
    world = World()
    done = world.batch("done")
    world.change("a")
    done.held -= 1
    in_hand = world.batch("in hand")
    for number in range(slices_before):
        world.change(f"b{number}")

    def end() -> None:
        if in_hand.held:
            world.change("late")
            in_hand.held -= 1

    world.meanwhile = end
    await world.checkpoints.checkpoint(3)
    assert world.acked == ["done"]
    assert b"late" not in world.saved
    await world.checkpoints.checkpoint(3)
    assert world.acked == ["done", "in hand"]
    assert b"late" in world.saved
