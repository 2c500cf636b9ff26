"""How every Kafka client of ours reaches the brokers: addresses, TLS and SASL from the settings."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Protocol, TypeVar

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaConnectionError

from app.errors import ContinuumError
from app.settings import PREFIX, Settings

_REMEDY = f"start the embedded one with `continuum up`, or name your own in {PREFIX}KAFKA_BOOTSTRAP"


class BrokerError(ContinuumError):
    """No Kafka is configured, or none answers."""


class Client(Protocol):
    """What aiokafka's producers and consumers have in common."""

    async def start(self) -> None: ...  # noqa: D102
    async def stop(self) -> None: ...  # noqa: D102


AnyClient = TypeVar("AnyClient", bound=Client)


def client_options(settings: Settings) -> dict[str, Any]:
    """Give the keyword arguments of aiokafka's clients that say how to reach the brokers.

    Raises
    ------
    BrokerError
        No brokers are configured, or a certificate cannot be read.
    """
    if settings.kafka_bootstrap is None:
        raise BrokerError(f"no Kafka is configured; {_REMEDY}")
    options: dict[str, Any] = {
        "bootstrap_servers": settings.kafka_bootstrap,
        "security_protocol": settings.kafka_security_protocol,
    }
    if settings.kafka_security_protocol.endswith("SSL"):
        options["ssl_context"] = _ssl_context(settings)
    if settings.kafka_security_protocol.startswith("SASL") and settings.kafka_sasl_password is not None:
        options["sasl_mechanism"] = settings.kafka_sasl_mechanism
        options["sasl_plain_username"] = settings.kafka_sasl_username
        options["sasl_plain_password"] = settings.kafka_sasl_password.get_secret_value()
    return options


@asynccontextmanager
async def admin_client(settings: Settings) -> AsyncIterator[AIOKafkaAdminClient]:
    """Give an admin client for the time of a `with` block.

    Raises
    ------
    BrokerError
        None of the brokers answers.
    """
    admin = AIOKafkaAdminClient(**client_options(settings))
    try:
        await admin.start()
        yield admin
    except KafkaConnectionError as error:
        raise _unreachable(settings) from error
    finally:
        await admin.close()


def _unreachable(settings: Settings) -> BrokerError:
    return BrokerError(f"no Kafka answers at {settings.kafka_bootstrap}; {_REMEDY}")


def _ssl_context(settings: Settings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.kafka_ssl_cafile)
        if settings.kafka_ssl_certfile is not None:
            context.load_cert_chain(settings.kafka_ssl_certfile, settings.kafka_ssl_keyfile)
    except OSError as error:
        files = (settings.kafka_ssl_cafile, settings.kafka_ssl_certfile, settings.kafka_ssl_keyfile)
        raise BrokerError(
            f"cannot read the certificates {', '.join(str(file) for file in files if file)} ({error});"
            f" expected PEM files in {PREFIX}KAFKA_SSL_CAFILE, _CERTFILE and _KEYFILE"
        ) from error
    return context


async def start(client: Client, settings: Settings) -> None:
    """Start a client, and end it again where that fails or is cancelled.

    Raises
    ------
    BrokerError
        None of the brokers answers.
    """
    try:
        await client.start()
    except BaseException as error:
        await client.stop()
        if isinstance(error, KafkaConnectionError):
            raise _unreachable(settings) from error
        raise


@asynccontextmanager
async def started(client: AnyClient, settings: Settings) -> AsyncIterator[AnyClient]:
    """Start a client for the time of a `with` block; on leaving it, a producer has sent all it was given.

    Raises
    ------
    BrokerError
        None of the brokers answers.
    """
    await start(client, settings)
    try:
        yield client
    finally:
        await client.stop()
