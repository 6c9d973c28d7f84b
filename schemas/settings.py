"""Settings that several processes share, read from the environment (12-factor): ``CHRONOTOPE_KAFKA_*`` and others."""

import ssl
from typing import Any

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from schemas.partitioning import CONFLUENT_PARTITIONER
from schemas.validation import DEFAULT_ACTION_WEIGHTS, EventLimits


class KafkaSettings(BaseSettings):
    """How to reach Kafka; SASL and TLS are passed through to both clients.

    >>> KafkaSettings(bootstrap="127.0.0.1:9092").confluent()["bootstrap.servers"]
    '127.0.0.1:9092'
    """

    model_config = SettingsConfigDict(
        env_prefix="CHRONOTOPE_KAFKA_", frozen=True, extra="forbid", hide_input_in_errors=True
    )

    bootstrap: str = Field("127.0.0.1:9092", description="Broker addresses, host:port, comma-separated.")
    security_protocol: str = Field(
        "PLAINTEXT",
        pattern="^(PLAINTEXT|SSL|SASL_PLAINTEXT|SASL_SSL)$",
        description="PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL.",
    )
    sasl_mechanism: str | None = Field(None, description="PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512.")
    sasl_username: str | None = Field(None, description="SASL user name.")
    sasl_password: SecretStr | None = Field(None, description="SASL password.")
    ssl_ca_file: str | None = Field(None, description="PEM file of the certificate authorities to trust.")
    ssl_cert_file: str | None = Field(None, description="PEM file of the client certificate (mutual TLS).")
    ssl_key_file: str | None = Field(None, description="PEM file of the client key (mutual TLS).")
    partitions: int | None = Field(
        None, ge=1, description="Partitions of the topics that we create, fixed from then on; unset: as declared (4)."
    )
    replication_factor: int = Field(1, ge=1, description="Replication factor of the topics that we create.")

    def confluent(self) -> dict[str, Any]:
        """The base configuration of a confluent-kafka client (librdkafka names)."""
        config: dict[str, Any] = {"bootstrap.servers": self.bootstrap, "security.protocol": self.security_protocol}
        optional = {
            "sasl.mechanism": self.sasl_mechanism,
            "sasl.username": self.sasl_username,
            "sasl.password": self.sasl_password.get_secret_value() if self.sasl_password else None,
            "ssl.ca.location": self.ssl_ca_file,
            "ssl.certificate.location": self.ssl_cert_file,
            "ssl.key.location": self.ssl_key_file,
        }
        return config | {name: value for name, value in optional.items() if value is not None}

    def confluent_producer(self) -> dict[str, Any]:
        """The configuration of a producer that agrees with every other client on partitions and loses nothing."""
        return (
            self.confluent()
            | CONFLUENT_PARTITIONER
            | {"enable.idempotence": True, "linger.ms": 5, "compression.type": "lz4"}
        )

    def aiokafka(self) -> dict[str, Any]:
        """The base configuration of an aiokafka client.

        >>> KafkaSettings(bootstrap="127.0.0.1:9092").aiokafka()["bootstrap_servers"]
        '127.0.0.1:9092'
        """
        config: dict[str, Any] = {
            "bootstrap_servers": self.bootstrap, "security_protocol": self.security_protocol,
            "ssl_context": self.ssl_context(),
        }  # fmt: skip
        if not self.security_protocol.startswith("SASL"):
            return config
        return config | {
            "sasl_mechanism": self.sasl_mechanism or "PLAIN",
            "sasl_plain_username": self.sasl_username,
            "sasl_plain_password": self.sasl_password.get_secret_value() if self.sasl_password else None,
        }

    def ssl_context(self) -> ssl.SSLContext | None:
        """The TLS context for clients that take one (aiokafka); None without TLS."""
        if "SSL" not in self.security_protocol.split("_"):
            return None
        context = ssl.create_default_context(cafile=self.ssl_ca_file)
        if self.ssl_cert_file:
            context.load_cert_chain(self.ssl_cert_file, self.ssl_key_file)
        return context


class EventSettings(BaseSettings):
    """Which events are acceptable; workers and model servers must be told the same.

    >>> EventSettings().limits().max_ahead_ms
    86400000
    """

    model_config = SettingsConfigDict(
        env_prefix="CHRONOTOPE_EVENT_", frozen=True, extra="forbid", hide_input_in_errors=True
    )

    action_weights: dict[str, float] = Field(
        default_factory=lambda: dict(DEFAULT_ACTION_WEIGHTS),
        description="Weight of each action; events with any other action are rejected.",
    )
    max_bytes: int = Field(1_048_576, ge=1_024, description="Larger events are rejected.")
    max_ahead_s: float = Field(
        86_400.0, ge=0, description="Events further ahead of their record's time than this are rejected."
    )

    def limits(self) -> EventLimits:
        """The bounds of an acceptable event."""
        return EventLimits(
            max_bytes=self.max_bytes, max_ahead_ms=int(self.max_ahead_s * 1000), action_weights=self.action_weights
        )


class PseudonymSettings(BaseSettings):
    """How our own producers turn user ids into pseudonyms, where they are told to.

    >>> PseudonymSettings(key="swordfish").key
    SecretStr('**********')
    """

    model_config = SettingsConfigDict(
        env_prefix="CHRONOTOPE_PSEUDONYM_", frozen=True, extra="forbid", hide_input_in_errors=True
    )

    key: SecretStr | None = Field(
        None,
        min_length=1,
        description="Key of the HMAC; whoever has it can tell whether an id is that of a given user.",
    )


class RedisSettings(BaseSettings):
    """How to reach Redis; ``rediss://`` turns TLS on.

    >>> RedisSettings().key_prefix
    'chronotope:'
    """

    model_config = SettingsConfigDict(
        env_prefix="CHRONOTOPE_REDIS_", frozen=True, extra="forbid", hide_input_in_errors=True
    )

    url: SecretStr = Field(
        SecretStr("redis://127.0.0.1:6379/0"), description="redis:// or rediss:// address, with credentials."
    )
    ssl_ca_file: str | None = Field(None, description="PEM file of the certificate authorities to trust.")
    key_prefix: str = Field("chronotope:", description="Prefix of every key that we write.")
    timeout_s: float = Field(2.0, gt=0, description="Socket timeout in seconds.")


class RegistrySettings(BaseSettings):
    """Where the schema registry is; without a URL events are read as JSON only.

    >>> RegistrySettings().client_config() is None
    True
    """

    model_config = SettingsConfigDict(
        env_prefix="CHRONOTOPE_REGISTRY_", frozen=True, extra="forbid", hide_input_in_errors=True
    )

    url: str | None = Field(None, description="Schema registry address; unset: Avro is not read.")
    username: str | None = Field(None, description="User name for basic authentication.")
    password: SecretStr | None = Field(None, description="Password for basic authentication.")
    ssl_ca_file: str | None = Field(None, description="PEM file of the certificate authorities to trust.")

    def client_config(self) -> dict[str, Any] | None:
        """The configuration of confluent-kafka's SchemaRegistryClient; None if no registry is configured."""
        if self.url is None:
            return None
        config: dict[str, Any] = {"url": self.url}
        if self.username is not None:
            password = self.password.get_secret_value() if self.password else ""
            config["basic.auth.user.info"] = f"{self.username}:{password}"
        if self.ssl_ca_file is not None:
            config["ssl.ca.location"] = self.ssl_ca_file
        return config
