"""The chain: the user's own items, the nearest crowd's, this hour's, everybody's, and then anything at all."""

import numpy as np
import pytest

from model_server.ranking import Query
from model_server.rules.fallback import HOUR_MS, FallbackRanker, FallbackSettings
from schemas.events import BehaviorEvent, Item
from schemas.patterns import ClusterUpdate, NamedCount

NINE_MS = 1_333_238_400_000 + 9 * HOUR_MS


def event(user: str, item: str, time_ms: int = NINE_MS, **fields: float) -> BehaviorEvent:
    return BehaviorEvent(
        event_id=f"{user}{item}{time_ms}", user_id=user, item_id=item, action="view", event_time_ms=time_ms, **fields
    )


def cluster(version: int = 1, change: str = "born") -> ClusterUpdate:
    return ClusterUpdate(
        cluster_id="c", version=version, change=change, event_time_ms=NINE_MS, born_at_ms=NINE_MS, lat=40.0, lon=-74.0,
        radius_m=100.0, count=9, distinct_users=9, top_items=[NamedCount("square", 9.0)],
    )  # type: ignore[arg-type]  # fmt: skip


def ranked(ranker: FallbackRanker, user: str, k: int = 10, **fields: object) -> list[str]:
    (ranking,) = ranker.rank([Query(user_id=user, k=k, **fields)])  # type: ignore[arg-type]
    return [item.item_id for item in ranking.items]


def test_own_items_come_first_then_the_crowds_then_the_hours_then_everybodys_then_the_rest() -> None:
    ranker = FallbackRanker()
    ranker.upsert_items([Item(item_id="square"), Item(item_id="unseen")])
    ranker.observe([event("bob", "pub", NINE_MS + 12 * HOUR_MS) for _ in range(3)])
    ranker.observe([event("cat", "bakery") for _ in range(2)])
    ranker.observe([event("ann", "cafe", lat=40.001, lon=-74.0)])
    ranker.apply_patterns([cluster()])
    assert ranked(ranker, "ann") == ["cafe", "square", "bakery", "pub", "unseen"]


def test_a_new_user_gets_what_is_popular_at_the_hour_and_the_stage_is_named() -> None:
    ranker = FallbackRanker()
    ranker.observe([event("bob", "pub", NINE_MS + 12 * HOUR_MS) for _ in range(3)])
    ranker.observe([event("cat", "bakery")])
    (ranking,) = ranker.rank([Query(user_id="new", k=2, now_ms=NINE_MS)])
    assert [item.item_id for item in ranking.items] == ["bakery", "pub"]
    assert ranking.fallback == "time_of_day"


def test_recent_events_outweigh_old_ones() -> None:
    ranker = FallbackRanker(settings=FallbackSettings(half_life_s=86_400.0))
    ranker.observe([event("bob", "old", NINE_MS)] * 3)
    ranker.observe([event("bob", "recent", NINE_MS + 100 * 24 * HOUR_MS)])
    ranker.observe([event("bob", "now", NINE_MS + 300 * 24 * HOUR_MS)])
    assert ranked(ranker, "bob") == ["now", "recent", "old"]


def test_a_crowd_concerns_the_users_near_it_and_a_dead_one_nobody() -> None:
    ranker = FallbackRanker()
    ranker.observe([event("near", "cafe", lat=40.005, lon=-74.0), event("far", "bar", lat=41.0, lon=-74.0)])
    ranker.observe([event("nowhere", "web")])
    assert ranker.apply_patterns([cluster(version=2)]) == {"near"}
    assert ranker.apply_patterns([cluster(version=1)]) == set()
    assert ranker.apply_patterns([cluster(version=3, change="died")]) == set()
    assert ranked(ranker, "new", lat=40.0, lon=-74.0)[0] != "square"


def test_only_allowed_and_available_items_are_ranked_even_if_none_was_ever_touched() -> None:
    ranker = FallbackRanker()
    ranker.upsert_items([Item(item_id="a"), Item(item_id="b", available=False), Item(item_id="c")])
    assert ranked(ranker, "new") == ["a", "c"]
    assert ranked(ranker, "new", allowed=np.array([False, True, True])) == ["c"]
    assert ranked(ranker, "new", allowed=np.array([True])) == ["a"]


def test_a_restored_ranker_ranks_as_the_saved_one_with_other_rows() -> None:
    ranker, other = FallbackRanker(), FallbackRanker()
    ranker.observe([event(f"u{n % 3}", f"i{n % 7}", NINE_MS + n * HOUR_MS, lat=40.0, lon=-74.0) for n in range(50)])
    other.items.touch(["i6", "z"])
    other.load_state(ranker.state())
    for user in ("u0", "u1", "u2"):
        assert ranked(other, user, k=7) == ranked(ranker, user, k=7)


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"counts": np.zeros((3, 1))},
        {"counts": np.full((25, 1), np.nan)},
        {"item_ids": None},
        {"users": [1, 2]},
        {"weights": np.array([np.inf])},
    ],
)
def test_a_wrong_state_is_refused(broken: dict[str, object]) -> None:
    ranker = FallbackRanker()
    ranker.observe([event("a", "x")])
    state = ranker.state() | broken if broken else {}
    with pytest.raises(ValueError, match="fallback ranker"):
        FallbackRanker().load_state(state)


def test_users_and_their_items_are_bounded() -> None:
    ranker = FallbackRanker(settings=FallbackSettings(max_users=3, items_per_user=2))
    ranker.observe([event(f"u{n}", f"i{m}", NINE_MS + m) for n in range(5) for m in range(4)])
    state = ranker.state()
    assert state["users"] == ["u2", "u3", "u4"]
    assert np.asarray(state["kept"]).tolist() == [2, 2, 2]
