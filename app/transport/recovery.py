"""Table recovery by partition batches, which seeks before it lets records flow again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol, cast

from faust.tables import manager, recovery
from faust.types import TP
from faust.types.tables import CollectionT
from mode import Service

if TYPE_CHECKING:
    from faust.app import App


class Recoverable(Protocol):
    """A table that takes its changelog by partition batches."""

    def apply(self, partition: int, records: Sequence[Any]) -> None:
        """Write records of the changelog, in order, together with the last one's offset."""


class Recovery(recovery.Recovery):
    """Recovery that takes partition batches, and whose end loses nothing.

    Faust makes an event of each record, which costs 200 µs. The consumer hands a fetched partition batch to `apply`,
    which has written it before it returns: there is no queue, and nothing in it to be lost.

    Faust resumes the agents' partitions first, then seeks to the committed offsets, then clears the streams'
    queues: what was queued in between vanishes, and the next message looks like a gap in the offsets. What had been
    fetched for standbys is void then too, so they seek back behind what they have applied.
    """

    #: Faust sets it with its first recovery only.
    _last_active_event_processed_at: float | None = None

    @property
    def progressed_at(self) -> float | None:
        """When a recovery that is under way last took a record, on the monotonic clock; None at any other time."""
        return self._last_active_event_processed_at

    def apply(self, tp: TP, records: Sequence[Any]) -> None:
        """Write what has been fetched of a changelog's partition; the recovery ends with the last of them.

        Whatever is raised here ends the worker: the disk says how far it has come.
        """
        is_active = tp in self.active_tps
        if not is_active and tp not in self.standby_tps:
            return  # the partition was given up while its records were on their way
        offsets = self.active_offsets if is_active else self.standby_offsets
        reached = offsets[tp]
        if reached is not None:
            # A seek goes to the last record that was applied, which comes again.
            records = [record for record in records if record.offset > reached]
        if records:
            cast("Recoverable", self.tp_to_table[tp]).apply(tp.partition, records)
            offsets[tp] = records[-1].offset
            now = self._last_flush_at = monotonic()
            if is_active:
                self._active_events_received_at[tp] = self._last_active_event_processed_at = now
        self._look_whether_done()

    def _look_whether_done(self) -> None:
        if self.in_recovery and not self.need_recovery():
            self._set_recovery_ended()
            self.signal_recovery_end.set()
        if not self.tables.standbys_ready and not self.standby_remaining_total():
            self.tables.on_standbys_ready()

    def _set_recovery_started(self) -> None:
        # Faust clears it with each record it takes, which may be between the last one's signal and who waits for it.
        self.signal_recovery_end.clear()
        super()._set_recovery_started()

    @Service.task
    async def _slurp_changelogs(self) -> None:
        """Nothing to do: the consumer hands the records over."""

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

    async def on_start(self) -> None:
        """Start the tables. Faust waits a second before, in case some are still to be declared; ours are by now."""
        await self._update_channels()
        await self.recovery.start()

    def add(self, table: CollectionT) -> CollectionT:
        """Add a table to those that are shared out and recovered; a global one follows its changelog by itself."""
        return table if table.is_global else super().add(table)

    @property
    def recovery(self) -> Recovery:
        """The recovery service of this manager."""
        if self._recovery is None:
            self._recovery = Recovery(self.app, self, beacon=self.beacon, loop=self.loop)
        return cast("Recovery", self._recovery)
