"""The Faust application: Faust's own, with our transport, and an order of leaving partitions that loses nothing."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
import time
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

import faust
from faust.exceptions import ConsumerNotStarted
from faust.types import TP
from faust.types.transports import TransportT
from mode.supervisors import CrashingSupervisor

from app.errors import ContinuumError
from app.kafka_client import client_options
from app.pipelines import known_pipelines
from app.redis_client import redis_client
from app.runtime.definitions import Definitions
from app.runtime.heartbeat import Heartbeat
from app.runtime.outbox import PRODUCER_BATCH_BYTES, Outbox
from app.runtime.sensors_upkeep import Upkeep
from app.runtime.trimming import Trimmer
from app.runtime.turns import Turns
from app.runtime.watchdog import Watchdog
from app.settings import Settings, load_settings
from app.topics import sensor_topic
from app.transport.transport import Transport
from app.web.server import Web
from app.web.status import worker_status

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiokafka import AIOKafkaProducer

    from app.runtime.sensors_table import SensorsTable
    from app.runtime.tier import Tier
    from app.transport.consumer import Consumer

logger = logging.getLogger(__name__)

COMMIT_SECONDS = 1.0
#: Of the time to stop, the part that checkpoint, commit and mirror may take; Faust's own end takes some seconds.
SETTLE_SHARE = 0.5
HEARTBEAT_SECONDS = 1.0
#: Batches that Faust's queue to an agent takes: more than ever wait, as they are bounded in bytes (`Queued`).
QUEUED_BATCHES = 1 << 20
#: Records of one poll: as much as is computed in one go, between two looks at everything else.
POLL_RECORDS = 4000
LARGEST_REQUEST = 4 << 20


class ContinuumApp(faust.App):
    """The application.

    Parameters
    ----------
    settings
        What it was told.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.pipelines = known_pipelines(settings.pipelines)
        self.redis = redis_client(settings)
        self.outbox = Outbox(self.batch_producer)
        self.heartbeat = Heartbeat(self.redis, settings.topic_prefix, partial(worker_status, self))
        self.definitions = Definitions(
            self.redis, settings.topic_prefix, settings.datadir / "definitions", self.pipelines.values()
        )
        #: What has been set of sensors; it registers itself.
        self.sensors_table: SensorsTable
        #: The tiers whose agents run here, by name; each registers itself.
        self.tiers: dict[str, Tier] = {}
        #: Partition count of each of its sensor topics, as it was found when the worker started.
        self.partitions: dict[str, int] = {}
        self.started_at = time.time()
        #: Where the web pages are served; bound by the worker.
        self.web_socket: socket.socket
        self.web_url = ""
        #: Called where a stop cannot be finished; the worker ends the process.
        self.on_given_up: Callable[[], None]
        #: Whose turn it is.
        self.turns = Turns(settings.tiers, lambda tier: self.batches.queued.waits(sensor_topic(settings, tier)))
        super().__init__(settings.group_id, **faust_settings(settings))

    def batch_producer(self) -> AIOKafkaProducer:
        """Give the worker's producer, which takes batches; Faust offers none."""
        return cast("AIOKafkaProducer", cast("Any", self.producer)._ensure_producer())  # noqa: SLF001

    @property
    def batches(self) -> Consumer:
        """The worker's consumer, as what it is."""
        return cast("Consumer", self.consumer)

    def inputs(self) -> set[TP]:
        """Give the partitions of its tiers' topics that this worker has; may be asked from any thread."""
        topics = {tier.topic for tier in self.tiers.values()}
        try:
            # The property would make a consumer where there is none yet.
            return set() if self._consumer is None else {tp for tp in self._consumer.assignment() if tp.topic in topics}
        except ConsumerNotStarted:  # its thread is still coming up
            return set()

    def _new_transport(self) -> TransportT:
        return Transport(self.conf.broker_consumer, self)

    def _new_web(self) -> Any:
        return Web(self)

    def _new_producer_transport(self) -> TransportT:
        return Transport(self.conf.broker_producer, self)

    def import_agents(self) -> None:
        """Import the agents of this worker's tiers, and with them their tables, and the table that all tiers share.

        Faust's own discovery would import every module there is.
        """
        for module in ("tables.sensors", *(f"agents.{tier}" for tier in self.settings.tiers)):
            import_module(module)

    async def on_start(self) -> None:
        """Start the tiers' own services, the heartbeat and the watchdog with the application."""
        await super().on_start()
        sensors = self.sensors_table
        upkeep = Upkeep(self.redis, self.settings.topic_prefix, sensors.metas)
        sensors.on_change = partial(self._set, upkeep)
        own = (self.heartbeat, Watchdog(self), Trimmer())
        for service in (sensors, upkeep, self.definitions, *self.tiers.values(), *own):
            await self.add_runtime_dependency(service)

    def _set(self, upkeep: Upkeep, sensor_ids: set[str]) -> None:
        """Tell of sensors of which something has been set."""
        upkeep.changed(sensor_ids)
        for tier in self.tiers.values():
            tier.refuse_express(sensor_ids)

    def halt(self) -> None:
        """Stop the flow: nothing more is fetched, and of what has been, nothing more is accepted."""
        consumer = self.batches
        consumer.stop_flow()
        self.flow_control.suspend()
        consumer.pause_partitions(consumer.assignment())
        self.flow_control.clear()
        consumer.refuse()

    async def settle(self, seconds: float) -> bool:
        """Stop the flow, finish what is in hand, checkpoint, and commit; what is not done in time is given up.

        What is given up has not been acked, so it will be read again. Says whether all was done.
        """
        consumer = self.batches
        self.halt()
        try:
            async with asyncio.timeout(seconds):
                await asyncio.gather(*(tier.settle() for tier in self.tiers.values()))
                await consumer.commit()
        except TimeoutError:
            logger.warning("could not checkpoint within %.1f s: what is left will be read again", seconds)
            return False
        return True

    def release(self, revoked: set[TP]) -> None:
        """Forget the state of partitions that this worker gives up."""
        for tier in self.tiers.values():
            tier.release(revoked)

    async def _stop_consumer(self) -> None:
        """Stop consuming: settle first, while the producer still sends and the group still takes commits.

        After a crash nothing is settled: the state in memory may be that of half a batch.
        """
        settled = True
        if self._consumer is not None and self.batches.started and not self.crashed:
            budget = self.settings.shutdown_seconds * SETTLE_SHARE
            deadline = asyncio.get_running_loop().time() + budget
            settled = await self.settle(budget)
            await asyncio.gather(*(tier.mirror.flush(deadline) for tier in self.tiers.values()))
        await super()._stop_consumer()
        if not settled:
            # Tables are closed, and all else that Faust would do is to wait for the brokers, without end.
            self.on_given_up()

    async def on_stop(self) -> None:
        """Stop consuming, then everything else."""
        await super().on_stop()
        await self.heartbeat.stop()  # now, as it needs Redis
        await self.redis.aclose()


def faust_settings(settings: Settings) -> dict[str, Any]:
    """Faust's settings for ours; Faust reads none from the environment by itself."""
    options = client_options(settings)
    brokers = ";".join(f"kafka://{address.strip()}" for address in options["bootstrap_servers"].split(","))
    return {
        "env": {"": ""},  # an empty one would be replaced by the process's
        "broker": brokers,
        "broker_credentials": _credentials(options),
        "broker_commit_interval": COMMIT_SECONDS,
        "broker_session_timeout": settings.session_timeout,
        "broker_heartbeat_interval": min(HEARTBEAT_SECONDS, settings.session_timeout / 3),
        "broker_rebalance_timeout": settings.rebalance_timeout,
        "broker_request_timeout": max(60.0, settings.rebalance_timeout + 5.0),
        "broker_max_poll_records": POLL_RECORDS,
        "consumer_auto_offset_reset": "earliest",
        "consumer_group_instance_id": settings.instance,
        "producer_acks": -1,
        "producer_max_batch_size": PRODUCER_BATCH_BYTES,
        "producer_max_request_size": LARGEST_REQUEST,
        "producer_request_timeout": 60.0,
        "processing_guarantee": "at_least_once",
        "agent_supervisor": CrashingSupervisor,
        "stream_wait_empty": True,
        "store": "rocksdb://",
        "datadir": settings.datadir / "workers" / (settings.instance or "new"),
        "table_standby_replicas": settings.standby_replicas,
        "topic_disable_leader": True,
        "topic_allow_declare": False,
        "topic_partitions": 1,
        "Table": "app.runtime.state_table:StateTable",
        "GlobalTable": "app.runtime.sensors_table:SensorsTable",
        "TableManager": "app.transport.recovery:TableManager",
        "Worker": "app.worker:Worker",
        "web_bind": settings.web_host,
        "web_host": settings.web_host,
        "web_tables_enabled": False,
        "web_router_enabled": False,
        "web_stats_enabled": False,
        "web_graph_enabled": False,
    }


def _credentials(options: dict[str, Any]) -> Any:
    context = options.get("ssl_context")
    if "sasl_mechanism" in options:
        return faust.SASLCredentials(
            mechanism=options["sasl_mechanism"],
            username=options["sasl_plain_username"],
            password=options["sasl_plain_password"],
            ssl_context=context,
        )
    return faust.SSLCredentials(context=context) if context is not None else None


def command_line_app() -> ContinuumApp:
    """Make the application that `faust -A app` runs; a mistake in its settings ends the process with one line."""
    # aiokafka builds a debug record for every message it sends, and drops it.
    logging.getLogger("aiokafka").setLevel(logging.WARNING)
    try:
        return ContinuumApp(load_settings())
    except ContinuumError as error:
        sys.stderr.write(f"error: {error}\n")
        raise SystemExit(error.exit_code) from None
