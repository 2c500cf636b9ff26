"""`continuum bridge mqtt`: from an MQTT broker to Kafka, until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from prometheus_client import start_http_server

from app.cli.interruption import told_to_stop
from app.cli.output import JsonOption, note, print_json
from app.errors import ContinuumError
from app.ingest.check import Checker
from app.ingest.forward import Forwarder
from app.ingest.routes import Routes
from app.ingest.sender import Sender
from app.pipelines import known_pipelines
from app.redis_client import redis_client
from app.settings import TIERS, Settings, TierName, load_settings
from app.topics import TopicError, dead_letter_topic, needed_topics, partition_counts, sensor_topic

if TYPE_CHECKING:
    from app.ingest.bridge import Bridge, Broker

STATUS_SECONDS = 10.0
SEND_SECONDS = 5.0
PORT, TLS_PORT = 1883, 8883

bridge = typer.Typer(no_args_is_help=True, help="Carry blocks from other systems to Kafka.")
# A group even of one command, so that its name is still expected.
bridge.callback()(lambda: None)


@bridge.command()
def mqtt(  # noqa: PLR0913 - an argument for each option
    *,
    host: Annotated[str, typer.Option(help="MQTT broker, which speaks MQTT 5.")],
    port: Annotated[int | None, typer.Option(help="Its port; else 1883, with TLS 8883.", show_default=False)] = None,
    topic: Annotated[
        str, typer.Option(help="Topics to subscribe to; + stands for a sensor's id.")
    ] = "sensors/+/blocks",
    gateway: Annotated[
        str, typer.Option(help="Name of this bridge, always the same: of its MQTT session, and key of its frames.")
    ] = "bridge",
    tier: Annotated[
        TierName | None, typer.Option(help="Where all blocks go; else where each sensor's go.", show_default=False)
    ] = None,
    tls: Annotated[bool, typer.Option("--tls", help="Speak TLS.")] = False,
    cafile: Annotated[
        Path | None, typer.Option(help="Certificate authority of the broker, PEM; else the system's.")
    ] = None,
    username: Annotated[
        str | None, typer.Option(help="User; the password is CONTINUUM_MQTT_PASSWORD.", show_default=False)
    ] = None,
    linger: Annotated[
        float, typer.Option(min=0, help="How long a message may wait for others to share a frame with, ms.")
    ] = 20.0,
    metrics_port: Annotated[
        int | None, typer.Option(help="Serve metrics for Prometheus on this port of CONTINUUM_WEB_HOST.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Subscribe to an MQTT broker and send the blocks on, until told to stop (SIGTERM or Ctrl-C)."""
    if find_spec("aiomqtt") is None:
        raise ContinuumError("the package 'aiomqtt' is missing; install the extra: pip install 'continuum[mqtt]'")
    if topic.startswith("$"):
        raise ContinuumError(
            f"--topic {topic}: a shared subscription deals a sensor's blocks out to several bridges, which loses their"
            " order; expected a filter like sensors/+/blocks, and for several bridges topics of their own"
        )
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", gateway):
        raise ContinuumError(f"--gateway {gateway!r}: expected up to 100 ASCII letters, digits, '.', '_' and '-'")
    settings = load_settings()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    from app.ingest.bridge import Broker  # noqa: PLC0415 - the extra may be absent

    password = settings.mqtt_password
    broker = Broker(
        host,
        port or (TLS_PORT if tls or cafile else PORT),
        f"{settings.topic_prefix}{settings.app_id}-{gateway}",
        username,
        None if password is None else password.get_secret_value(),
        _tls(cafile) if tls or cafile else None,
    )
    if metrics_port is not None:
        try:
            start_http_server(metrics_port, settings.web_host)
        except OSError as error:
            raise ContinuumError(f"--metrics-port {metrics_port}: {error}; give one that is free") from None
    whole = asyncio.run(_run(settings, broker, topic, gateway, tier, linger / 1000, as_json=as_json))
    if not whole:
        note("stopped before all was sent on; the broker keeps what came with QoS 1, and delivers it again")
        raise typer.Exit(1)


def _tls(cafile: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=cafile)
    except OSError as error:
        raise ContinuumError(f"--cafile {cafile}: cannot be read ({error}); expected a PEM file") from None


async def _run(
    settings: Settings,
    broker: Broker,
    topic: str,
    gateway: str,
    tier: TierName | None,
    linger: float,
    *,
    as_json: bool,
) -> bool:
    from app.ingest.bridge import Bridge  # noqa: PLC0415 - the extra may be absent

    await _check_topics(settings)
    stop = told_to_stop()
    redis = redis_client(settings)
    sender = Sender(settings, f"bridge-{gateway}")
    checker = Checker(known_pipelines(settings.pipelines), Routes(redis, settings.topic_prefix))
    forwarder = Forwarder(settings, checker, sender, pattern=topic, gateway=gateway, tier=tier)
    carrying = Bridge(broker, topic, forwarder, linger=linger)
    telling = asyncio.create_task(_tell(carrying, forwarder, as_json=as_json))
    try:
        return await carrying.run(stop)
    finally:
        telling.cancel()
        await sender.stop(SEND_SECONDS)
        await redis.aclose()
        _tell_once(carrying, forwarder, as_json=as_json)


async def _check_topics(settings: Settings) -> None:
    """Refuse to start without topics: to send to one that is missing could create it, with other partitions."""
    names = {*(sensor_topic(settings, tier) for tier in TIERS), dead_letter_topic(settings)}
    counts = await partition_counts(settings, [topic for topic in needed_topics(settings, []) if topic.name in names])
    if missing := [name for name, count in counts.items() if count is None]:
        raise TopicError(f"missing topics: {', '.join(missing)}. Create them first: `continuum topics create`")


async def _tell(carrying: Bridge, forwarder: Forwarder, *, as_json: bool) -> None:
    while True:
        await asyncio.sleep(STATUS_SECONDS)
        _tell_once(carrying, forwarder, as_json=as_json)


def _tell_once(carrying: Bridge, forwarder: Forwarder, *, as_json: bool) -> None:
    done = forwarder.done
    figures: dict[str, Any] = {
        "connected": carrying.connected,
        "connections": carrying.connections,
        "messages": done.messages,
        "blocks": done.blocks,
        "frames": done.frames,
        "refused": done.refused,
        "waiting": carrying.waiting,
        "dropped": carrying.dropped,
        "obstacle": forwarder.obstacle or None,
    }
    if as_json:
        print_json(figures)
        sys.stdout.flush()
        return
    note(
        f"{'connected' if carrying.connected else 'not connected'} · messages {done.messages:,} · blocks"
        f" {done.blocks:,} · frames {done.frames:,} · refused {done.refused:,} · waiting {carrying.waiting:,}"
        f" · dropped {carrying.dropped:,}"
    )
