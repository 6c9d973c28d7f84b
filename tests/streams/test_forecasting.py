"""Forecasts that the stages publish: right hours, surges told, only what is new, and the same again after a restart."""

from collections.abc import Sequence

import numpy as np
import pytest

from processors.temporal import ClosedBin
from schemas.events import BehaviorEvent
from schemas.patterns import ForecastUpdate, Pattern, PeriodicityUpdate
from streams.pipeline import PatternPipeline
from streams.stages.forecasting import ForecastWatch
from streams.stages.settings import ForecastWatchSettings

HOUR_S, DAY_S = 3600.0, 86_400.0
START_S = 15_431 * DAY_S
QUICK = ForecastWatchSettings(seasons=(4, 12), horizon=4, min_events=3, max_keys=8)


def watch(settings: ForecastWatchSettings = QUICK) -> ForecastWatch:
    return ForecastWatch(settings, "item", lambda key: f"item-{key}" if key >= 0 else None)


def closed(step: int, counts: dict[int, int]) -> ClosedBin:
    return ClosedBin(
        START_S + step * HOUR_S, np.array(sorted(counts)), np.array([counts[key] for key in sorted(counts)])
    )


def of_key(patterns: Sequence[Pattern], key: int) -> list[ForecastUpdate]:
    return [one for one in patterns if isinstance(one, ForecastUpdate) and one.entity == f"item-{key}"]


def seasonal(steps: range, season: int = 4, seed: int = 0) -> list[ClosedBin]:
    rng = np.random.default_rng(seed)
    levels = rng.poisson(30, (season, 3))
    return [closed(at, dict(enumerate(rng.poisson(levels[at % season]).tolist()))) for at in steps]


def learned(one: ForecastWatch, bins: Sequence[ClosedBin], budget: int = 5) -> list[Pattern]:
    told: list[Pattern] = []
    for each in bins:
        one.close([each])
        while one.untested:
            told += one.examine(budget)
    return told


def test_the_next_hours_of_a_daily_rhythm_are_forecast_in_the_partition_of_the_category() -> None:
    rng, events, hourly = np.random.default_rng(3), list[BehaviorEvent](), [0, 0, 1, 3, 9, 12, 6, 2] * 3
    for day in range(12):
        for hour, level in enumerate(hourly):
            for at in range(rng.poisson(level)):
                time_s = START_S + day * DAY_S + hour * HOUR_S + 60.0 * at
                events.append(
                    BehaviorEvent(
                        event_id=f"{day}-{hour}-{at}", user_id=f"u{rng.integers(40)}", item_id=f"cafe-{rng.integers(9)}",
                        action="view", event_time_ms=int(time_s * 1000), context={"category": "cafe"},
                    )
                )  # fmt: skip
    pipeline, told = PatternPipeline(partitions=3, examinations_per_1000_events=0), list[Pattern]()
    for start in range(0, len(events), 40):
        told += pipeline.update(events[start : start + 40])
        told += [one for stage in pipeline.stages["place"] for one in stage.examine(50)]
    found = [one for one in told if isinstance(one, ForecastUpdate) and one.entity_kind == "category"]
    assert {one.entity for one in found} == {"cafe"} and len({one.version for one in found}) == len(found)
    last = found[-1]
    assert last.bin_s == 3600 and len(last.steps) == 24 and last.steps[0].start_ms == last.event_time_ms
    hours = [int(step.start_ms / 3.6e6) % 24 for step in last.steps]
    errors = [abs(step.mean - hourly[hour]) for step, hour in zip(last.steps, hours, strict=True)]
    assert np.mean(errors) < 2.0 and all(step.low <= step.mean <= step.high for step in last.steps)
    assert last.quality is not None and last.quality.significance > 3 and last.quality.support > 100
    periods = [one for one in told if isinstance(one, PeriodicityUpdate) and one.entity_kind == "category"]
    assert {one.entity for one in periods} == {"cafe"} and periods[-1].periods[0].period_s == pytest.approx(
        8 * HOUR_S, rel=0.05
    )
    places = pipeline.stages["place"]
    assert [len(stage.categories) for stage in places].count(1) == 1
    assert sum(len(stage.item_forecasts) for stage in places) == 9


def test_a_surge_is_told_when_it_comes_and_when_it_is_over() -> None:
    one, bins = watch(), seasonal(range(80))
    quiet = of_key(learned(one, bins), 1)
    assert {update.surge for update in quiet[-5:]} == {"none"}
    told = of_key(learned(one, [closed(80, {0: 30, 1: 300, 2: 30}), closed(81, {0: 30, 1: 30, 2: 30})]), 1)
    assert [update.surge for update in told] == ["surge", "none"]
    assert told[0].event_time_ms == (START_S + 81 * HOUR_S) * 1000


def test_a_forecast_is_published_when_it_says_something_new_and_not_with_every_bin() -> None:
    told = of_key(learned(watch(), [closed(at, {0: 20 + 10 * (at % 4)}) for at in range(60)]), 0)
    versions = np.array([update.version for update in told])
    assert 60 / 2 >= len(told) >= 10 and (np.diff(versions) > 0).all()
    # Once the rhythm is known, half the horizon passes between two messages.
    assert set(np.diff(versions[-5:])) == {2 * 3600}


@pytest.mark.parametrize("budget", [1, 7])
def test_a_watch_that_was_stored_while_it_learned_goes_on_as_if_nothing_had_happened(budget: int) -> None:
    watches, told, bins = [watch(), watch()], [list[Pattern](), list[Pattern]()], seasonal(range(90))
    bins[70] = closed(70, {0: 400, 1: 30, 2: 0})
    for start in range(0, 90, 3):
        for at, one in enumerate(watches):
            one.close(bins[start : start + 3])
            told[at] += one.examine(budget)
            if at == 1:
                watches[at] = watch()
                watches[at].load(one.to_bytes())
    assert told[0] == told[1] and len(told[0]) > 10
    assert watches[0].to_bytes() == watches[1].to_bytes()


def test_what_is_learned_again_after_a_crash_is_said_again_under_the_same_versions() -> None:
    one, bins = watch(), seasonal(range(60))
    learned(one, bins[:40])
    snapshot = one.to_bytes()
    before = learned(one, bins[40:])
    again = watch()
    again.load(snapshot)
    assert learned(again, bins[40:], budget=1) == before and before


def test_a_key_that_is_no_longer_counted_is_withdrawn() -> None:
    one = watch()
    learned(one, seasonal(range(20)))
    told = of_key(learned(one, [closed(20, {0: 30, 2: 30})]), 1)
    assert [(update.steps, update.version) for update in told] == [([], int(START_S + 21 * HOUR_S))]
    assert sorted(one.bank.keys) == [0, 2]


def test_who_falls_behind_leaves_out_whole_seasons_and_keeps_the_hours_right() -> None:
    one, levels = watch(), [5, 20, 60, 90]
    bins = [closed(at, {0: levels[at % 4]}) for at in range(200)]
    learned(one, bins[:40])
    one.close(bins[40:])
    assert one.skipped_bins > 0 and one.skipped_bins % 12 == 0 and one.untested < 30
    told = of_key(one.examine(1000), 0)
    assert [round(step.mean) for step in told[-1].steps] == pytest.approx(
        [levels[(200 + at) % 4] for at in range(4)], abs=8
    )


def test_after_a_hole_everybody_begins_anew() -> None:
    one = watch()
    learned(one, seasonal(range(30)))
    learned(one, [closed(31, {0: 1, 1: 1, 2: 1})])
    assert {one.bank._forecasters[key].skill.bins for key in one.bank.keys} == {1}


def test_only_the_busy_are_forecast() -> None:
    one = watch()
    for step in range(30):
        time_s = START_S + step * HOUR_S + np.linspace(0, 3000, 12)
        one.update(np.array([1] * 10 + [2, 100 + step]), time_s)
        one.examine(100)
    assert one.bank.keys == [1, 2]


def test_crowds_are_forecast_while_they_last() -> None:
    rng, told, hourly = np.random.default_rng(5), list[Pattern](), [2, 10, 20, 4] * 6
    pipeline = PatternPipeline(partitions=1, examinations_per_1000_events=0)
    for hour in range(24 * 6):
        events = []
        for at in range(rng.poisson(hourly[hour % 24])):
            lat, lon = (40.0, -74.0) + rng.normal(0, 1e-4, 2)
            events.append(
                BehaviorEvent(
                    event_id=f"{hour}-{at}", user_id=f"u{rng.integers(30)}", item_id="square", action="view", lat=lat, lon=lon,
                    event_time_ms=int((START_S + hour * HOUR_S + at) * 1000),
                )
            )  # fmt: skip
        told += pipeline.update(events) + pipeline.stages["region"][0].examine(100)
    found = [one for one in told if isinstance(one, ForecastUpdate) and one.entity_kind == "cluster"]
    assert found and {one.entity for one in found} == {"0-0"}
    errors = [abs(step.mean - hourly[int(step.start_ms / 3.6e6) % 24]) for step in found[-1].steps]
    assert np.mean(errors) < 5
