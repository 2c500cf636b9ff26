"""Settings of the application: environment variables with the prefix ``CONTINUUM_``.

Everything the application can be told is a field here; names that are not are refused, so that a typing
error never silently leaves a default in force. ``continuum config`` prints what is in force.
"""

from __future__ import annotations

import difflib
import json
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app.errors import ContinuumError

PREFIX = "CONTINUUM_"
ENDPOINTS_FILE = "services.json"

TierName = Literal["rt", "nrt", "batch"]
TIERS: tuple[TierName, ...] = ("rt", "nrt", "batch")


class SettingsError(ContinuumError):
    """A setting has a bad value or an unknown name."""


def _tier_names(value: object) -> object:
    if not isinstance(value, str):
        return value
    names = tuple(part.strip() for part in value.split(",") if part.strip())
    if not names or len(set(names)) < len(names):
        raise ValueError(f"expected one or more of {', '.join(TIERS)}, each once, with commas between them")
    return names


def tiers_in(text: str) -> tuple[TierName, ...] | None:
    """Read names of tiers with commas between; None where one is no tier's, or comes twice."""
    names = tuple(part.strip() for part in text.split(",") if part.strip())
    if len(set(names)) < len(names) or not set(names) <= set(TIERS):
        return None
    return cast("tuple[TierName, ...]", names)


def _plain_name(value: str) -> str:
    # The names become parts of topic names, group ids, client ids and folders, of which "." and ".." are others.
    if value and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", value):
        raise ValueError(
            f"{value!r} may hold only ASCII letters, digits, '.', '_' and '-', and begins with a letter or a digit"
        )
    return value


def _redis_scheme(value: SecretStr) -> SecretStr:
    scheme, separator, rest = value.get_secret_value().partition("://")
    if scheme not in {"redis", "rediss", "unix", "redis+cluster", "rediss+cluster"}:
        # Without a separator the text is not a scheme but whatever was typed, a password among it.
        found = f"scheme {scheme!r}" if separator else "no scheme"
        raise ValueError(f"{found}: expected redis://, rediss:// (TLS), redis+cluster://, rediss+cluster:// or unix://")
    if scheme.endswith("+cluster"):
        for address in rest.rpartition("@")[2].removesuffix("/").split(","):
            host, _, port = address.rpartition(":")
            if not host or not port.isdecimal():
                raise ValueError(f"node {address!r}: expected {scheme}://host:port[,host:port...]")
    return value


def _token(value: SecretStr) -> SecretStr:
    if not re.fullmatch(r"[!-~]{16,}", value.get_secret_value()):
        raise ValueError("expected 16 or more visible ASCII characters, as `openssl rand -hex 32` makes them")
    return value


PlainName = Annotated[str, AfterValidator(_plain_name)]


class Settings(BaseSettings):
    """What the application was told, validated; a variable that is empty counts as unset.

    Raises
    ------
    SettingsError
        From `load_settings`, naming the variable, its value and what is allowed.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, frozen=True, extra="forbid", allow_inf_nan=False
    )

    kafka_bootstrap: str | None = Field(
        None, description="brokers, host:port[,host:port...]; else those of `continuum up`"
    )
    redis_url: Annotated[SecretStr, AfterValidator(_redis_scheme)] | None = Field(
        None, description="redis://, rediss://, redis[s]+cluster:// or unix:// address; else that of `continuum up`"
    )
    datadir: Path = Field(Path(".continuum"), description="folder of tables, embedded services and logs")
    instance: PlainName | None = Field(
        None, description="static member name of this worker; else kept in the data folder"
    )
    tiers: Annotated[tuple[TierName, ...], NoDecode, BeforeValidator(_tier_names)] = Field(
        TIERS, description="tiers whose agents this worker runs"
    )
    pipelines: Path | None = Field(
        None, description="folder of TOML files, a pipeline each, beside the shipped ones or in their place"
    )
    shadow: bool = Field(
        False,
        description="sensors of a changed pipeline run the old one until the new one, beside it, has settled",
    )
    app_id: PlainName = Field("continuum", min_length=1, description="consumer group, and prefix of changelog topics")
    topic_prefix: PlainName = Field("", description="goes before every topic name and Redis key")
    replication_factor: int | None = Field(
        None, ge=1, description="of topics we create; else 3, or the number of brokers if fewer"
    )

    web_host: str = Field("127.0.0.1", description="address the web pages listen on")
    web_port: int | None = Field(
        None, ge=1, le=65535, description="port of the web pages; else the first free one from 6066"
    )

    web_token: Annotated[SecretStr, AfterValidator(_token)] | None = Field(
        None, description="who sends blocks over HTTP names it; without one only this machine may send"
    )

    checkpoint_seconds: float | None = Field(
        None, gt=0, description="longest time between a partition's checkpoints, s; else each tier's own"
    )
    checkpoint_messages: int | None = Field(
        None,
        ge=1,
        description="messages of one sensor after which its partition is checkpointed; else each tier's own",
    )
    handoff_wait: float = Field(
        2.0, gt=0, description="longest wait for another tier to give up a sensor before the gap policy applies, s"
    )
    idle_after: float | None = Field(
        None,
        gt=0,
        description="a sensor without a block for this long is released and leaves memory, s; else each tier's own",
    )
    function_warm: bool = Field(
        False,
        description="the function keeps sensors in memory between events; with provisioned concurrency it always does",
    )
    function_partial_response: bool = Field(
        True,
        description=(
            "the function's caller asks for ReportBatchItemFailures; else a message that failed fails the whole event"
        ),
    )
    shutdown_seconds: float = Field(
        10.0, gt=0, description="a worker that has not stopped this long after SIGTERM exits with 1"
    )
    session_timeout: float = Field(6.0, gt=0, description="a silent worker's partitions move on after this long, s")
    rebalance_timeout: float = Field(60.0, gt=0, description="longest time a worker has to hand over its partitions, s")
    watchdog_seconds: float = Field(
        60.0,
        gt=0,
        description="a worker whose lag grows, with no commit for this long after it was due, exits with 1, s",
    )

    standby_replicas: int = Field(
        0,
        ge=0,
        description=(
            "workers that follow each partition's changelog beside its owner: they take over without reading it, and"
            " every state is sent and stored once more for each; the same for all workers of a group"
        ),
    )

    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="how to speak to the brokers"
    )
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "PLAIN", description="SASL mechanism"
    )
    kafka_sasl_username: str | None = Field(None, description="SASL user")
    kafka_sasl_password: SecretStr | None = Field(None, description="SASL password")
    kafka_ssl_cafile: Path | None = Field(
        None, description="certificate authority of the brokers, PEM; else the system's"
    )
    kafka_ssl_certfile: Path | None = Field(None, description="our certificate, PEM")
    kafka_ssl_keyfile: Path | None = Field(None, description="our private key, PEM")
    redis_password: SecretStr | None = Field(None, description="password of Redis; else that of the address")
    redis_ssl_cafile: Path | None = Field(None, description="certificate authority of Redis, PEM; else the system's")
    mqtt_password: SecretStr | None = Field(None, description="password of `continuum bridge mqtt --username`")

    @model_validator(mode="after")
    def _sasl_is_whole(self) -> Settings:
        if self.kafka_security_protocol.startswith("SASL") and not (
            self.kafka_sasl_username and self.kafka_sasl_password
        ):
            raise ValueError(
                f"{PREFIX}KAFKA_SECURITY_PROTOCOL={self.kafka_security_protocol} needs"
                f" {PREFIX}KAFKA_SASL_USERNAME and {PREFIX}KAFKA_SASL_PASSWORD"
            )
        return self

    @property
    def group_id(self) -> str:
        """Consumer group: the app id, and the tiers' names where this worker runs only some of them."""
        if set(self.tiers) == set(TIERS):
            return self.app_id
        return "-".join((self.app_id, *(tier for tier in TIERS if tier in self.tiers)))

    def function_group(self, tier: TierName) -> str:
        """Consumer group of the function that processes a tier on demand."""
        return f"{self.app_id}-function-{tier}"


#: Settings that are never shown.
SECRETS = {name for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)}


def as_environment(settings: Settings) -> dict[str, str]:
    """Give the variables that make another process's settings the same."""
    variables = {}
    for name in Settings.model_fields:
        value = getattr(settings, name)
        if isinstance(value, SecretStr):
            value = value.get_secret_value()
        elif isinstance(value, tuple):
            value = ",".join(value)
        if value is not None:
            variables[PREFIX + name.upper()] = str(value)
    return variables


def load_settings(**overrides: Any) -> Settings:
    """Read the settings from the environment.

    Kafka and Redis addresses that nobody gave are those of the embedded services (`continuum up`) in the
    data folder, where these have been started.

    Parameters
    ----------
    **overrides
        Fields that take precedence over the environment.

    Raises
    ------
    SettingsError
        A variable has a bad value, or its name is not a setting's.
    """
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    for name in os.environ:
        if name.startswith(PREFIX) and name.upper() not in known:
            close = difflib.get_close_matches(name.removeprefix(PREFIX).lower(), Settings.model_fields, n=1)
            hint = f"did you mean {PREFIX}{close[0].upper()}?" if close else "`continuum config` lists the settings"
            raise SettingsError(f"unknown setting {name}: {hint}")
    try:
        settings = Settings(**overrides)
    except ValidationError as error:
        raise SettingsError(_explain(error)) from None
    endpoints = _embedded_endpoints(settings.datadir)
    missing = {name: value for name, value in endpoints.items() if getattr(settings, name) is None}
    return settings.model_copy(update=missing)


def _explain(error: ValidationError) -> str:
    lines = []
    for problem in error.errors():
        place = str(problem["loc"][0]) if problem["loc"] else ""
        value = "********" if place in SECRETS else problem["input"]
        shown = f"{PREFIX}{place.upper()}={value}: " if place else ""
        lines.append(shown + problem["msg"].removeprefix("Value error, "))
    return "; ".join(lines)


def _embedded_endpoints(datadir: Path) -> dict[str, str | SecretStr]:
    try:
        content = cast("dict[str, str]", json.loads((datadir / ENDPOINTS_FILE).read_text()))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    # Only one of them runs where the other is an external one.
    endpoints: dict[str, str | SecretStr] = {}
    if "kafka_bootstrap" in content:
        endpoints["kafka_bootstrap"] = content["kafka_bootstrap"]
    if "redis_url" in content:
        endpoints["redis_url"] = SecretStr(content["redis_url"])
    return endpoints
