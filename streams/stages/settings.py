"""What the stages need to know, as one frozen struct: a replay with equal settings gives equal results."""

import msgspec

from processors.profile import ProfileSettings
from processors.sequence import TransitionSettings
from processors.temporal.periods import PeriodicitySettings
from schemas.validation import EventLimits
from streams.stages.admission import AdmissionSettings

NEVER = 2**62
# A crowd is told anew when it has become larger or smaller by this share.
MATERIAL_SHARE = 0.2
# Crowds are looked at so often, less often where the window is large: to look at it takes a microsecond of each point.
TELL_EVERY_MS, TELL_EVERY_MS_PER_POINT = 200, 0.01
# While nothing comes there is more time to look: this share of that pause is enough.
QUIET_SHARE = 1 / 10
# They are looked at sooner when so large a share of the window's points is new: a backlog passes days within a second.
MOST_UNTOLD = 0.1
# Where there is no wall clock: when so large a share is new.
SUMMARISE_EVERY = 0.02


class UserSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The user stage: what it admits, what it holds per user, and when it publishes.

    A personal transition is published when its from-state has ``min_support`` events of the user, and again when they have
    grown by the share ``growth``, at the latest after ``at_most`` more. A profile is published at ``profile_min_events`` events,
    when they have doubled, and at the latest after ``profile_at_most`` more; the bank's own test of how far it moved costs more
    than the message. Of at most ``max_published`` patterns of a kind it is remembered how stable they have been.
    """

    admission: AdmissionSettings = AdmissionSettings()
    transitions: TransitionSettings = TransitionSettings(max_contexts=1 << 22)
    periodicity: PeriodicitySettings = PeriodicitySettings()
    profile: ProfileSettings = ProfileSettings(min_events=NEVER)
    profile_min_events: int = 3
    profile_at_most: int = 64
    max_users: int = 1_000_000
    max_published: int = 250_000
    min_support: int = 8
    growth: float = 1.0
    at_most: int = 64


class TransitionStageSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The transition stage: the population's counts, and when a from-state or a sequence is published.

    A from-state is published at ``min_support`` events, again when they have grown by the share ``growth``, and at the latest
    after ``at_most`` more: counts fade, so what follows changes however many there have been. A sequence needs ``min_users``
    different people. ``max_sequences`` bounds the states, pairs and triples counted for it.
    """

    counts: TransitionSettings = TransitionSettings(max_contexts=1 << 22, max_transitions=1 << 23)
    min_support: int = 4
    growth: float = 0.5
    at_most: int = 128
    published_next_states: int = 20
    max_published: int = 250_000
    sequence_min_support: float = 20.0
    sequence_min_lift: float = 2.0
    max_sequences: int = 1 << 18
    min_users: int = 3


class ForecastWatchSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Forecasts of one kind of entity: ``horizon`` bins of ``bin_s`` seconds ahead, for at most ``max_keys`` entities.

    An entity is forecast once it has had ``min_events`` events in the longest of the ``seasons`` (in bins), until it has been
    silent for as long.
    """

    bin_s: float = 3600.0
    seasons: tuple[int, ...] = (24, 168)
    horizon: int = 24
    max_keys: int = 128
    min_events: int = 24
    max_waiting_seasons: int = 4


class RegionStageSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The region stage: what a crowd is, and when its points are told.

    A cluster, or a move between two, of fewer than ``min_users`` different people is never published. A move takes at most
    ``move_gap_s`` seconds. Places visited together are published when a pair has ``covisit_min_support``, again when visits of
    one have grown by the share ``covisit_growth``, and at the latest after ``covisit_at_most`` more.
    """

    eps_m: float = 100.0
    min_samples: int = 5
    window_s: float = 7 * 86_400.0
    min_users: int = 3
    covisit_distance_m: float = 500.0
    covisit_window_s: float = 3 * 3600.0
    covisit_min_support: float = 5.0
    covisit_growth: float = 0.5
    covisit_at_most: int = 128
    move_gap_s: float = 3 * 3600.0
    forecasts: ForecastWatchSettings = ForecastWatchSettings(max_keys=64)
    max_names: int = 1_000_000


class PlaceStageSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The place stage: the periods of items' visits, and forecasts of how many come to items and categories."""

    periodicity: PeriodicitySettings = PeriodicitySettings()
    forecasts: ForecastWatchSettings = ForecastWatchSettings()


class MiningSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of all stages and the number of partitions of every topic between them.

    Places of ``private_categories`` take part in their visitor's own patterns only, never in those of everybody.
    """

    partitions: int = 4
    private_categories: tuple[str, ...] = ()
    limits: EventLimits = EventLimits()
    user: UserSettings = UserSettings()
    transition: TransitionStageSettings = TransitionStageSettings()
    region: RegionStageSettings = RegionStageSettings()
    place: PlaceStageSettings = PlaceStageSettings()
