"""What the four stages need to know, as one frozen struct: a replay with equal settings gives equal results."""

import msgspec

from processors.sequence import TransitionSettings
from processors.temporal.periods import PeriodicitySettings
from schemas.validation import EventLimits
from streams.stages.admission import AdmissionSettings


class UserSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The user stage: what it admits, what it holds per user, and when it publishes.

    A pattern is published when its key has ``min_support`` events, and again when they have grown by ``growth``.
    """

    admission: AdmissionSettings = AdmissionSettings()
    transitions: TransitionSettings = TransitionSettings(max_contexts=1 << 22)
    periodicity: PeriodicitySettings = PeriodicitySettings()
    max_users: int = 1_000_000
    min_support: int = 4
    growth: float = 0.25


class TransitionStageSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The transition stage: the population's counts, and when a from-state is published."""

    counts: TransitionSettings = TransitionSettings(max_contexts=1 << 22, max_transitions=1 << 23)
    min_support: int = 4
    growth: float = 0.25
    published_next_states: int = 20


class MiningSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of all stages and the number of partitions of every topic between them."""

    partitions: int = 4
    limits: EventLimits = EventLimits()
    user: UserSettings = UserSettings()
    transition: TransitionStageSettings = TransitionStageSettings()
