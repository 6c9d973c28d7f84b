"""The simulated city does what was planted in it, the same for the same seed."""

import statistics
from collections import Counter
from itertools import pairwise

import pytest

from chronotope.simulator import Simulation, SimulatorSettings
from schemas.validation import EventLimits, problem_of

SMALL = SimulatorSettings(users=60, places=200, days=21, crowd_users=20)


def _events(settings: SimulatorSettings = SMALL):
    simulation = Simulation(settings)
    return simulation, list(simulation.events())


def test_events_are_valid_unique_and_in_time_order():
    _, events = _events()
    limits = EventLimits()
    assert all(problem_of(event, limits, now_ms=events[-1].event_time_ms) is None for event in events)
    assert len({event.event_id for event in events}) == len(events)
    assert all(earlier.event_time_ms <= later.event_time_ms for earlier, later in pairwise(events))


def test_same_seed_gives_the_same_events_and_another_seed_others():
    _, first = _events()
    _, second = _events()
    _, other = _events(SimulatorSettings(users=60, places=200, days=21, crowd_users=20, seed=1))
    assert first == second
    assert first[:100] != other[:100]


def test_people_return_more_often_than_they_explore_and_explore_less_and_less():
    _, events = _events()
    seen: set[tuple[str, str]] = set()
    new: list[bool] = []
    for event in events:
        new.append((event.user_id, event.item_id) not in seen)
        seen.add((event.user_id, event.item_id))
    third = len(new) // 3
    assert statistics.mean(new[-third:]) < 0.75 * statistics.mean(new[:third])


def test_most_events_of_a_day_are_by_day():
    _, events = _events()
    hours = Counter((event.event_time_ms // 3_600_000) % 24 for event in events)
    assert sum(hours[hour] for hour in range(1, 5)) < 0.1 * sum(hours[hour] for hour in range(17, 21))


def test_habit_is_kept_about_nine_times_out_of_ten():
    simulation, events = _events()
    weekly = [habit for habit in simulation.truth.habits if habit.period_s == 7 * 86_400]
    kept = 0
    for habit in weekly:
        for week in range(3):
            due_ms = simulation.settings.start_ms + 1000 * (week * 7 * 86_400 + habit.phase_s)
            kept += any(
                event.user_id == habit.user_id
                and event.item_id == habit.item_id
                and abs(event.event_time_ms - due_ms) < 4 * 600_000
                for event in events
            )
    assert 0.75 < kept / (3 * len(weekly)) <= 1.0


def test_follow_up_happens_about_as_often_as_planted():
    simulation, events = _events()
    after = {each.from_item: each.to_item for each in simulation.truth.follow_ups}
    last: dict[str, str] = {}
    asked = followed = 0
    for event in events:
        before = last.get(event.user_id)
        if before in after:
            asked += 1
            followed += after[before] == event.item_id
        last[event.user_id] = event.item_id
    assert asked > 100
    assert 0.4 < followed / asked < 0.7


def test_crowd_gathers_where_and_when_it_was_planted():
    simulation, events = _events()
    assert simulation.truth.crowds
    for crowd in simulation.truth.crowds:
        there = {
            event.user_id
            for event in events
            if crowd.start_ms <= event.event_time_ms <= crowd.end_ms and event.item_id == crowd.item_id
        }
        assert len(there) >= crowd.users


@pytest.mark.parametrize(
    ("name", "value"), [("users", 1), ("places", 0), ("days", 0), ("events_per_day", 0.0), ("rho", 1.5)]
)
def test_impossible_setting_is_named(name: str, value: float):
    with pytest.raises(ValueError, match=name):
        SimulatorSettings(**{name: value})
