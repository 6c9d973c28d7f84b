"""What is told of everybody's items and categories: transitions, and the sequences that enough people do."""

from collections.abc import Sequence
from itertools import pairwise

import msgspec
import numpy as np
import pytest

from schemas.columns import decode_columns, encode_columns
from schemas.events import BehaviorEvent
from schemas.patterns import Pattern, SequenceUpdate, TransitionUpdate
from streams.pipeline import PatternPipeline
from streams.stages.factory import stage_factory
from streams.stages.output import key_of
from streams.stages.settings import MiningSettings, TransitionStageSettings

START_MS, HOUR_MS, DAY_MS = 1_333_238_400_000, 3_600_000, 86_400_000
COMMUTE = ("home", "station", "office")


def commuters(days: int, people: int, first_day: int = 0, commute: Sequence[str] = COMMUTE) -> list[BehaviorEvent]:
    """People who go the same way every morning and then to some of forty places, the categories being those of the way."""
    rng = np.random.default_rng(days + first_day)
    events = []
    for day in range(first_day, first_day + days):
        for person in range(people):
            places = [*commute, *(f"place-{rng.integers(40)}" for _ in range(9))]
            for at, place in enumerate(places):
                category = f"a {place}" if at < len(commute) else f"kind-{place[-1]}"
                events.append(
                    BehaviorEvent(
                        event_id=f"{day}-{person}-{at}", user_id=f"u{person}", item_id=place, action="checkin",
                        event_time_ms=START_MS + day * DAY_MS + at * HOUR_MS + person, context={"category": category},
                    )
                )  # fmt: skip
    return sorted(events, key=lambda event: event.event_time_ms)


def told(pipeline: PatternPipeline, events: Sequence[BehaviorEvent], batch: int = 200) -> list[Pattern]:
    return [p for start in range(0, len(events), batch) for p in pipeline.update(events[start : start + batch])]


def sequences(patterns: Sequence[Pattern], kind: str = "item") -> dict[tuple[str, ...], SequenceUpdate]:
    """The last word on each sequence of a kind."""
    return {tuple(p.states): p for p in patterns if isinstance(p, SequenceUpdate) and p.state_kind == kind}


@pytest.mark.parametrize("partitions", [1, 4])
def test_the_way_to_work_is_told_of_places_and_of_categories(partitions: int) -> None:
    patterns = told(PatternPipeline(partitions=partitions), commuters(days=30, people=8))
    for kind, way in (("item", COMMUTE), ("category", tuple(f"a {place}" for place in COMMUTE))):
        found = sequences(patterns, kind)
        strong = {states for states, one in found.items() if one.lift > 4}
        assert {way, way[:2], way[1:]} <= strong
        assert all(way[:2] in (states[:2], states[1:]) or way[1:] in (states[:2], states[1:]) for states in strong)
        whole = found[way]
        assert 100 < whole.support <= 240 and whole.lift > 50
        assert whole.quality is not None
        assert whole.quality.support == whole.support and whole.quality.significance > 50
    # A ninth of all events are at each of these places, and each place begins one way only.
    assert sequences(patterns)["home", "station"].lift == pytest.approx(12, rel=0.25)


def test_what_follows_a_category_is_told_once_and_by_one_partition() -> None:
    patterns = told(PatternPipeline(partitions=4), commuters(days=30, people=8))
    latest = {p.from_state: p for p in patterns if isinstance(p, TransitionUpdate) and p.state_kind == "category"}
    assert latest["a home"].next_states[0] == msgspec.convert(["a station", 1.0], type(latest["a home"].next_states[0]))
    assert latest["a home"].user_id is None and latest["a home"].quality is not None
    versions = dict[str, list[int]]()
    for pattern in patterns:
        if isinstance(pattern, SequenceUpdate | TransitionUpdate):
            versions.setdefault(key_of(pattern), []).append(pattern.version)
    assert all(np.diff(seen).min() > 0 for seen in versions.values() if len(seen) > 1)


def test_a_sequence_is_told_when_it_has_grown_and_not_at_every_event() -> None:
    patterns = told(PatternPipeline(partitions=1), commuters(days=60, people=8), batch=24)
    said = [p.support for p in patterns if isinstance(p, SequenceUpdate) and tuple(p.states) == COMMUTE]
    assert 2 < len(said) < 9
    assert min(later / earlier for earlier, later in pairwise(said)) > 1.3


def test_what_only_two_people_do_is_no_sequence_of_everybody() -> None:
    patterns = told(PatternPipeline(partitions=2), commuters(days=120, people=2))
    assert not any(isinstance(pattern, SequenceUpdate) for pattern in patterns)


def test_a_higher_limit_of_people_withdraws_what_was_told_with_a_lower_one() -> None:
    lax, strict = (
        MiningSettings(partitions=1, transition=TransitionStageSettings(min_users=limit)) for limit in (3, 20)
    )
    pipeline = PatternPipeline(lax)
    assert COMMUTE in sequences(told(pipeline, commuters(days=30, people=8)))
    stage = pipeline.stages["transition"][0]
    restored = stage_factory("transition", strict)(0, stage.to_bytes())
    pipeline.stages["transition"][0] = restored
    later = sequences(told(pipeline, commuters(days=4, people=8, first_day=30)))
    assert later[COMMUTE].support == 0
    assert not any(one.support for one in later.values())


def test_a_sequence_that_nobody_does_any_more_is_withdrawn() -> None:
    pipeline = PatternPipeline(partitions=2)
    assert COMMUTE in sequences(told(pipeline, commuters(days=30, people=8)))
    later = sequences(told(pipeline, commuters(days=150, people=8, first_day=30, commute=("home", "garden"))))
    assert (later[COMMUTE].support, later[COMMUTE].lift, later[COMMUTE].quality) == (0.0, 0.0, None)
    assert later["home", "garden"].support > 20
    assert COMMUTE in sequences(told(pipeline, commuters(days=30, people=8, first_day=180)))


def test_nothing_is_told_through_a_private_place() -> None:
    settings = MiningSettings(partitions=2, private_categories=("a station",))
    pipeline = PatternPipeline(settings)
    patterns = told(pipeline, commuters(days=60, people=8))
    for stage in pipeline.stages["transition"]:  # nor does the stage know of it
        assert not any("station" in name for name in stage.names.held.as_dict().values())
    everybody = [p for p in patterns if getattr(p, "user_id", None) is None]
    assert b"station" not in msgspec.json.encode(everybody)
    for kind, way in (("item", COMMUTE), ("category", tuple(f"a {place}" for place in COMMUTE))):
        assert not any({way[0], way[2]} <= set(states) for states in sequences(patterns, kind))


def test_rows_and_states_from_before_there_were_sequences_are_understood() -> None:
    pipeline = PatternPipeline(partitions=1)
    whole, old = (stage_factory("transition", pipeline.settings)(0, None) for _ in range(2))
    events, routed = commuters(days=4, people=8), []
    user = pipeline.stages["user"][0]
    columns, _ = pipeline._decoder.columns_of(events, np.arange(len(events)), np.full(len(events), 2 * 10**12))
    for start in range(0, len(events), 100):
        rows = np.arange(start, min(start + 100, len(events)))
        routed += [
            one.batch for one in user.apply(columns.select(rows), int(rows[-1])).routed if len(one.batch.columns)
        ]
    mine = [batch for batch in routed if "from_item" in batch.rows()]
    bare = [
        msgspec.structs.replace(
            batch,
            columns=encode_columns(
                {
                    name: decode_columns(batch.columns)[name]
                    for name in ("origin_offset", "time_ms", "item", "from_item")
                }
            ),
        )
        for batch in mine[:2]
    ]
    whole.apply(mine, len(mine) - 1)
    old.apply([*bare, *mine[2:4]], 3)
    blobs = msgspec.msgpack.decode(old.to_bytes())
    for name in ("sequences", "sequence_book", "categories"):
        del blobs[name]
    old.load(msgspec.msgpack.encode(blobs))
    old.apply(mine[4:], len(mine) - 1)
    assert np.array_equal(whole.items.counts.contexts(), old.items.counts.contexts())
    assert len(whole.categories.sequences.counts) > len(old.categories.sequences.counts) > 0
