"""What is said about eps holds for planted crowds: the elbow lies between them and the noise, and the right radius finds them."""

from collections.abc import Iterator

import numpy as np
import pytest

from chronotope.tuning import positions_of, tune
from schemas.events import BehaviorEvent

CROWDS, PEOPLE, STRAY, METRE_DEG = 8, 40, 60, 1 / 111_195
WINDOW_S = 86_400.0


def planted(days: int = 3, **context: str) -> Iterator[BehaviorEvent]:
    """Each day the same 8 crowds of 40 people within some 20 m, 5 km apart, and 60 people who are nowhere near anybody."""
    rng = np.random.default_rng(7)
    for day in range(days):
        for number in range(CROWDS * PEOPLE + STRAY):
            crowd = number // PEOPLE
            north_m, east_m = (5_000 * crowd, 0.0) if crowd < CROWDS else rng.uniform(-200_000, -50_000, 2)
            north_m, east_m = (north_m, east_m) + rng.normal(0, 10, 2)
            yield BehaviorEvent(
                event_id=f"{day}-{number}", user_id=f"u{number}", item_id="x", action="view", context=context,
                event_time_ms=int((day * WINDOW_S + number) * 1000), lat=north_m * METRE_DEG, lon=east_m * METRE_DEG,
            )  # fmt: skip


def test_planted_crowds_are_found_around_the_elbow():
    found = tune(positions_of(planted()), WINDOW_S, min_samples=5, min_users=3, windows=3)
    assert (found.windows, found.events_per_window) == (3, CROWDS * PEOPLE + STRAY)
    assert found.distance_m["50%"] < 15
    assert 10 < found.elbow_m < 5_000
    good = [radius for radius in found.radii if 30 <= radius.eps_m < 4_900]
    assert good
    for radius in good:
        assert radius.crowds == CROWDS
        assert radius.in_crowds == pytest.approx(CROWDS * PEOPLE / (CROWDS * PEOPLE + STRAY), abs=0.02)
        assert radius.largest == pytest.approx(radius.in_crowds / CROWDS, abs=0.01)


def test_crowd_of_too_few_people_is_none():
    alone = (event for event in planted() if event.user_id == "u1")
    repeated = [
        BehaviorEvent(
            **{name: getattr(event, name) for name in event.__struct_fields__} | {"event_id": f"{event.event_id}-{n}"}
        )
        for event in alone
        for n in range(20)
    ]
    found = tune(positions_of(repeated), WINDOW_S, min_samples=5, min_users=3, windows=1)
    assert {radius.crowds for radius in found.radii} == {0.0}


def test_private_places_are_left_out():
    assert len(positions_of(planted(category="Home (private)"), ["Home (private)"]).time_s) == 0


def test_too_few_events_are_refused():
    with pytest.raises(ValueError, match="0 events have a place"):
        tune(positions_of([]), WINDOW_S, min_samples=5, min_users=3, windows=1)
