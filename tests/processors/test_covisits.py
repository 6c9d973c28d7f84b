"""Co-visits against their definition on small worlds, and a planted pair."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.spatial.covisits import CoVisits

WINDOW_S, DISTANCE_M = 100.0, 150.0


def world(seed: int, n: int) -> tuple[Any, Any, Any, Any, Any]:
    """Visits to 7 places 100 m apart on a line; each visit a few metres off."""
    rng = np.random.default_rng(seed)
    users, places = rng.integers(0, 3, n), rng.integers(0, 7, n)
    lat = 48.0 + (places * 100 + rng.uniform(-20, 20, n)) / 111_195
    return users, places, np.sort(rng.uniform(0, 40 * n, n)), lat, np.full(n, 11.0)


def exact_pairs(
    users: Any, places: Any, times: Any, lat: Any, half_life_s: float, now: float
) -> Counter[tuple[int, int]]:
    """Every visit x of p that has a visit of q nearby, weighted by when that was first known."""
    pairs: Counter[tuple[int, int]] = Counter()
    n = len(users)
    for x in range(n):
        known: dict[int, float] = {}
        for y in range(n):
            close = users[x] == users[y] and places[x] != places[y] and abs(times[x] - times[y]) <= WINDOW_S
            if close and abs(lat[x] - lat[y]) * 111_195.08 <= DISTANCE_M:
                first = max(times[x], times[y])
                known[int(places[y])] = min(known.get(int(places[y]), math.inf), first)
        for q, first in known.items():
            pairs[int(places[x]), q] += 0.5 ** ((now - first) / half_life_s)
    return pairs


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 120), cuts=st.lists(st.integers(0, 120), max_size=6))
def test_measures_equal_their_definitions(seed: int, n: int, cuts: list[int]) -> None:
    columns = world(seed, n)
    users, places, times, lat, _ = columns
    half_life_s, now = 500.0, float(times[-1])
    co_visits = CoVisits(DISTANCE_M, WINDOW_S, half_life_s, depth=64)
    for part in np.split(np.arange(n), sorted(cuts)):
        co_visits.update(*(column[part] for column in columns))
        co_visits = CoVisits.from_bytes(co_visits.to_bytes())
    pairs = exact_pairs(users, places, times, lat, half_life_s, now)
    visits: Counter[int] = Counter()
    for place, time in zip(places.tolist(), times.tolist(), strict=True):
        visits[place] += 0.5 ** ((now - time) / half_life_s)
    for (p, q), support in pairs.items():
        told = co_visits.describe(p, q, now)
        base = sum(count for (_, other), count in pairs.items() if other == q) / sum(visits.values())
        assert told.support == pytest.approx(support) and told.error == 0.0
        assert told.confidence == pytest.approx(support / visits[p])
        assert told.lift == pytest.approx(support / visits[p] / base)
        assert told.participation_index == pytest.approx(min(support / visits[p], pairs[q, p] / visits[q]))


def test_planted_pair_stands_out_and_is_told_once() -> None:
    rng = np.random.default_rng(0)
    co_visits, told = CoVisits(distance_m=300.0, window_s=3600.0, half_life_s=math.inf, min_support=10.0), []
    for day in range(60):
        users = np.repeat(np.arange(10), 3)
        places = rng.integers(10, 40, 30)
        if day % 2:
            places[users < 5] = np.tile([1, 2, 3], 5)  # 3 is visited too, but far away
        lat = np.where(places == 3, 49.0, 48.0)
        told.append(
            co_visits.update(users, places, day * 86_400.0 + np.tile([0.0, 900.0, 1800.0], 10), lat, np.full(30, 11.0))
        )
    assert [places.tolist() for places in told if len(places)] == [[1, 2]]
    best = co_visits.neighbours(1, 60 * 86_400.0)
    assert [pair.other for pair in best] == [2]
    assert best[0].support == 150.0 and best[0].confidence == 1.0 and best[0].participation_index == 1.0
    assert best[0].lift > 5 and best[0].significance > 50


def test_visit_without_a_position_has_nothing_nearby() -> None:
    co_visits = CoVisits(min_support=0.5)
    assert len(co_visits.update([1, 1], [2, 3], [0.0, 1.0], [np.nan, 48.0], [np.nan, 11.0])) == 0


def test_counts_stay_within_their_error_when_bounded() -> None:
    rng = np.random.default_rng(5)
    n = 4000
    users, places, times = rng.integers(0, 3, n), np.minimum(rng.zipf(1.5, n), 300), np.arange(n) * 10.0
    zeros = np.zeros(n)
    exact = CoVisits(1.0, 100.0, math.inf)
    bounded = CoVisits(1.0, 100.0, math.inf, max_neighbours=8, max_places=64, max_pairs=256)
    exact.update(users, places, times, zeros, zeros)
    bounded.update(users, places, times, zeros, zeros)
    for p in range(1, 20):
        for q in range(1, 20):
            truth, told = exact.describe(p, q, times[-1]).support, bounded.describe(p, q, times[-1])
            assert told.support <= truth <= told.support + told.error
    assert bounded.nbytes < 100_000


@pytest.mark.parametrize(
    ("named", "wrong"),
    [
        ("lat", {"lat": [91.0]}),
        ("lon", {"lon": [181.0]}),
        ("time_s", {"time_s": [np.nan]}),
        ("states", {"places": [1, 2]}),
    ],
)
def test_bad_input_is_named_and_changes_nothing(named: str, wrong: dict[str, Any]) -> None:
    co_visits = CoVisits()
    before = co_visits.to_bytes()
    with pytest.raises(ValueError, match=named):
        co_visits.update(**({"users": [1], "places": [1], "time_s": [0.0], "lat": [0.0], "lon": [0.0]} | wrong))
    assert co_visits.to_bytes() == before


@pytest.mark.parametrize("fields", [{"distance_m": 0.0}, {"window_s": math.inf}, {"min_support": -1.0}])
def test_settings_out_of_range_are_named(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(fields))):
        CoVisits(**fields)
