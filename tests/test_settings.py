"""Settings: read from the environment, checked, never silently wrong, and never shown with their secrets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import SecretStr

from app.cli.config import config
from app.services import given_addresses
from app.settings import PREFIX, Settings, SettingsError, as_environment, load_settings


def test_defaults(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load_settings()
    assert settings.datadir == Path(".continuum")
    assert settings.kafka_bootstrap is None
    assert settings.tiers == ("rt", "nrt", "batch")
    assert settings.group_id == "continuum"
    assert settings.web_host == "127.0.0.1"
    assert (settings.checkpoint_seconds, settings.checkpoint_messages, settings.idle_after) == (None, None, None)


@pytest.mark.parametrize(
    ("tiers", "group"),
    [("rt", "x-rt"), ("nrt,rt", "x-rt-nrt"), ("rt, nrt ,batch", "x"), ("batch", "x-batch")],
)
def test_some_tiers_are_a_group_of_their_own(monkeypatch: pytest.MonkeyPatch, tiers: str, group: str) -> None:
    monkeypatch.setenv("CONTINUUM_TIERS", tiers)
    monkeypatch.setenv("CONTINUUM_APP_ID", "x")
    assert load_settings().group_id == group


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("TIERS", "rt,fast", "^CONTINUUM_TIERS=fast: Input should be 'rt', 'nrt' or 'batch'$"),
        ("TIERS", "fast", "^CONTINUUM_TIERS=fast: Input should be 'rt', 'nrt' or 'batch'$"),
        ("TIERS", ",", "^CONTINUUM_TIERS=,: expected one or more of rt, nrt, batch, each once, with commas between"),
        ("TIERS", "rt, rt", "^CONTINUUM_TIERS=rt, rt: expected one or more of rt, nrt, batch, each once"),
        ("INSTANCE", "..", "CONTINUUM_INSTANCE=..: '..' may hold only .*begins with a letter or a digit"),
        ("INSTANCE", "ward-7/../..", "may hold only"),
        ("TOPIC_PREFIX", "-x", "begins with a letter or a digit"),
        ("CHECKPOINT_SECONDS", "inf", "CONTINUUM_CHECKPOINT_SECONDS=inf: .*finite number"),
        ("SESSION_TIMEOUT", "nan", "CONTINUUM_SESSION_TIMEOUT=nan: .*finite number"),
        ("REDIS_URL", ":hunter2@host", r"^CONTINUUM_REDIS_URL=\*+: no scheme: expected redis://"),
        ("REDIS_URL", "http://127.0.0.1", "scheme 'http'.*redis://"),
        ("REDIS_URL", "redis+cluster://a:1,b", "node 'b': expected redis.cluster://host:port"),
        ("REDIS_URL", "rediss+cluster://", "node '': expected rediss.cluster://host:port"),
        ("WEB_PORT", "70000", "CONTINUUM_WEB_PORT=70000"),
        ("CHECKPOINT_SECONDS", "0", "CONTINUUM_CHECKPOINT_SECONDS=0.*greater than 0"),
        ("APP_ID", "ward 7", "'ward 7' may hold only"),
        ("KAFKA_SECURITY_PROTOCOL", "TLS", "CONTINUUM_KAFKA_SECURITY_PROTOCOL=TLS.*SASL_SSL"),
        ("KAFKA_SECURITY_PROTOCOL", "SASL_SSL", "needs CONTINUUM_KAFKA_SASL_USERNAME and CONTINUUM_KAFKA_SASL_PASS"),
        ("KAFKA_BOOTSTRP", "x:1", "unknown setting CONTINUUM_KAFKA_BOOTSTRP: did you mean CONTINUUM_KAFKA_BOOTSTRAP?"),
        ("WEB_TOKEN", "too-short", r"^CONTINUUM_WEB_TOKEN=\*+: expected 16 or more visible ASCII characters"),
        ("ZZZ", "1", "unknown setting CONTINUUM_ZZZ: `continuum config` lists"),
    ],
)
def test_refusals_name_the_variable_and_the_remedy(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, text: str
) -> None:
    monkeypatch.setenv(f"CONTINUUM_{name}", value)
    with pytest.raises(SettingsError, match=text):
        load_settings()


def test_an_empty_variable_is_an_unset_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As in a compose file that hands on what may not be there."""
    monkeypatch.chdir(tmp_path)
    unset = load_settings()
    for name in Settings.model_fields:
        monkeypatch.setenv(f"{PREFIX}{name.upper()}", "")
    assert load_settings() == unset
    assert given_addresses() == []


def test_secrets_are_not_in_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTINUUM_REDIS_URL", "http://user:hunter2@host")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert "hunter2" not in str(caught.value)
    monkeypatch.setenv("CONTINUUM_REDIS_URL", "redis+cluster://user:hunter2@host")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["redis+cluster", "rediss+cluster"])
def test_the_password_of_a_cluster_is_masked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], scheme: str
) -> None:
    monkeypatch.setenv("CONTINUUM_REDIS_URL", f"{scheme}://me:hunter2@one.example:1,two.example:2")
    config(as_json=True)
    shown = json.loads(capsys.readouterr().out)["CONTINUUM_REDIS_URL"]
    assert shown == f"{scheme}://me:********@one.example:1,two.example:2"


def test_embedded_services_stand_in_for_what_is_not_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "services.json").write_text(
        json.dumps({"kafka_bootstrap": "127.0.0.1:1", "redis_url": "redis://127.0.0.1:2/0"})
    )
    monkeypatch.setenv("CONTINUUM_DATADIR", str(tmp_path))
    monkeypatch.setenv("CONTINUUM_KAFKA_BOOTSTRAP", "kafka.example:9092,kafka2.example:9092")
    settings = load_settings()
    assert settings.kafka_bootstrap == "kafka.example:9092,kafka2.example:9092"
    assert settings.redis_url == SecretStr("redis://127.0.0.1:2/0")


def test_another_process_gets_the_same_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = load_settings(
        kafka_bootstrap="127.0.0.1:1",
        redis_url="redis://:secret@127.0.0.1:2/0",
        redis_password="secret",
        tiers=("rt",),
        web_port=7000,
        datadir=tmp_path,
        checkpoint_seconds=0.5,
    )
    for name, value in as_environment(settings).items():
        monkeypatch.setenv(name, value)
    assert load_settings() == settings


def test_config_masks_secrets(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("CONTINUUM_REDIS_URL", "rediss://reader:hunter2@cache.example:6380/1")
    monkeypatch.setenv("CONTINUUM_REDIS_PASSWORD", "hunter3")
    monkeypatch.setenv("CONTINUUM_KAFKA_SASL_PASSWORD", "hunter4")
    monkeypatch.setenv("CONTINUUM_WEB_TOKEN", "hunter5-hunter5-hunter5")
    monkeypatch.setenv("CONTINUUM_MQTT_PASSWORD", "hunter6")
    config(as_json=True)
    printed = capsys.readouterr().out
    assert "hunter" not in printed
    shown = json.loads(printed)
    assert shown["CONTINUUM_REDIS_URL"] == "rediss://reader:********@cache.example:6380/1"
    assert shown["CONTINUUM_TIERS"] == "rt,nrt,batch"
    assert set(shown) == {f"CONTINUUM_{name.upper()}" for name in Settings.model_fields}
    config(as_json=False)
    table = capsys.readouterr().out
    assert "hunter" not in table
    assert "CONTINUUM_CHECKPOINT_SECONDS" in table


def test_config_says_what_is_in_force_on_each_tier(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CONTINUUM_TIERS", "rt,batch")
    monkeypatch.setenv("CONTINUUM_CHECKPOINT_MESSAGES", "7")
    config(as_json=True)
    shown = json.loads(capsys.readouterr().out)
    assert shown["CONTINUUM_CHECKPOINT_SECONDS"] == {"rt": 10.0, "batch": 5.0}
    assert shown["CONTINUUM_IDLE_AFTER"] == {"rt": 600.0, "batch": 10.0}
    assert shown["CONTINUUM_CHECKPOINT_MESSAGES"] == 7
    config(as_json=False)
    assert "rt 10, batch 5" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://cache:6380/1?db=2", "redis://cache:6380/1?db=2"),
        ("redis://cache/0?password=hunter2", "redis://cache/0?password=********"),
        ("redis://cache/0?db=1&PASSWORD=hun@ter2&x=1", "redis://cache/0?db=1&PASSWORD=********&x=1"),
        ("rediss://cache/0?ssl_password=hunter2", "rediss://cache/0?ssl_password=********"),
        ("redis://cache/0?pass%77ord=hunter2", "redis://cache/0?pass%77ord=********"),
        ("redis://:hunter2@cache/0?password=hunter2", "redis://:********@cache/0?password=********"),
        ("redis://reader:hun@ter:2@cache/0", "redis://reader:********@cache/0"),
        ("redis://:hun/ter#2?@cache/0", "redis://:********@cache/0"),
        ("redis://hunter2@cache/0", "redis://********@cache/0"),
        ("unix://reader:hunter2@/run/redis.sock?db=1", "unix://reader:********@/run/redis.sock?db=1"),
    ],
)
def test_config_masks_a_password_wherever_an_address_has_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], url: str, shown: str
) -> None:
    monkeypatch.setenv("CONTINUUM_REDIS_URL", url)
    config(as_json=True)
    assert json.loads(capsys.readouterr().out)["CONTINUUM_REDIS_URL"] == shown


def test_every_setting_says_what_it_means() -> None:
    assert all(field.description for field in Settings.model_fields.values())
