"""What was told is told anew while the world goes on: no pattern is stale because it has been true for long."""

from collections.abc import Sequence

import pytest

from schemas.events import BehaviorEvent
from schemas.patterns import CoVisitUpdate, Pattern, TransitionUpdate
from streams.pipeline import PatternPipeline
from streams.stages.covisiting import CoVisitWatch
from streams.stages.settings import MiningSettings, RegionStageSettings, TransitionStageSettings

START_MS, MINUTE_MS, DAY_MS = 1_400_000_000_000, 60_000, 86_400_000


def visits(first: int, last: int, then: str, people: int = 10) -> list[BehaviorEvent]:
    """Each time somebody comes from the station and goes to ``then``, ten minutes later and a block away."""
    return [
        BehaviorEvent(
            event_id=f"{at}-{step}", user_id=f"u{at % people}", item_id=place, action="view", lat=40.0 + 0.001 * step,
            lon=-74.0, event_time_ms=START_MS + at * 20 * MINUTE_MS + step * 10 * MINUTE_MS,
        )
        for at in range(first, last)
        for step, place in enumerate(("station", then))
    ]  # fmt: skip


def told(pipeline: PatternPipeline, events: Sequence[BehaviorEvent], batch: int = 50) -> list[Pattern]:
    return [p for start in range(0, len(events), batch) for p in pipeline.update(events[start : start + batch])]


def after_station(patterns: Sequence[Pattern]) -> list[TransitionUpdate]:
    return [
        one
        for one in patterns
        if isinstance(one, TransitionUpdate)
        and (one.from_state, one.user_id, one.state_kind) == ("station", None, "item")
    ]


def beside_station(patterns: Sequence[Pattern]) -> list[CoVisitUpdate]:
    return [one for one in patterns if isinstance(one, CoVisitUpdate) and one.item_id == "station"]


def test_a_new_habit_after_a_busy_place_is_told_within_its_next_visits() -> None:
    pipeline = PatternPipeline(partitions=1)
    told(pipeline, visits(0, 4_000, "bakery"))
    since = after_station(told(pipeline, visits(4_000, 4_300, "cafe")))
    shares = [{state.name: state.share for state in one.next_states} for one in since]
    assert 2 <= len(since) <= 300 // TransitionStageSettings().at_most + 1
    assert shares[-1]["cafe"] > shares[0]["cafe"] > 0


@pytest.mark.parametrize("partitions", [1, 4])
def test_co_visited_places_are_told_anew_as_their_support_grows(partitions: int) -> None:
    updates = beside_station(told(PatternPipeline(partitions=partitions), visits(0, 600, "bakery")))
    supports = [one.neighbours[0].support for one in updates]
    assert {one.neighbours[0].item_id for one in updates} == {"bakery"}
    assert supports == sorted(supports) and supports[0] < 30 and supports[-1] > 400
    assert len(updates) < 5 + 600 // RegionStageSettings().covisit_at_most + 20


def test_a_place_whose_pairs_have_faded_is_told_once_without_any() -> None:
    settings = MiningSettings(partitions=1)
    pipeline = PatternPipeline(settings)
    told(pipeline, visits(0, 12, "bakery"))
    years = 2 * 365 * DAY_MS
    alone = [
        BehaviorEvent(
            event_id=f"alone-{at}", user_id="u1", item_id="station", action="view", lat=40.0, lon=-74.0,
            event_time_ms=START_MS + years + at * DAY_MS,
        )
        for at in range(40)
    ]  # fmt: skip
    updates = beside_station(told(pipeline, alone, 1))
    assert [one.neighbours for one in updates] == [[]]


def test_what_is_due_is_the_same_after_a_restart() -> None:
    def updates(restart: bool) -> list[CoVisitUpdate]:
        pipeline, found = PatternPipeline(partitions=1), list[Pattern]()
        for start in range(0, 300, 25):
            found += told(pipeline, visits(start, start + 25, "bakery"))
            if restart:
                (stage,) = pipeline.stages["region"]
                kept, stage.covisits = stage.covisits.to_bytes(), CoVisitWatch(pipeline.settings.region)
                stage.covisits.load(kept)
        return beside_station(found)

    assert updates(restart=True) == updates(restart=False) != []
