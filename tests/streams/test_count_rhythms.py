"""Periods of entities that many visit: the hours in which they become busy come back."""

import numpy as np
import pytest

from processors.temporal import ClosedBin
from schemas.patterns import ForecastUpdate, Pattern, PeriodicityUpdate
from streams.stages.count_rhythms import CountRhythms
from streams.stages.forecasting import ForecastWatch
from streams.stages.settings import ForecastWatchSettings

HOUR_S, DAY_S = 3600.0, 86_400.0
SUNDAY_S = 15_434 * DAY_S
SMALL = ForecastWatchSettings(max_keys=16)
EVENING, MARKET, STEADY = 1, 2, range(3, 9)


def rhythms(settings: ForecastWatchSettings = SMALL) -> CountRhythms:
    return CountRhythms(settings, "category", lambda key: f"kind-{key}")


def weeks(number: int, seed: int = 0) -> list[ClosedBin]:
    """Hourly counts: one kind fills every evening, one on Saturday mornings, the others are as busy at any hour."""
    rng, keys, bins = np.random.default_rng(seed), np.array([EVENING, MARKET, *STEADY]), []
    starts = rng.integers(17, 20, 7 * number)
    for hour in range(24 * 7 * number):
        day, of_day = divmod(hour, 24)
        evening = 20.0 if 0 <= of_day - starts[day] < 4 else 1.0
        market = 40.0 if day % 7 == 6 and 8 <= of_day < 13 else 1.0
        bins.append(ClosedBin(SUNDAY_S + hour * HOUR_S, keys, rng.poisson([evening, market, *[6.0] * len(STEADY)])))
    return bins


def told(one: CountRhythms, bins: list[ClosedBin], budget: int = 40) -> list[Pattern]:
    patterns: list[Pattern] = []
    for at in range(0, len(bins), 24):
        one.close(bins[at : at + 24])
        patterns += one.examine(budget, at)
    return patterns


def test_who_becomes_busy_every_evening_or_every_saturday_has_that_period() -> None:
    found = told(rhythms(), weeks(12))
    latest = {one.entity: one for one in found if isinstance(one, PeriodicityUpdate)}
    evening, market = latest[f"kind-{EVENING}"].periods[0], latest[f"kind-{MARKET}"].periods[0]
    assert evening.period_s == pytest.approx(DAY_S, rel=0.02) and evening.period_kind == "recurring"
    assert market.period_s == pytest.approx(7 * DAY_S, rel=0.02) and market.period_kind == "recurring"
    due_s = market.next_due_ms / 1000 - SUNDAY_S
    assert due_s // DAY_S % 7 == 6 and 7 <= due_s / HOUR_S % 24 <= 9
    recurring = {name for name, one in latest.items() for period in one.periods if period.period_kind == "recurring"}
    assert recurring == {f"kind-{EVENING}", f"kind-{MARKET}"}
    assert {one.entity_kind for one in latest.values()} == {"category"}
    assert any(isinstance(one, ForecastUpdate) for one in found)


def test_a_state_that_is_stored_on_the_way_goes_on_as_if_nothing_had_happened() -> None:
    bins, one, other = weeks(4), rhythms(), rhythms()
    first, second = told(one, bins[:360]), told(other, bins[:360])
    restored = rhythms()
    restored.load(other.to_bytes())
    assert restored.to_bytes() == other.to_bytes() == one.to_bytes() and first == second
    told(one, bins[360:])
    told(restored, bins[360:])
    assert restored.onsets.to_bytes() == one.onsets.to_bytes()
    assert restored.periods.bank.times_s(EVENING).tolist() == one.periods.bank.times_s(EVENING).tolist()
    assert [len(one.periods.bank.times_s(key)) for key in (EVENING, MARKET)] == [27, 4]


def test_forecasts_that_were_stored_before_there_were_periods_are_kept() -> None:
    old = ForecastWatch(SMALL, "category", lambda key: f"kind-{key}")
    old.close(weeks(1))
    old.examine(10_000)
    new = rhythms()
    new.load(old.to_bytes())
    assert len(new) == len(old) == 2 + len(STEADY)


def test_the_search_for_periods_gets_half_of_a_budget_that_both_need_and_all_of_what_is_left() -> None:
    one = rhythms()
    one.close(weeks(6))
    waiting = one.forecasts.untested
    one.examine(6, 0)
    assert one.forecasts.untested == waiting - 3
    one.examine(waiting, 0)
    one.examine(waiting, 0)
    assert one.untested == 0
