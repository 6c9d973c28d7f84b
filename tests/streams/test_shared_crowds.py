"""Crowds over several regions: every message is what one window of all positions holds, however the work is shared."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np
import pytest
from walking_crowds import (
    BIN_S,
    EVENTS_SEEN,
    REGION,
    STEP,
    Truth,
    all_told_by,
    clusters_of,
    moves_of,
    people,
    settings_for,
    store_and_load,
    teller_stage,
)

from processors.temporal import ClosedBin
from schemas.events import BehaviorEvent
from schemas.patterns import ClusterUpdate, CoVisitUpdate, ForecastUpdate, Pattern
from streams.app import build_app
from streams.period_search import PeriodSearch
from streams.pipeline import PatternPipeline
from streams.runner import StageRunner
from streams.settings import WorkerSettings
from streams.stages.tiles import Regions


def crowds_of(truth: Truth) -> list[tuple[int, int, float, float]]:
    """(events, people, lat, lon) of each crowd that may be told, sorted."""
    return sorted(
        (
            len(members), people(members),
            float(np.mean([member.lat for member in members])), float(np.mean([member.lon for member in members])),
        )
        for members in truth.members()
    )  # fmt: skip


def visits_of(truth: Truth, start_s: float) -> list[int]:
    """How many events of each public crowd are in the bin, sorted."""
    return sorted(
        sum(start_s <= member.event_time_ms / 1000 < start_s + BIN_S for member in members)
        for members in truth.public()
    )


def told(update: ClusterUpdate) -> tuple[int, int, float, float]:
    return update.count, update.distinct_users, update.lat, update.lon


def is_close(left: tuple[float, ...], right: tuple[float, ...]) -> bool:
    return left[:2] == right[:2] and np.allclose(left[2:], right[2:], atol=1e-6)


def told_by(partitions: int) -> list[ClusterUpdate]:
    return clusters_of(all_told_by(partitions))


@pytest.mark.parametrize("partitions", [1, 3, 4])
def test_every_message_tells_the_crowd_of_one_window_over_everything(partitions: int) -> None:
    pipeline, truth, looked = PatternPipeline(settings_for(partitions)), Truth(), 0
    shared = 0
    for start in range(0, len(EVENTS_SEEN), STEP):
        part = EVENTS_SEEN[start : start + STEP]
        truth.absorb(part)
        messages = clusters_of(pipeline.update(part))
        crowds = crowds_of(truth)
        for message in messages:
            if message.change not in ("died", "merged"):
                assert any(is_close(told(message), crowd) for crowd in crowds), (start, message, crowds)
                looked += 1
        live = [known for known in teller_of(pipeline).clusters.values() if known.published]
        assert len(live) == len([crowd for crowd in crowds if crowd[1] >= REGION.min_users])
        shared += len(teller_of(pipeline)._shared)
    assert looked > 60
    assert partitions == 1 or shared > 20


@pytest.mark.parametrize("partitions", [1, 3, 4])
def test_the_visits_of_every_crowd_are_counted_whole_and_once(partitions: int) -> None:
    pipeline, truth, closed = PatternPipeline(settings_for(partitions)), Truth(), list[ClosedBin]()
    noted, visits = teller_of(pipeline).rhythms, 0
    noted.close = closed.extend
    for start in range(0, len(EVENTS_SEEN), STEP):
        part = EVENTS_SEEN[start : start + STEP]
        truth.absorb(part)
        before = len(closed)
        pipeline.update(part)
        for one in closed[before:]:
            assert sorted(one.counts.tolist()) == visits_of(truth, one.start_s)
            visits += int(one.counts.sum())
    starts = [one.start_s for one in closed]
    assert np.diff(starts).tolist() == [BIN_S] * (len(starts) - 1) and len(starts) > 60
    assert visits > 0.6 * len(EVENTS_SEEN)


def test_crowds_are_forecast_wherever_they_are_told() -> None:
    def forecasts(partitions: int) -> list[tuple[Any, ...]]:
        pipeline, told = PatternPipeline(settings_for(partitions), examinations_per_1000_events=0), list[Pattern]()
        for start in range(0, len(EVENTS_SEEN), STEP):
            told += pipeline.update(EVENTS_SEEN[start : start + STEP])
            told += teller_stage(pipeline).examine(100)
        found = [one for one in told if isinstance(one, ForecastUpdate) and one.entity_kind == "cluster"]
        return sorted((one.event_time_ms, one.model, one.surge, [step.mean for step in one.steps]) for one in found)

    assert forecasts(1) == forecasts(4) != []


@pytest.mark.parametrize(("partitions", "stages"), [(1, {"user", "region", "place"}), (4, {"user", "union", "place"})])
def test_a_worker_learns_beside_the_stream_where_crowds_are_told(
    partitions: int, stages: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    searched = set[str]()

    class Noted(PeriodSearch):
        def __init__(self, runner: StageRunner) -> None:
            searched.add(runner.stage)
            super().__init__(runner)

    monkeypatch.setattr("streams.app.PeriodSearch", Noted)
    build_app(WorkerSettings(), partitions)
    assert searched == stages


def teller_of(pipeline: PatternPipeline) -> Any:
    return teller_stage(pipeline).teller


def test_one_region_and_four_tell_the_same_life_of_every_crowd() -> None:
    one, four = told_by(1), told_by(4)
    for left, right in zip(sorted(one, key=what_happened), sorted(four, key=what_happened), strict=True):
        assert what_happened(left) == what_happened(right)
    assert {message.change for message in four} == {"born", "died", "grown", "shrunk", "moved", "merged", "split"}
    alone, shared = lives_alone(one), lives_alone(four)
    assert alone == shared
    assert sum(alone.values()) > 20


def what_happened(message: ClusterUpdate) -> tuple[Any, ...]:
    # Of two crowds that were born at once and merge either may end: where that one was says nothing.
    place = (round(message.lat, 6), round(message.lon, 6)) if message.count else ()
    return message.event_time_ms, message.change, message.count, message.distinct_users, place


def lives_alone(messages: Sequence[ClusterUpdate]) -> Counter[tuple[Any, ...]]:
    """What happened to each id that no merge and no split concerns: of two crowds born at once either may keep its id."""
    related = {message.related_cluster_id for message in messages} | {
        m.cluster_id for m in messages if m.related_cluster_id
    }
    lives: dict[str, list[Any]] = {}
    for message in messages:
        if message.cluster_id not in related:
            lives.setdefault(message.cluster_id, []).append(what_happened(message))
    return Counter(tuple(life) for life in lives.values())


@pytest.mark.parametrize("partitions", [1, 4])
def test_a_restart_of_every_stage_changes_no_message(partitions: int) -> None:
    def of_crowds(restart: Callable[[PatternPipeline], None] | None = None) -> list[bytes]:
        told = all_told_by(partitions, restart)
        kinds = {type(one) for one in told if getattr(one, "entity_kind", "cluster") == "cluster"}
        assert kinds >= {ClusterUpdate, CoVisitUpdate, ForecastUpdate} and len(moves_of(told)) > 20
        return [msgspec.json.encode(one) for one in told]

    assert of_crowds(store_and_load) == of_crowds()


def test_a_tile_without_events_forgets_its_crowd_when_the_others_go_on() -> None:
    pipeline = PatternPipeline(settings_for(4))
    here, there = (40.0, -74.0), (48.0, 11.0)

    def visits(at_s: int, place: tuple[float, float], number: int) -> list[BehaviorEvent]:
        return [
            BehaviorEvent(
                event_id=f"{place}-{at_s}-{n}", user_id=f"u{n}", item_id="cafe", action="checkin",
                lat=place[0], lon=place[1], event_time_ms=1_400_000_000_000 + 1000 * (at_s + n),
            )
            for n in range(number)
        ]  # fmt: skip

    told_first = clusters_of(pipeline.update(visits(0, here, 9)))
    assert [one.change for one in told_first] == ["born"]
    later = clusters_of(pipeline.update(visits(400, there, 9)))
    assert {(one.cluster_id, one.change) for one in later} >= {(told_first[0].cluster_id, "died")}


def test_people_are_counted_once_though_a_crowd_is_parted() -> None:
    regions, lat = Regions(REGION.eps_m, 4), 40.0
    lon = np.arange(-74.0, -73.0, 1e-4)
    owners = regions.owners(np.full(len(lon), lat), lon)
    border = float(lon[np.flatnonzero(np.diff(owners))[0]])
    pipeline = PatternPipeline(settings_for(4))
    events = [
        BehaviorEvent(
            event_id=f"e{at}", user_id=f"u{at % 5}", item_id="square", action="checkin", lat=lat,
            lon=border + 1e-4 * (at % 9 - 4), event_time_ms=1_400_000_000_000 + 1000 * at,
        )
        for at in range(60)
    ]  # fmt: skip
    (crowd,) = clusters_of(pipeline.update(events))
    assert (crowd.count, crowd.distinct_users) == (60, 5)
    assert crowd.top_items[0].count == 60.0 and sum(crowd.hour_of_week) == 60


def test_co_visits_do_not_depend_on_the_number_of_regions() -> None:
    def co_visits(partitions: int) -> set[tuple[str, str, float]]:
        pipeline = PatternPipeline(settings_for(partitions))
        told = [one for one in pipeline.update(EVENTS_SEEN) if isinstance(one, CoVisitUpdate)]
        return {(one.item_id, pair.item_id, round(pair.support, 6)) for one in told for pair in one.neighbours}

    assert co_visits(1) == co_visits(4) != set()
