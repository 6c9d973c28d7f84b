"""The messages that producers write: behaviour events, catalogue items, requests and feedback."""

from typing import Literal

import msgspec


class BehaviorEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One trace of one user: who did what with which item, when, and optionally where.

    ``event_time_ms`` is milliseconds since the Unix epoch (UTC), ``lat`` and ``lon`` are WGS84 degrees and come together
    or not at all. ``action`` is any string that has a weight in the settings.

    >>> BehaviorEvent(event_id="e1", user_id="u1", item_id="cafe", action="checkin", event_time_ms=1333238400000).lat is None
    True
    """

    event_id: str
    user_id: str
    item_id: str
    action: str
    event_time_ms: int
    lat: float | None = None
    lon: float | None = None
    session_id: str | None = None
    request_id: str | None = None
    value: float | None = None
    context: dict[str, str] = msgspec.field(default_factory=dict)


class Item(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One entry of the catalogue; ``available=False`` (or a tombstone) withdraws it from every recommendation.

    ``vectors`` maps a modality ("image", "audio", ...) to an embedding of fixed length. ``version`` grows with each change.

    >>> Item(item_id="cafe", text="Corner cafe", categories=["coffee"]).available
    True
    """

    item_id: str
    version: int = 0
    text: str = ""
    categories: list[str] = msgspec.field(default_factory=list)
    tags: list[str] = msgspec.field(default_factory=list)
    lat: float | None = None
    lon: float | None = None
    price: float | None = None
    available: bool = True
    vectors: dict[str, list[float]] = msgspec.field(default_factory=dict)


class RecommendationRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A user asks now: answer for this time and place, within these limits.

    >>> RecommendationRequest(request_id="r1", user_id="u1", request_time_ms=1333238400000).k
    10
    """

    request_id: str
    user_id: str
    request_time_ms: int
    lat: float | None = None
    lon: float | None = None
    k: int = 10
    categories: list[str] = msgspec.field(default_factory=list)
    radius_m: float | None = None


FeedbackKind = Literal["impression", "click", "dismissal"]


class RecommendationFeedback(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a user did with a recommendation; ``request_id`` is the recommendation's own.

    >>> RecommendationFeedback(request_id="r1", user_id="u1", item_id="cafe", kind="click", event_time_ms=0).kind
    'click'
    """

    request_id: str
    user_id: str
    item_id: str
    kind: FeedbackKind
    event_time_ms: int
