"""Table recovery that seeks before it lets records flow again."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from faust.tables import manager, recovery
from faust.types import TP
from faust.types.tables import CollectionT

if TYPE_CHECKING:
    from faust.app import App


class Recovery(recovery.Recovery):
    """Recovery whose end loses nothing.

    Faust resumes the agents' partitions first, then seeks to the committed offsets, then clears the streams'
    queues: what was queued in between vanishes, and the next message looks like a gap in the offsets. The same
    queues hold what standbys have to apply, which Faust lets flow even earlier: what vanishes there is missing from
    the standby's disk for good, as its offset goes on.
    """

    #: Faust sets it with its first recovery only.
    _last_active_event_processed_at: float | None = None

    @property
    def progressed_at(self) -> float | None:
        """When a recovery that is under way last took a record, on the monotonic clock; None at any other time."""
        return self._last_active_event_processed_at

    async def _resume_streams(self, generation_id: int = 0) -> None:
        await self._resume_agents(generation_id)

    async def on_recovery_completed(self, generation_id: int = 0) -> None:
        """Tell the tables, then let the agents go on."""
        self.log.info("Restore complete!")
        self._set_recovery_ended()
        await asyncio.gather(
            *(
                table.on_recovery_completed(self.actives_for_table[table], self.standbys_for_table[table])
                for table in self.tables.values()
            )
        )
        await self._resume_agents(generation_id)

    async def _resume_agents(self, generation_id: int) -> None:
        app = cast("App", self.app)
        consumer = app.consumer
        await app.on_rebalance_complete.send()
        assignment: set[TP] = consumer.assignment()
        standbys = set(self.standby_tps)
        consumer.stop_flow()
        consumer.pause_partitions(standbys)
        if assignment and app.consumer_generation_id == generation_id:
            self.log.info("Seek stream partitions to committed offsets.")
            await self._wait(consumer.perform_seek(), timeout=app.conf.broker_request_timeout)
        if app.consumer_generation_id != generation_id:
            self.log.warning("Generation is %s, not %s: rebalancing again", app.consumer_generation_id, generation_id)
            return
        app.flow_control.resume()  # clears the streams' queues, so before anything may enter them
        if standbys:  # go on behind what has been applied, whatever was in the queue
            await self._wait(self._seek_offsets(consumer, standbys, self.standby_offsets, "standby"))
        consumer.resume_partitions(standbys | {tp for tp in assignment if not self._is_changelog_tp(tp)})
        self.completed.set()
        consumer.resume_flow()
        await app._fetcher.maybe_start()  # noqa: SLF001 - as Faust's own recovery does
        self.tables.on_actives_ready()
        if not app.assignor.assigned_standbys():
            self.tables.on_standbys_ready()
        app.on_rebalance_end()
        self.log.info("Worker ready")


class TableManager(manager.TableManager):
    """Table manager with our recovery."""

    def add(self, table: CollectionT) -> CollectionT:
        """Add a table to those that are shared out and recovered; a global one follows its changelog by itself."""
        return table if table.is_global else super().add(table)

    @property
    def recovery(self) -> Recovery:
        """The recovery service of this manager."""
        if self._recovery is None:
            self._recovery = Recovery(self.app, self, beacon=self.beacon, loop=self.loop)
        return cast("Recovery", self._recovery)
