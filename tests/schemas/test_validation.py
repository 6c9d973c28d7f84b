"""Every kind of bad event is named by one stable word; a good one passes."""

import msgspec
import pytest

from schemas.events import BehaviorEvent
from schemas.json_wire import decoder, encode
from schemas.topics import EVENTS
from schemas.validation import EventLimits, problem_of

NOW_MS = 1_800_000_000_000
GOOD = BehaviorEvent(
    event_id="e", user_id="u", item_id="i", action="view", event_time_ms=1_333_238_400_000, lat=40.7, lon=-74.0
)


def test_a_good_event_has_no_problem() -> None:
    assert problem_of(GOOD, EventLimits(), NOW_MS) is None


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"user_id": ""}, "empty_id"),
        ({"item_id": "x" * 257}, "id_too_long"),
        ({"context": {"category": "x" * 257}}, "category_too_long"),
        ({"action": "teleport"}, "unknown_action"),
        ({"event_time_ms": 946_684_799_999}, "time_before_2000"),
        ({"event_time_ms": NOW_MS + 86_400_001}, "time_in_future"),
        ({"lat": None}, "half_a_place"),
        ({"lat": 90.01}, "impossible_coordinates"),
        ({"lon": -180.5}, "impossible_coordinates"),
        ({"lat": float("nan")}, "impossible_coordinates"),
        ({"value": float("inf")}, "value_not_finite"),
    ],
)
def test_a_bad_event_is_named(change: dict[str, object], problem: str) -> None:
    assert problem_of(msgspec.structs.replace(GOOD, **change), EventLimits(), NOW_MS) == problem


@pytest.mark.parametrize(("lat", "lon"), [(90.0, 180.0), (-90.0, -180.0), (0.0, 0.0)])
def test_the_ends_of_the_earth_are_places(lat: float, lon: float) -> None:
    assert problem_of(msgspec.structs.replace(GOOD, lat=lat, lon=lon), EventLimits(), NOW_MS) is None


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"event_id":"e"}',
        encode(GOOD).replace(b"40.7", b"NaN"),
        encode(GOOD).replace(b"40.7", b'"40.7"'),
        encode(GOOD).replace(b'"u"', b"7"),
        encode(GOOD).replace(b"1333238400000", b"1333238400000.5"),
        b"\xff\xfe",
    ],
)
def test_what_is_no_event_raises_a_decode_error(value: bytes) -> None:
    with pytest.raises((msgspec.DecodeError, UnicodeDecodeError)):
        decoder(EVENTS).decode(value)
