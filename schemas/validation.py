"""What makes a decoded event acceptable: one function that names the first thing that is wrong."""

import math

import msgspec

from schemas.events import BehaviorEvent

YEAR_2000_MS = 946_684_800_000
DEFAULT_ACTION_WEIGHTS: dict[str, float] = {
    "view": 1.0,
    "click": 1.0,
    "checkin": 2.0,
    "trip": 2.0,
    "cart": 3.0,
    "purchase": 5.0,
}

PROBLEMS = (
    "empty_id",
    "id_too_long",
    "category_too_long",
    "unknown_action",
    "time_before_2000",
    "time_in_future",
    "half_a_place",
    "impossible_coordinates",
    "value_not_finite",
)


class EventLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The bounds of an acceptable event; an action without a weight is unknown, ``max_id_chars`` is of the category too."""

    max_bytes: int = 1_048_576
    max_id_chars: int = 256
    min_event_time_ms: int = YEAR_2000_MS
    max_ahead_ms: int = 86_400_000
    action_weights: dict[str, float] = msgspec.field(default_factory=lambda: dict(DEFAULT_ACTION_WEIGHTS))


def problem_of(event: BehaviorEvent, limits: EventLimits, now_ms: int) -> str | None:
    """The first reason why an event cannot be accepted, as a stable word for counters; None if it can.

    ``now_ms`` is the wall clock: an event more than ``limits.max_ahead_ms`` ahead of it is refused. O(1).

    >>> good = BehaviorEvent(event_id="e", user_id="u", item_id="i", action="view", event_time_ms=1333238400000)
    >>> problem_of(good, EventLimits(), now_ms=1700000000000) is None
    True
    >>> problem_of(msgspec.structs.replace(good, lat=91.0, lon=0.0), EventLimits(), now_ms=1700000000000)
    'impossible_coordinates'
    """
    for text in (event.event_id, event.user_id, event.item_id):
        if not text:
            return "empty_id"
        if len(text) > limits.max_id_chars:
            return "id_too_long"
    if len(event.context.get("category", "")) > limits.max_id_chars:
        return "category_too_long"
    if event.action not in limits.action_weights:
        return "unknown_action"
    if event.event_time_ms < limits.min_event_time_ms:
        return "time_before_2000"
    if event.event_time_ms > now_ms + limits.max_ahead_ms:
        return "time_in_future"
    return _problem_of_numbers(event)


def _problem_of_numbers(event: BehaviorEvent) -> str | None:
    lat, lon = event.lat, event.lon
    if lat is None or lon is None:
        if lat is not None or lon is not None:
            return "half_a_place"
    elif not (-90.0 <= lat <= 90.0 and -180.0 <= lon <= 180.0):
        return "impossible_coordinates"
    if event.value is not None and not math.isfinite(event.value):
        return "value_not_finite"
    return None
