"""The model server's settings, read from the environment (``CHRONOTOPE_SERVER_*``); every duration and size names its unit."""

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from schemas.settings import EventSettings, KafkaSettings, RedisSettings, RegistrySettings


class ServerSettings(BaseSettings):
    """Everything an operator can change about one instance of the model server.

    >>> ServerSettings(http_port=0).http_host
    '127.0.0.1'
    """

    model_config = SettingsConfigDict(
        env_prefix="CHRONOTOPE_SERVER_", frozen=True, extra="forbid", hide_input_in_errors=True
    )

    kafka: KafkaSettings = Field(default_factory=lambda: KafkaSettings(), description="How to reach Kafka.")
    redis: RedisSettings | None = Field(
        default_factory=lambda: RedisSettings(), description="How to reach Redis; null publishes to the topic alone."
    )
    registry: RegistrySettings = Field(
        default_factory=lambda: RegistrySettings(), description="Where the schema registry is, for events in Avro."
    )
    events: EventSettings = Field(default_factory=lambda: EventSettings(), description="Which events are acceptable.")

    group: str = Field("chronotope-server", min_length=1, description="Consumer group of all instances.")
    session_timeout_ms: int = Field(6_000, ge=1_000, description="Group session timeout in milliseconds.")
    consume_batch: int = Field(500, ge=1, le=100_000, description="Records taken from Kafka at a time.")
    consume_wait_s: float = Field(0.005, gt=0, le=1, description="Longest wait for records in seconds.")
    catch_up_timeout_s: float = Field(
        120.0, gt=0, description="Seconds to read the pattern and catalogue topics before the start is given up."
    )

    strategies: dict[str, float] = Field(
        {"fused": 1.0}, description="Share of the users that each strategy serves; the shares are normalised."
    )
    shadow: str | None = Field(None, description="Strategy that is computed and measured but never published.")
    interleave: bool = Field(
        False, description="Merge the rankings of the first two strategies for every user and credit them by clicks."
    )
    model_preset: Literal["", "nano", "small", "base", "large"] = Field(
        "nano", description="Preset of the sequence model; empty: the fusion goes without one."
    )
    device: str = Field("cpu", description="Torch device of the model: cpu, cuda, cuda:1.")
    torch_threads: int = Field(1, ge=1, description="Torch threads within one operation.")
    seed: int = Field(0, ge=0, description="Seed of everything random in the models.")
    learning_share: float = Field(
        0.2,
        ge=0,
        le=1,
        description="Share of the time that goes into learning while recommendations wait; a quarter of it while they come "
        "late or are many.",
    )
    most_untrained_events: int = Field(
        2_048, ge=1, description="Events that may wait to be learned; beyond that the oldest are only counted."
    )

    k: int = Field(10, ge=1, le=1_000, description="Items per recommendation.")
    reasons_per_item: int = Field(3, ge=0, le=20, description="Most reasons named per item.")
    ttl_s: float = Field(7 * 86_400.0, gt=0, description="Seconds, by the wall clock, until a recommendation expires.")
    exclude_seen: bool = Field(False, description="Never recommend what the user has already had.")
    learn_from_clicks: bool = Field(
        True, description="Learn from clicks on recommendations as from events (off: producers send both)."
    )
    dismissed_for_s: float = Field(30 * 86_400.0, ge=0, description="Seconds that a dismissed item stays blocked.")
    blocked_items: frozenset[str] = Field(frozenset(), description="Items that are never recommended to anybody.")
    diversity: float = Field(
        0.0, ge=0, lt=1, description="Weight of maximal marginal relevance against probability; 0 is off."
    )
    predictions: bool = Field(True, description="Publish what, where and when comes next for each active user.")

    max_batch: int = Field(256, ge=1, description="Users ranked in one batch.")
    refreshes_per_s: float | None = Field(
        None, gt=0, description="Budget of refreshes per second, requests aside; unset: as many as the machine can."
    )
    event_patience_s: float = Field(0.05, gt=0, description="Aim in seconds for a refresh after an event.")
    pattern_patience_s: float = Field(0.5, gt=0, description="Aim in seconds for a refresh after a pattern change.")
    pattern_pause_s: float = Field(
        0.5,
        ge=0,
        description="Least seconds between a user's refresh and the next one by a pattern of others (a crowd).",
    )
    own_pattern_pause_s: float = Field(
        10.0, ge=0, description="The same for the user's own patterns (profile, periods), which echo the user's events."
    )
    due_patience_s: float = Field(0.5, gt=0, description="Aim in seconds for a refresh before a due time.")
    due_lead_s: float = Field(3_600.0, ge=0, description="Seconds before a usual visit at which its user is refreshed.")
    request_max_age_s: float = Field(30.0, gt=0, description="Seconds after which a request is no longer answered.")
    max_users: int = Field(
        200_000, ge=1, description="Users remembered, some 20 kB each; the longest idle is forgotten first."
    )
    max_items: int = Field(
        2_000_000, ge=1, description="Items remembered; events and catalogue records of further ones are refused."
    )
    feedback_window_s: float = Field(
        3_600.0, gt=0, description="Seconds, by event time, in which an impression can be answered by a click."
    )

    http_host: str = Field("127.0.0.1", description="Address the HTTP server listens on.")
    http_port: int = Field(8080, ge=0, le=65_535, description="Port of the HTTP server; 0 takes a free one.")
    http_token: SecretStr | None = Field(None, description="Bearer token that look-ups must present; unset: none.")
    http_requests_per_s: float = Field(2_000.0, gt=0, description="Look-ups per second and client address.")
    http_max_body_bytes: int = Field(65_536, ge=0, description="Largest request body in bytes.")
    http_answer_timeout_s: float = Field(1.0, gt=0, description="Seconds that a look-up waits for a fresh answer.")

    checkpoint_dir: Path | None = Field(None, description="Directory of checkpoints; unset: none are kept.")
    checkpoint_every_s: float = Field(
        60.0,
        gt=0,
        description="Seconds between two checkpoints; more where copying the state would take over 2 % of them.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least severe log level.")

    @model_validator(mode="after")
    def _strategies_can_serve(self) -> "ServerSettings":
        if not self.strategies or min(self.strategies.values()) < 0 or sum(self.strategies.values()) <= 0:
            raise ValueError("strategies needs at least one strategy, no negative share, and a positive sum")
        if self.interleave and len(self.strategies) < 2:
            raise ValueError("interleave needs two strategies")
        return self
