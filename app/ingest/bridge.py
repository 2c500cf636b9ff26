"""The MQTT bridge: subscribes, sends on what comes, and acknowledges what Kafka has."""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

from aiomqtt import Client, Message, MqttError, ProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from app.errors import ContinuumError
from app.ingest.forward import Forwarder
from app.ingest.inbox import WINDOW, Inbox

logger = logging.getLogger(__name__)

SESSION_SECONDS = 7 * 24 * 3600
"""How long a broker keeps messages for a bridge that is away."""

KEEPALIVE_SECONDS, ANSWER_SECONDS, STOP_SECONDS = 30, 10.0, 10.0
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 30.0
"""Between two attempts to connect, s; each longer than the one before, unless a connection has lived for a while."""

LIFE_SECONDS, SHORT_LIVES = 10.0, 3

#: What a broker answers that will not change by asking again.
_FINAL = {
    132: "it does not speak MQTT 5: use a broker that does, such as mosquitto 1.6 or newer",
    133: "it does not accept the client id: give another --gateway",
    134: "check --username and CONTINUUM_MQTT_PASSWORD",
    135: "the user may not connect, or not subscribe: check --username, CONTINUUM_MQTT_PASSWORD and the broker's ACL",
    138: "the broker bans this client",
    142: "another bridge with this id runs: give each its own --gateway, and topics that no other has",
    143: "the topic filter is not valid: see --topic",
}

_DO_NOT_SEND_RETAINED = 2


class BridgeError(ContinuumError):
    """The MQTT broker refuses us for good."""

    exit_code = 1


@dataclass(frozen=True)
class Broker:
    """How to reach an MQTT broker.

    Parameters
    ----------
    host, port
        Its address.
    client_id
        Names the session that it keeps for us.
    username, password
        None where it asks for none.
    tls
        None for plain TCP.
    """

    host: str
    port: int
    client_id: str
    username: str | None = None
    password: str | None = None
    tls: ssl.SSLContext | None = None

    def client(self, inbox: Inbox) -> Client:
        """Make a client that acknowledges nothing by itself."""
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = SESSION_SECONDS
        properties.ReceiveMaximum = WINDOW
        client = Client(
            self.host,
            self.port,
            identifier=self.client_id,
            username=self.username,
            password=self.password,
            tls_context=self.tls,
            protocol=ProtocolVersion.V5,
            clean_start=False,
            properties=properties,
            keepalive=KEEPALIVE_SECONDS,
            timeout=ANSWER_SECONDS,
            queue_type=cast("Any", lambda maxsize: inbox),  # noqa: ARG005 - a queue's own signature
        )
        # aiomqtt has no such option yet. Before connecting, as a broker sends what it has kept at once.
        client._client.manual_ack_set(True)  # noqa: SLF001
        return client


class Bridge:
    """Carries messages from an MQTT broker to Kafka until it is told to stop.

    Parameters
    ----------
    broker
        Where they come from.
    pattern
        Topics to subscribe to, with QoS 1.
    forwarder
        Sends them on.
    linger
        How long a message may wait for others to share a frame with, s.
    """

    def __init__(self, broker: Broker, pattern: str, forwarder: Forwarder, *, linger: float) -> None:
        self._broker = broker
        self._pattern = pattern
        self._forwarder = forwarder
        self._linger = linger
        self._inbox = Inbox()
        self._dropped_before = 0
        self.connected = False
        self.connections = 0

    @property
    def dropped(self) -> int:
        """Messages of QoS 0 that found no room."""
        return self._dropped_before + self._inbox.dropped

    @property
    def waiting(self) -> int:
        """Messages that nobody has looked at yet."""
        return self._inbox.qsize()

    async def run(self, stop: asyncio.Event) -> bool:
        """Carry messages until told to stop; what was received is then sent on and acknowledged.

        Returns
        -------
        Whether all of it was, in time; what was not, the broker keeps, if it came with QoS 1.

        Raises
        ------
        BridgeError
            The broker refuses us for good.
        """
        running = asyncio.ensure_future(self._run(stop))
        stopped = asyncio.ensure_future(stop.wait())
        await asyncio.wait({running, stopped}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        done, _ = await asyncio.wait({running}, timeout=STOP_SECONDS)
        if done:
            running.result()
        else:
            running.cancel()
            await asyncio.wait({running})
        return bool(done)

    async def _run(self, stop: asyncio.Event) -> None:
        broker, short = self._broker, 0
        while not stop.is_set():
            self._dropped_before += self._inbox.dropped
            self._inbox = Inbox()
            before, began = self.connections, time.monotonic()
            try:
                async with broker.client(self._inbox) as client:
                    await self._subscribe(client)
                    await self._carry(client, stop)
            except MqttError as error:
                self._refuse_final(error)
                logger.warning("MQTT at %s:%d: %s. Connecting again", broker.host, broker.port, _said(error))
            finally:
                self.connected = False
            short = 0 if time.monotonic() - began > LIFE_SECONDS else short + 1
            if short == SHORT_LIVES and self.connections > before:
                # Not all brokers say it.
                logger.warning(
                    "connections are lost as soon as made: does another bridge have the id %s?", broker.client_id
                )
            if not stop.is_set():
                pause = min(FIRST_PAUSE * 2**short, LONGEST_PAUSE) * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), pause)

    async def _subscribe(self, client: Client) -> None:
        # Not those retained: they are sent again with each subscription, and would be late.
        options = SubscribeOptions(qos=1, retainHandling=_DO_NOT_SEND_RETAINED)
        (code,) = await client.subscribe(self._pattern, options=options)
        value = code.value if isinstance(code, ReasonCode) else code
        if value >= 128:
            raise BridgeError(
                f"MQTT at {self._broker.host}:{self._broker.port} does not let us subscribe to {self._pattern!r}"
                f" ({code}): {_FINAL.get(value, 'check the filter, and the rights of the user')}"
            )
        if value < 1:
            logger.warning("the broker grants QoS 0 only: what is sent while the bridge is away is lost")
        self.connected = True
        self.connections += 1
        logger.info("subscribed to %s at %s:%d", self._pattern, self._broker.host, self._broker.port)

    async def _carry(self, client: Client, stop: asyncio.Event) -> None:
        stopped = asyncio.ensure_future(stop.wait())
        try:
            while not stop.is_set():
                # Raises where the connection is lost, once all that came before has been given.
                first = asyncio.ensure_future(anext(client.messages))
                await asyncio.wait({first, stopped}, return_when=asyncio.FIRST_COMPLETED)
                if not first.done():
                    first.cancel()
                    break
                message = first.result()
                await self._inbox.fill(self._linger)
                await self._pass_on(client, [message, *self._inbox.batch()])
            while batch := self._inbox.batch():
                await self._pass_on(client, batch)
        finally:
            stopped.cancel()

    async def _pass_on(self, client: Client, batch: Sequence[Message]) -> None:
        await self._forwarder.forward([(str(message.topic), message.payload) for message in batch])
        # In the order received, as MQTT wants it. Where the connection is lost, this does nothing.
        for message in batch:
            if message.qos:
                client._client.ack(message.mid, message.qos)  # noqa: SLF001

    def _refuse_final(self, error: MqttError) -> None:
        code = _code(error)
        if code in _FINAL:
            raise BridgeError(
                f"MQTT at {self._broker.host}:{self._broker.port} refuses {self._broker.client_id!r}"
                f" ({_said(error)}): {_FINAL[code]}"
            ) from error


def _code(error: BaseException) -> int | None:
    code = getattr(error, "rc", None)
    if isinstance(code, ReasonCode):
        return int(code.value)
    return None if error.__cause__ is None else _code(error.__cause__)


def _said(error: MqttError) -> str:
    return str(error.__cause__ or error)
