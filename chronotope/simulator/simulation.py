"""The days of a simulated city as behaviour events in time order, with planted habits, follow-ups and crowds."""

import heapq
import itertools
from collections.abc import Iterator

import numpy as np

from chronotope.simulator.city import City
from chronotope.simulator.person import Person
from chronotope.simulator.settings import SimulatorSettings
from chronotope.simulator.truth import Crowd, FollowUp, Habit, Truth
from schemas.events import BehaviorEvent

DAY_S = 86_400
WEEK_S = 7 * DAY_S
# How much of a day's events falls into each hour, and how busy each day of the week is (Monday first).
HOUR_WEIGHTS = np.array([1, 1, 1, 1, 1, 2, 5, 10, 12, 9, 7, 8, 11, 11, 8, 7, 8, 10, 13, 14, 12, 9, 6, 3], float)
DAY_WEIGHTS = (1.0, 1.0, 1.0, 1.05, 1.2, 0.95, 0.8)
POSITION_NOISE_M = 15.0
CROWD_SPREAD_M = 40.0
CROWD_HOURS = 2.0

Visit = tuple[
    float, int, int, float
]  # (seconds since start, person, place or -1 for "wherever they go", spread in metres)


class Simulation:
    """Iterate once over ``events()``; ``truth`` says what was planted. The same settings give the same events.

    >>> first = next(Simulation(SimulatorSettings(users=20, places=50, days=2)).events())
    >>> first.action, first.event_id
    ('checkin', 'simulated-0-0')
    """

    def __init__(self, settings: SimulatorSettings | None = None) -> None:
        self.settings = settings or SimulatorSettings()
        self._rng = np.random.default_rng(self.settings.seed)
        self.city = City(self.settings.places, self._rng)
        rates = self._rng.gamma(4.0, self.settings.events_per_day / 4.0, self.settings.users)
        homes = self._rng.integers(len(self.city), size=self.settings.users)
        self.people = [Person(f"user-{n}", int(home), rate) for n, (home, rate) in enumerate(zip(homes, rates))]
        self._habits = self._plant_habits()
        self._follow_up = self._plant_follow_ups()
        self.truth = Truth(
            habits=[habit for _, _, habit in self._habits],
            follow_ups=[
                FollowUp(
                    from_item=self.city.item_id[place],
                    to_item=self.city.item_id[after],
                    probability=self.settings.follow_up_probability,
                )
                for place, after in self._follow_up.items()
            ],
            crowds=[],
        )

    def events(self) -> Iterator[BehaviorEvent]:
        """Every event in time order, day by day; memory does not grow with the days."""
        days = itertools.count() if self.settings.days is None else range(self.settings.days)
        numbers = itertools.count()
        pending: list[Visit] = []
        for day in days:
            for visit in itertools.chain(self._free_visits(day), self._habit_visits(day), self._crowd_visits(day)):
                heapq.heappush(pending, visit)
            while pending and pending[0][0] < (day + 1) * DAY_S:
                yield self._happen(heapq.heappop(pending), pending, next(numbers))

    def _happen(self, visit: Visit, pending: list[Visit], number: int) -> BehaviorEvent:
        at_s, who, place, spread_m = visit
        person, city = self.people[who], self.city
        if place < 0:
            place = person.go(city, int(at_s // 3600) % 24, self.settings, self._rng)
        else:
            person.visit(place)
        after = self._follow_up.get(place)
        if after is not None and self._rng.random() < self.settings.follow_up_probability:
            heapq.heappush(pending, (at_s + self._rng.uniform(900.0, 2700.0), who, after, POSITION_NOISE_M))
        north_m, east_m = self._rng.normal(0.0, spread_m, 2)
        return BehaviorEvent(
            event_id=f"simulated-{self.settings.seed}-{number}",
            user_id=person.user_id,
            item_id=city.item_id[place],
            action="checkin",
            event_time_ms=self.settings.start_ms + round(at_s * 1000),
            lat=round(float(city.lat[place] + north_m / 111_195.0), 6),
            lon=round(float(city.lon[place] + east_m / 83_400.0), 6),
            context={"category": city.category[place]},
        )

    def _free_visits(self, day: int) -> Iterator[Visit]:
        hours = HOUR_WEIGHTS / HOUR_WEIGHTS.sum()
        for who, person in enumerate(self.people):
            count = self._rng.poisson(person.rate_per_day * DAY_WEIGHTS[day % 7])
            for hour in self._rng.choice(24, size=count, p=hours):
                yield day * DAY_S + (hour + self._rng.random()) * 3600.0, who, -1, POSITION_NOISE_M

    def _habit_visits(self, day: int) -> Iterator[Visit]:
        for who, place, habit in self._habits:
            due_s = day * DAY_S + habit.phase_s % DAY_S
            is_due = habit.period_s == DAY_S or int(habit.phase_s // DAY_S) == day % 7
            if is_due and self._rng.random() >= self.settings.habit_missed:
                jitter_s = self._rng.normal(0.0, self.settings.habit_jitter_s)
                yield max(due_s + jitter_s, day * DAY_S), who, place, POSITION_NOISE_M

    def _crowd_visits(self, day: int) -> Iterator[Visit]:
        for _ in range(self._rng.poisson(self.settings.crowds_per_day)):
            place = int(self._rng.integers(len(self.city)))
            start_s = day * DAY_S + self._rng.uniform(12.0, 20.0) * 3600.0
            users = min(self.settings.crowd_users, len(self.people))
            self.truth.crowds.append(
                Crowd(
                    item_id=self.city.item_id[place],
                    lat=float(self.city.lat[place]),
                    lon=float(self.city.lon[place]),
                    start_ms=self.settings.start_ms + round(start_s * 1000),
                    end_ms=self.settings.start_ms + round((start_s + CROWD_HOURS * 3600.0) * 1000),
                    users=users,
                )
            )
            for who in self._rng.choice(len(self.people), size=users, replace=False):
                yield start_s + self._rng.uniform(0.0, CROWD_HOURS * 3600.0), int(who), place, CROWD_SPREAD_M

    def _plant_habits(self) -> list[tuple[int, int, Habit]]:
        chosen = self._rng.random(len(self.people)) < self.settings.habit_share
        habits = []
        for who in np.flatnonzero(chosen):
            place = int(self._rng.integers(len(self.city)))
            period_s = DAY_S if self._rng.random() < 0.3 else WEEK_S
            phase_s = float(self._rng.integers(7)) * DAY_S + self._rng.uniform(7.0, 21.0) * 3600.0
            habit = Habit(
                user_id=self.people[who].user_id,
                item_id=self.city.item_id[place],
                period_s=float(period_s),
                phase_s=phase_s % period_s,
            )
            habits.append((int(who), place, habit))
        return habits

    def _plant_follow_ups(self) -> dict[int, int]:
        count = min(self.settings.follow_ups, len(self.city) // 2)
        popular = np.argsort(-self.city.popularity)[: 2 * count]
        places = self._rng.permutation(popular)
        return {int(place): int(after) for place, after in zip(places[:count], places[count:])}
