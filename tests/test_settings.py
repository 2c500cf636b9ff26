"""Settings: read from the environment, checked, never silently wrong, and never shown with their secrets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import SecretStr

from app.cli.config import config
from app.settings import Settings, SettingsError, as_environment, load_settings


def test_defaults(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load_settings()
    assert settings.datadir == Path(".continuum")
    assert settings.kafka_bootstrap is None
    assert settings.tiers == ("rt", "nrt", "batch")
    assert settings.group_id == "continuum"
    assert settings.web_host == "127.0.0.1"
    assert (settings.checkpoint_seconds, settings.checkpoint_messages) == (10.0, 100)


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
        ("TIERS", "rt,fast", "CONTINUUM_TIERS"),
        ("TIERS", "", "CONTINUUM_TIERS"),
        ("REDIS_URL", "http://127.0.0.1", "scheme 'http'.*redis://"),
        ("WEB_PORT", "70000", "CONTINUUM_WEB_PORT=70000"),
        ("CHECKPOINT_SECONDS", "0", "CONTINUUM_CHECKPOINT_SECONDS=0.*greater than 0"),
        ("APP_ID", "ward 7", "'ward 7' may hold only"),
        ("KAFKA_SECURITY_PROTOCOL", "TLS", "CONTINUUM_KAFKA_SECURITY_PROTOCOL=TLS.*SASL_SSL"),
        ("KAFKA_SECURITY_PROTOCOL", "SASL_SSL", "needs CONTINUUM_KAFKA_SASL_USERNAME and CONTINUUM_KAFKA_SASL_PASS"),
        ("KAFKA_BOOTSTRP", "x:1", "unknown setting CONTINUUM_KAFKA_BOOTSTRP: did you mean CONTINUUM_KAFKA_BOOTSTRAP?"),
        ("ZZZ", "1", "unknown setting CONTINUUM_ZZZ: `continuum config` lists"),
    ],
)
def test_refusals_name_the_variable_and_the_remedy(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, text: str
) -> None:
    monkeypatch.setenv(f"CONTINUUM_{name}", value)
    with pytest.raises(SettingsError, match=text):
        load_settings()


def test_secrets_are_not_in_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTINUUM_REDIS_URL", "http://user:hunter2@host")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert "hunter2" not in str(caught.value)


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


def test_every_setting_says_what_it_means() -> None:
    assert all(field.description for field in Settings.model_fields.values())
