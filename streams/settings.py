"""The stream worker's settings, read from the environment (``CHRONOTOPE_WORKER_*``); every duration and size names its unit."""

import tempfile
from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from processors.profile import ProfileSettings
from processors.sequence import TransitionSettings
from processors.temporal.periods import PeriodicitySettings
from schemas.settings import EventSettings, KafkaSettings, RegistrySettings
from streams.stages.admission import AdmissionSettings
from streams.stages.settings import (
    NEVER,
    MiningSettings,
    PlaceStageSettings,
    RegionStageSettings,
    TransitionStageSettings,
    UserSettings,
)

StageName = Literal["user", "region", "union", "transition", "place"]
DAY_S = 86_400.0
TRANSITIONS_PER_SEQUENCE = 32


class WorkerSettings(BaseSettings):
    """Everything an operator can change about one stream worker.

    >>> WorkerSettings(http_port=0).app_id
    'chronotope'
    """

    model_config = SettingsConfigDict(
        env_prefix="CHRONOTOPE_WORKER_", frozen=True, extra="forbid", hide_input_in_errors=True
    )

    kafka: KafkaSettings = Field(default_factory=KafkaSettings, description="How to reach Kafka.")
    registry: RegistrySettings = Field(
        default_factory=RegistrySettings, description="How to reach the schema registry."
    )
    events: EventSettings = Field(default_factory=EventSettings, description="Which events are acceptable.")

    app_id: str = Field(
        "chronotope", pattern=r"^[A-Za-z0-9._-]+$",
        description="Consumer group of all workers and prefix of their changelog topics; a new one starts from scratch.",
    )  # fmt: skip
    stages: tuple[StageName, ...] = Field(
        ("user", "region", "union", "transition", "place"),
        description="Stages that this worker runs; workers of one application id must agree. Region and union need each other.",
    )
    data_dir: Path = Field(
        Path(tempfile.gettempdir()) / "chronotope-worker", description="Directory for the worker's own files."
    )
    http_host: str = Field("127.0.0.1", description="Address of /healthz, /readyz and /metrics.")
    http_port: int = Field(8091, ge=0, le=65535, description="Port of /healthz, /readyz and /metrics; 0: none.")
    group_instance_id: str | None = Field(
        None,
        description="Static membership: a stable name, so that a restart moves no partitions. Not on the embedded broker.",
    )
    standby_replicas: int = Field(0, ge=0, description="Other workers that keep a warm copy of each partition's state.")

    max_batch_events: int = Field(5_000, ge=1, le=100_000, description="Most records handed to a stage at a time.")
    max_fetch_bytes: int = Field(4_000_000, ge=100_000, description="Most bytes fetched from a partition at a time.")
    buffered_batches: int = Field(
        4, ge=1, description="About how many batches may wait for a stage, beyond a round's, before fetching pauses."
    )
    commit_interval_s: float = Field(1.0, gt=0, description="Seconds between commits of the absorbed offsets.")
    session_timeout_s: float = Field(
        10.0, ge=6.0, description="Seconds of silence after which the group gives a worker's partitions to others."
    )
    recovery_deadline_s: float = Field(
        300.0,
        gt=0,
        description="Seconds within which state must be recovered; after that the worker exits to be restarted.",
    )
    stall_deadline_s: float = Field(
        120.0, gt=0, description="Seconds without progress, while there is input, after which the worker exits."
    )

    allowed_lateness_s: float = Field(
        3_600.0, ge=0, description="Events further behind the latest one of their partition go to the late topic."
    )
    remembered_event_ids: int = Field(
        1 << 18, ge=1_024, description="Latest event ids per partition compared for duplicates; a power of two."
    )
    max_users: int = Field(1_000_000, ge=1, description="Users held per partition; the longest absent are forgotten.")
    max_transitions: int = Field(
        1 << 23,
        ge=4_096,
        le=1 << 28,
        description="Pairs of what follows what held per partition, up to 100 bytes each; the rarest are forgotten.",
    )
    max_periodic_keys: int = Field(
        1_000_000,
        ge=8,
        description="Users, users' places, and items whose visits are kept to find periods, of each kind per partition, "
        "up to 1 kB each; the least active are forgotten.",
    )
    half_life_s: float = Field(30 * DAY_S, gt=0, description="Seconds after which a transition counts half.")
    min_support: int = Field(4, ge=1, description="Transitions from a state before it is published.")
    growth: float = Field(
        0.5, gt=0, description="Share by which a state's transitions must grow to be published again."
    )
    eps_m: float = Field(100.0, ge=0.1, le=500_000, description="Radius of a crowd's neighbourhoods in metres.")
    min_samples: int = Field(5, ge=1, description="Events within the radius that make a point dense.")
    window_s: float = Field(7 * DAY_S, gt=0, description="Length of the sliding window of positions in seconds.")
    min_users: int = Field(
        3,
        ge=1,
        description="Different people below which a crowd, a move between two or a sequence is never published.",
    )
    private_categories: tuple[str, ...] = Field(
        ("Home (private)",),
        description="Categories whose places take part in no crowd, co-visit, population transition or sequence, or item rhythm.",
    )

    def mining(self, partitions: int) -> MiningSettings:
        """What the stages need to know, for topics of this many partitions."""
        transitions = TransitionSettings(
            half_life_s=self.half_life_s, max_contexts=self.max_transitions // 2, max_transitions=self.max_transitions
        )
        periodicity = PeriodicitySettings(max_keys=self.max_periodic_keys)
        return MiningSettings(
            partitions=partitions,
            private_categories=self.private_categories,
            limits=self.events.limits(),
            user=UserSettings(
                admission=AdmissionSettings(
                    allowed_lateness_s=self.allowed_lateness_s, remembered_ids=self.remembered_event_ids
                ),
                transitions=transitions,
                periodicity=periodicity,
                profile=ProfileSettings(max_users=self.max_users, min_events=NEVER),
                max_users=self.max_users,
            ),
            region=RegionStageSettings(
                eps_m=self.eps_m, min_samples=self.min_samples, window_s=self.window_s, min_users=self.min_users
            ),
            transition=TransitionStageSettings(
                counts=transitions,
                min_support=self.min_support,
                growth=self.growth,
                min_users=self.min_users,
                max_sequences=max(64, self.max_transitions // TRANSITIONS_PER_SEQUENCE),
            ),
            place=PlaceStageSettings(periodicity=periodicity),
        )
