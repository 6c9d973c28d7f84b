"""Connection settings come from the environment, reach the clients, and keep their secrets."""

import pytest
from pydantic import ValidationError

from model_server.settings import ServerSettings
from schemas.settings import KafkaSettings, RedisSettings, RegistrySettings
from schemas.validation import EventLimits
from streams.settings import WorkerSettings


def test_sasl_and_tls_reach_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHRONOTOPE_KAFKA_SECURITY_PROTOCOL", "SASL_SSL")
    monkeypatch.setenv("CHRONOTOPE_KAFKA_SASL_MECHANISM", "SCRAM-SHA-512")
    monkeypatch.setenv("CHRONOTOPE_KAFKA_SASL_USERNAME", "reader")
    monkeypatch.setenv("CHRONOTOPE_KAFKA_SASL_PASSWORD", "hunter2")
    config = KafkaSettings().confluent()
    assert config["security.protocol"] == "SASL_SSL"
    assert config["sasl.mechanism"] == "SCRAM-SHA-512"
    assert config["sasl.password"] == "hunter2"


def test_secrets_are_not_shown() -> None:
    shown = [
        repr(KafkaSettings(sasl_password="hunter2")),
        repr(RedisSettings(url="redis://:hunter2@127.0.0.1:6379/0")),
        repr(RegistrySettings(url="http://127.0.0.1", password="hunter2")),
    ]
    assert not any("hunter2" in text for text in shown)


def test_unknown_protocol_is_refused() -> None:
    with pytest.raises(ValidationError, match="security_protocol"):
        KafkaSettings(security_protocol="TELNET")


def test_every_setting_says_what_it_is() -> None:
    for settings in (KafkaSettings, RedisSettings, RegistrySettings):
        for name, field in settings.model_fields.items():
            assert field.description, f"{settings.__name__}.{name}"


def test_plaintext_needs_no_tls_context() -> None:
    assert KafkaSettings().ssl_context() is None
    assert KafkaSettings(security_protocol="SASL_PLAINTEXT", sasl_mechanism="PLAIN").ssl_context() is None
    assert KafkaSettings(security_protocol="SASL_SSL").ssl_context() is not None


def test_workers_and_servers_accept_the_same_events(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHRONOTOPE_EVENT_ACTION_WEIGHTS", '{"like": 4}')
    monkeypatch.setenv("CHRONOTOPE_EVENT_MAX_AHEAD_S", "60")
    accepted = EventLimits(action_weights={"like": 4.0}, max_ahead_ms=60_000)
    assert WorkerSettings().mining(4).limits == ServerSettings().events.limits() == accepted
