"""The messages that the stream workers write: one struct per kind of pattern, every one with (key, version): the last wins."""

from typing import Literal

import msgspec


class PatternQuality(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How far a pattern can be trusted: events behind it, evidence against chance, and how long it has held.

    ``support`` counts events (decayed where the pattern decays), ``significance`` is -log10 of the p-value against the
    pattern's own null hypothesis, ``stability`` in [0, 1] is the share of its life in which it did not change.
    """

    support: float
    significance: float
    stability: float


class NamedCount(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A name and how often it was seen (decayed where the pattern decays); on the wire a pair."""

    name: str
    count: float


class NamedShare(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A name and its probability or share in [0, 1]; on the wire a pair."""

    name: str
    share: float


ClusterChange = Literal["born", "grown", "shrunk", "moved", "merged", "split", "died"]


class ClusterUpdate(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="cluster"):
    """A crowd was born, grew, shrank, moved, merged into another, was split from another, or died.

    Positions are WGS84 degrees, ``hull`` is the convex hull as (lat, lon) pairs, ``related_cluster_id`` names the cluster it
    merged into or was split from. A cluster with fewer distinct users than the privacy limit is never published.
    """

    cluster_id: str
    version: int
    change: ClusterChange
    event_time_ms: int
    born_at_ms: int
    lat: float
    lon: float
    radius_m: float
    count: int
    distinct_users: int
    related_cluster_id: str | None = None
    hull: list[tuple[float, float]] = msgspec.field(default_factory=list)
    top_items: list[NamedCount] = msgspec.field(default_factory=list)
    top_categories: list[NamedCount] = msgspec.field(default_factory=list)
    hour_of_week: list[int] = msgspec.field(default_factory=list)
    quality: PatternQuality | None = None


class CoVisitUpdate(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="covisit"):
    """The places that are visited together with ``item_id`` within the co-visit distance and time, strongest first."""

    item_id: str
    version: int
    event_time_ms: int
    neighbours: list["CoVisit"]
    quality: PatternQuality | None = None


class CoVisit(msgspec.Struct, frozen=True, array_like=True):
    """One co-visited place: support (pairs seen), confidence P(other | item), lift and participation index."""

    item_id: str
    support: float
    confidence: float
    lift: float
    participation_index: float


EntityKind = Literal["user", "user_item", "item", "cluster", "category"]
PeriodKind = Literal["recurring", "rhythm"]


class PeriodEstimate(msgspec.Struct, frozen=True, kw_only=True):
    """One significant period: ``recurring`` is about one event per cycle, ``rhythm`` a daily or weekly rate of its own."""

    period_s: float
    phase_s: float
    period_kind: PeriodKind
    strength: float
    p_value: float
    next_due_ms: int


class PeriodicityUpdate(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="periodicity"
):
    """The significant periods of one entity, strongest first; an empty list retires what was published before.

    ``entity`` is the message key: the user, item, cluster or category id, or ``user_id + "\\x1f" + item_id`` for ``user_item``.
    """

    entity_kind: EntityKind
    entity: str
    version: int
    event_time_ms: int
    periods: list[PeriodEstimate]
    user_id: str | None = None
    item_id: str | None = None
    quality: PatternQuality | None = None


class ForecastStep(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The expected count of one future bin with its 90 % interval."""

    start_ms: int
    mean: float
    low: float
    high: float


Surge = Literal["none", "surge", "drop"]


class ForecastUpdate(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="forecast"):
    """How many events an entity will have in its next bins, and whether the latest bin was a surge or a drop.

    Without ``steps`` it withdraws what was published before. ``version`` is the end of the latest bin in seconds.
    """

    entity_kind: EntityKind
    entity: str
    version: int
    event_time_ms: int
    bin_s: int
    model: str
    steps: list[ForecastStep]
    surge: Surge = "none"
    quality: PatternQuality | None = None


StateKind = Literal["item", "category", "cluster"]


class TransitionUpdate(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="transition"
):
    """What follows a state, most probable first; the rest of the mass belongs to the states that are not listed.

    ``user_id`` is set for a personal transition, empty for the population's. ``from_state`` is an id of ``state_kind``. Of a
    cluster it says where those go who leave it for another one; an empty list withdraws what was published before.
    """

    state_kind: StateKind
    from_state: str
    version: int
    event_time_ms: int
    next_states: list[NamedShare]
    total: float
    user_id: str | None = None
    quality: PatternQuality | None = None


class SequenceUpdate(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="sequence"):
    """A frequent short sequence of states, with its decayed support and its lift over chance; support 0 withdraws it.

    ``states`` are two or three ids of ``state_kind``, in their order. A sequence that fewer different people do than the privacy
    limit is never published.
    """

    state_kind: StateKind
    states: list[str]
    version: int
    event_time_ms: int
    support: float
    lift: float
    quality: PatternQuality | None = None


class AnchorPlace(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A place that holds a user's life together; ``role`` is home-like (nights) or work-like (weekday days)."""

    role: Literal["home", "work"]
    item_id: str
    share: float


class ProfileUpdate(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="profile"):
    """A user's decayed preferences, anchors, range and habits, published when they moved."""

    user_id: str
    version: int
    event_time_ms: int
    events: int
    items: list[NamedShare]
    categories: list[NamedShare] = msgspec.field(default_factory=list)
    clusters: list[NamedShare] = msgspec.field(default_factory=list)
    anchors: list[AnchorPlace] = msgspec.field(default_factory=list)
    radius_of_gyration_m: float | None = None
    explore_share: float = 0.0
    events_per_day: float = 0.0
    usual_hours: list[float] = msgspec.field(default_factory=list)
    quality: PatternQuality | None = None


SpatialPattern = ClusterUpdate | CoVisitUpdate
TemporalPattern = PeriodicityUpdate | ForecastUpdate
TransitionPattern = TransitionUpdate | SequenceUpdate
Pattern = (
    ClusterUpdate
    | CoVisitUpdate
    | PeriodicityUpdate
    | ForecastUpdate
    | TransitionUpdate
    | SequenceUpdate
    | ProfileUpdate
)


def kind_of(pattern: Pattern) -> str:
    """The kind of a pattern as it is named on the wire; a transition between clusters is a ``move``.

    >>> kind_of(SequenceUpdate(state_kind="item", states=["a", "b"], version=1, event_time_ms=0, support=9, lift=2))
    'sequence'
    >>> kind_of(TransitionUpdate(
    ...     state_kind="cluster", from_state="0-7", version=1, event_time_ms=0, next_states=[], total=0))
    'move'
    """
    if isinstance(pattern, TransitionUpdate) and pattern.state_kind == "cluster":
        return "move"
    return str(type(pattern).__struct_config__.tag)
