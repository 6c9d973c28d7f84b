"""How far published patterns can be trusted: what is said of habit and of chance, and that a restart changes nothing of it."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import pytest
from workload import workload

from schemas.events import BehaviorEvent
from schemas.patterns import Pattern, PatternQuality, PeriodicityUpdate, ProfileUpdate, TransitionUpdate
from streams.decoding import EventDecoder
from streams.pipeline import BEHIND, PatternPipeline
from streams.stages.factory import STAGES, stage_factory
from streams.stages.output import Routed
from streams.stages.settings import MiningSettings

SETTINGS = MiningSettings(partitions=1)
START_MS = 1_333_238_400_000
DAY_MS = 86_400_000


class Record(msgspec.Struct, frozen=True):
    offset: int
    value: bytes
    timestamp: int = -1


RECORDS = [Record(at, value) for at, (_, value) in enumerate(workload(seed=4, events=4_000, users=30, items=30))]
EDGES = list(range(0, len(RECORDS) + 1, 500))


def published(name: str, restarts: Sequence[int]) -> list[list[Pattern]]:
    """What a stage publishes for each batch, its state stored and restored after those numbered in ``restarts``."""
    make, decoder = stage_factory(name, SETTINGS), EventDecoder(SETTINGS.limits)
    user, stage = stage_factory("user", SETTINGS)(0, None), make(0, None)
    told: list[list[Pattern]] = []
    for number, (start, end) in enumerate(pairwise(EDGES)):
        columns, _ = decoder.decode(RECORDS[start:end], 2 * 10**12)
        if name == "user":
            told.append(stage.apply(columns, end - 1).patterns)
        else:
            routed: list[Routed] = user.apply(columns, end - 1, True).routed
            mine = [one.batch for one in routed if BEHIND[one.topic.name] == name]
            told.append(stage.apply(mine, number).patterns)
        if number in restarts:
            stage = make(0, stage.to_bytes())
    return told


# With one partition the union stage has nothing to do; of several, test_shared_crowds.py says the same.
@pytest.mark.parametrize("name", [name for name in STAGES if name not in ("place", "union")])
def test_a_restarted_stage_says_of_its_patterns_what_an_undisturbed_one_says(name: str) -> None:
    undisturbed = published(name, [])
    assert published(name, [1, 4]) == undisturbed
    qualities = [pattern.quality for patterns in undisturbed for pattern in patterns if pattern.quality is not None]
    assert len(qualities) > 20
    assert len({quality.stability for quality in qualities}) > 1 and len({q.significance for q in qualities}) > 10


def latest(kind: type, patterns: Sequence[Pattern], **fields: Any) -> Any:
    found = [p for p in patterns if isinstance(p, kind) and all(getattr(p, f) == v for f, v in fields.items())]
    return found[-1]


def habit_and_chance() -> list[BehaviorEvent]:
    """A user who alternates between two places of her own, and one who goes anywhere of the places of everybody."""
    rng = np.random.default_rng(1)
    events = []
    for at in range(600):
        common = {"action": "view", "event_time_ms": START_MS + at * 60_000}
        mine, any_place = ("home", "office")[at % 2], f"place-{rng.integers(6)}"
        events.append(BehaviorEvent(event_id=f"h{at}", user_id="habit", item_id=mine, **common))
        events.append(BehaviorEvent(event_id=f"c{at}", user_id="chance", item_id=any_place, **common))
        others = f"other-{at % 40}"
        events.append(BehaviorEvent(event_id=f"o{at}", user_id=others, item_id=f"place-{rng.integers(6)}", **common))
    return events


def test_habit_is_significant_and_stable_and_chance_is_neither() -> None:
    pipeline, patterns = PatternPipeline(partitions=1), list[Pattern]()
    events = habit_and_chance()
    for start in range(0, len(events), 150):
        patterns += pipeline.update(events[start : start + 150])
    habit = latest(TransitionUpdate, patterns, user_id="habit", from_state="home").quality
    chance = [p.quality for p in patterns if isinstance(p, TransitionUpdate) and p.user_id == "chance"]
    assert habit.significance > 30 and habit.stability == 1.0 and habit.support >= 128
    assert max(quality.significance for quality in chance if quality) < 3
    assert min(quality.stability for quality in chance if quality and quality.support > 30) < 0.9
    everybody = latest(TransitionUpdate, patterns, user_id=None, from_state="home").quality
    assert everybody.significance > 30 and everybody.stability == 1.0
    profiles = [latest(ProfileUpdate, patterns, user_id=user).quality for user in ("habit", "chance")]
    # Against everybody, of whom the first is a third, even the second prefers the common places a little.
    assert profiles[0].significance > 10 * profiles[1].significance
    assert profiles[0].stability > 0.9 > profiles[1].stability


def test_a_period_grows_stable_while_it_lasts_and_has_no_quality_left_when_it_is_withdrawn() -> None:
    pipeline, told = PatternPipeline(partitions=1, examinations_per_1000_events=1000), list[PatternQuality]()
    for week in range(60):
        weekly = week if week < 40 else 40
        event = BehaviorEvent(
            event_id=f"e{week}", user_id="u" if week < 40 else f"u{week}", item_id="choir", action="view",
            event_time_ms=START_MS + week * 7 * DAY_MS + (weekly * 7_919 % 600) * 1000,
        )  # fmt: skip
        found = pipeline.update([event]) + pipeline.examine(4)
        told += [p.quality for p in found if isinstance(p, PeriodicityUpdate) and p.entity == "u" and p.quality]
    assert told[0].stability == 0.0 and told[0].significance > 1
    assert told[-1] == PatternQuality(support=40.0, significance=0.0, stability=0.0)
    book = pipeline.stages["place"][0].periods.book
    assert len(book) == 1
    quality = book.record(
        next(iter(book._lives)), time_s=START_MS / 1000 + 60 * 7 * 86_400, claim=0, support=1.0, significance=1.0
    )
    assert quality.stability > 0.7
