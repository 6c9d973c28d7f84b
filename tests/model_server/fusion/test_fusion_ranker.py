"""What the fusion promises behind the Ranker protocol, on small streams with planted habits."""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from model_server import fusion_ranker
from model_server.fusion.settings import FusionSettings
from model_server.fusion_ranker import FusionRanker
from model_server.ranking import Query, Ranking
from schemas.events import BehaviorEvent, Item
from schemas.patterns import ClusterUpdate, NamedShare, ProfileUpdate, TransitionUpdate

HOUR_MS = 3_600_000
START_MS = 1_333_238_400_000
SMALL = FusionSettings(history=64, micro_batch=32, replay_events=32, sequence="")


def event(number: int, user: str, item: str, at_ms: int, lat: float | None = 40.7, lon: float = -74.0) -> BehaviorEvent:
    place = {} if lat is None else {"lat": lat + 0.001 * (hash_of(item) % 50), "lon": lon}
    return BehaviorEvent(
        event_id=str(number), user_id=user, item_id=item, action="checkin", event_time_ms=at_ms, **place
    )


def hash_of(item: str) -> int:
    return sum(map(ord, item))


def routines(days: int, users: int = 6, place: bool = True) -> list[BehaviorEvent]:
    """Everybody goes to their own cafe, office and gym at the same hours, but leaves out every third stop by chance."""
    rng = np.random.default_rng(0)
    events = []
    for day in range(days):
        for user in range(users):
            for stop, hour in (("cafe", 8), ("office", 10), ("gym", 19)):
                if rng.random() < 1 / 3:
                    continue
                at = START_MS + (day * 24 + hour) * HOUR_MS + int(rng.integers(0, HOUR_MS // 4))
                events.append((at, f"u{user}", f"{stop}{user if stop != 'gym' else user % 2}"))
    events.sort()
    return [event(n, user, item, at, 40.7 if place else None) for n, (at, user, item) in enumerate(events)]


@pytest.fixture(scope="module")
def trained() -> FusionRanker:
    ranker = FusionRanker(SMALL)
    ranker.observe(routines(30))
    return ranker


def test_a_daily_routine_is_learned(trained: FusionRanker) -> None:
    standing = trained.rank([Query(user_id="u3", k=3)])[0]
    assert {item.item_id for item in standing.items} == {"cafe3", "office3", "gym1"}
    for stop, hour in (("cafe3", 8), ("office3", 10), ("gym1", 19)):
        now_ms = START_MS + (30 * 24 + hour) * HOUR_MS
        best = trained.rank([Query(user_id="u3", k=1, now_ms=now_ms)])[0].items[0]
        assert best.item_id == stop and best.probability > 0.5


def test_items_come_with_the_shares_of_the_experts(trained: FusionRanker) -> None:
    item = trained.rank([Query(user_id="u0", k=1)])[0].items[0]
    assert len(item.shares) == len(item.experts) > 1 and np.isfinite(item.shares).all()
    assert trained.catalogue.item_ids[item.row] == item.item_id


def test_more_users_than_are_ranked_at_once_are_ranked_as_they_are_together(
    trained: FusionRanker, monkeypatch: pytest.MonkeyPatch
) -> None:
    queries = [Query(user_id=f"u{n}", k=5, now_ms=None if n % 3 else START_MS + 800 * HOUR_MS) for n in range(6)]
    together = trained.rank(queries)
    monkeypatch.setattr(fusion_ranker, "RANKED_AT_ONCE", 3)
    apart = trained.rank(queries)
    assert [each.user_id for each in apart] == [query.user_id for query in queries]
    for one, other in zip(apart, together, strict=True):
        assert [item.item_id for item in one.items] == [item.item_id for item in other.items]
        expected = pytest.approx([item.probability for item in other.items], rel=1e-5)  # float32
        assert [item.probability for item in one.items] == expected


def test_probabilities_fall_and_sum_to_at_most_one(trained: FusionRanker) -> None:
    for ranking in trained.rank([Query(user_id=f"u{n}", k=100) for n in range(6)]):
        p = [item.probability for item in ranking.items]
        assert sum(p) <= 1 + 1e-4 and min(p) >= 0
        assert len({item.item_id for item in ranking.items}) == len(p)
        assert 0 <= ranking.explore_probability <= 1


def test_the_standing_answer_is_the_same_whenever_it_is_asked(trained: FusionRanker) -> None:
    first = trained.rank([Query(user_id="u2", k=5)])[0]
    trained.rank([Query(user_id="u2", k=5, now_ms=START_MS + 9999 * HOUR_MS)])
    again = trained.rank([Query(user_id="u1", k=5), Query(user_id="u2", k=5)])[1]
    assert [item.item_id for item in again.items] == [item.item_id for item in first.items]
    assert [item.probability for item in again.items] == pytest.approx(
        [item.probability for item in first.items], rel=1e-4
    )


def test_only_allowed_items_are_ranked_and_some_always_are(trained: FusionRanker) -> None:
    rows = len(trained.catalogue)
    allowed = np.zeros(rows, bool)
    allowed[[2, 5]] = True
    for user in ("u0", "stranger"):
        ranking = trained.rank([Query(user_id=user, k=10, allowed=allowed)])[0]
        assert {item.row for item in ranking.items} == {2, 5}


def test_rows_beyond_the_mask_are_not_allowed(trained: FusionRanker) -> None:
    ranking = trained.rank([Query(user_id="u0", k=50, allowed=np.ones(3, bool))])[0]
    assert {item.row for item in ranking.items} == {0, 1, 2}


def test_a_stranger_gets_what_is_popular(trained: FusionRanker) -> None:
    ranking = trained.rank([Query(user_id="stranger", k=3)])[0]
    assert ranking.fallback == "popularity" and ranking.items[0].item_id.startswith("gym")


def test_an_empty_catalogue_gives_an_empty_list() -> None:
    assert FusionRanker(SMALL).rank([Query(user_id="u")])[0].items == []


def test_withdrawn_items_are_never_ranked() -> None:
    ranker = FusionRanker(SMALL)
    ranker.observe(routines(4))
    ranker.upsert_items([Item(item_id="cafe3", available=False)])
    for query in (Query(user_id="u3", k=50), Query(user_id="stranger", k=50)):
        assert "cafe3" not in {item.item_id for item in ranker.rank([query])[0].items}


def test_an_announced_item_can_be_recommended_before_anybody_touched_it() -> None:
    ranker = FusionRanker(SMALL)
    ranker.observe(routines(4))
    ranker.upsert_items([Item(item_id="museum", lat=40.7, lon=-74.0)])
    assert "museum" in {item.item_id for item in ranker.rank([Query(user_id="u0", k=50)])[0].items}


def test_a_target_has_no_influence_on_its_own_test() -> None:
    def scores(target: str) -> torch.Tensor:
        ranker = FusionRanker(SMALL)
        ranker.observe(routines(6))
        arrivals = ranker.remember([event(9999, "u1", target, START_MS + 200 * HOUR_MS)])
        scored = ranker.test(arrivals)["refresh"]
        return torch.cat((scored.returning.log_p, scored.gate, scored.exploring.log_p.flatten()))

    assert torch.equal(scores("cafe1"), scores("gym0"))


def test_the_same_stream_gives_the_same_model() -> None:
    answers = []
    for _ in range(2):
        ranker = FusionRanker(SMALL)
        ranker.observe(routines(5))
        answers.append([(item.item_id, item.probability) for item in ranker.rank([Query(user_id="u1", k=5)])[0].items])
    assert answers[0] == answers[1]


def plain(rankings: Sequence[Ranking]) -> list[object]:
    """Rankings as values that can be compared."""
    return [
        (each.explore_probability, [(item.item_id, item.probability, item.shares.tolist()) for item in each.items])
        for each in rankings
    ]


@pytest.mark.parametrize("sequence", ["", "nano"])
def test_state_gives_the_same_answers_in_another_process(sequence: str) -> None:
    settings = msgspec.structs.replace(SMALL, sequence=sequence)
    ranker, other = FusionRanker(settings), FusionRanker(settings)
    events = routines(6)
    ranker.observe(events[:80])
    other.load_state(ranker.state())
    query = [Query(user_id="u1", k=5), Query(user_id="u2", k=5, now_ms=START_MS + 150 * HOUR_MS)]
    assert plain(other.rank(query)) == plain(ranker.rank(query))
    for each in (ranker, other):
        each.observe(events[80:])
    assert plain(other.rank(query)) == plain(ranker.rank(query))


def test_state_from_before_there_were_trees_is_taken_over() -> None:
    ranker, other = FusionRanker(SMALL), FusionRanker(SMALL)
    ranker.observe(routines(6))
    state: dict[str, Any] = ranker.state()
    for head in state["heads"].values():
        del head["returns"]["trees"], head["returns"]["trust"]
    other.load_state(state)
    query = [Query(user_id="u1", k=5)]
    assert plain(other.rank(query)) == plain(ranker.rank(query)), "no tree was grown yet"


def test_state_of_other_settings_is_refused() -> None:
    with pytest.raises(ValueError, match="settings"):
        FusionRanker(SMALL).load_state(FusionRanker(FusionSettings(history=32, sequence="")).state())


def test_state_without_the_sequence_model_is_refused() -> None:
    settings = FusionSettings(history=64, sequence="nano")
    state = FusionRanker(settings).state()
    for broken in (state | {"sequence": None}, {name: value for name, value in state.items() if name != "sequence"}):
        with pytest.raises(ValueError, match="sequence"):
            FusionRanker(settings).load_state(broken)


def test_streams_without_places_are_ranked() -> None:
    ranker = FusionRanker(SMALL)
    ranker.observe(routines(20, place=False))
    best = ranker.rank([Query(user_id="u3", k=1, now_ms=START_MS + (20 * 24 + 8) * HOUR_MS)])[0].items[0]
    assert best.item_id == "cafe3"


def test_patterns_concern_the_users_that_they_name_and_those_nearby(trained: FusionRanker) -> None:
    crowd = ClusterUpdate(
        cluster_id="c", version=1, change="born", event_time_ms=START_MS, born_at_ms=START_MS, lat=40.72, lon=-74.0,
        radius_m=50.0, count=9, distinct_users=5,
    )  # fmt: skip
    far = ClusterUpdate(
        cluster_id="d", version=1, change="born", event_time_ms=START_MS, born_at_ms=START_MS, lat=10.0, lon=10.0,
        radius_m=50.0, count=9, distinct_users=5,
    )  # fmt: skip
    profile = ProfileUpdate(user_id="u5", version=1, event_time_ms=START_MS, events=3, items=[])
    assert trained.apply_patterns([far]) == set()
    assert trained.apply_patterns([profile]) == {"u5"}
    assert trained.apply_patterns([profile]) == set(), "an old version concerns nobody"
    assert trained.apply_patterns([crowd])


def test_global_transitions_lead_explorers() -> None:
    """Everybody goes from their own place to a common next one; the pattern topic says which."""
    ranker = FusionRanker(FusionSettings(history=16, micro_batch=16, replay_events=16, sequence=""))
    rng = np.random.default_rng(1)
    events, follow = [], {f"a{n}": f"b{n}" for n in range(40)}
    for user in range(300):
        first = f"a{rng.integers(0, 40)}"
        at = START_MS + user * HOUR_MS
        events += [
            event(2 * user, f"s{user}", first, at, None),
            event(2 * user + 1, f"s{user}", follow[first], at + 60_000, None),
        ]
    ranker.observe(events[:100])
    ranker.apply_patterns(
        [
            TransitionUpdate(
                state_kind="item",
                from_state=a,
                version=1,
                event_time_ms=START_MS,
                next_states=[NamedShare(b, 0.9)],
                total=9.0,
            )
            for a, b in follow.items()
        ]
    )
    ranker.observe(events[100:])
    ranker.observe([event(9000, "late", "a7", START_MS + 400 * HOUR_MS, None)])
    assert ranker.rank([Query(user_id="late", k=1)])[0].items[0].item_id == "b7"


def test_patterns_may_name_items_that_nobody_has_heard_of() -> None:
    """More of them than any table has room for."""
    ranker = FusionRanker(SMALL)
    ranker.observe(routines(2))
    unheard = [NamedShare(f"unheard{n}", 0.1) for n in range(1100)]
    ranker.apply_patterns(
        [
            TransitionUpdate(
                state_kind="item", from_state="cafe1", version=1, event_time_ms=START_MS, next_states=unheard, total=9.0
            )
        ]
    )
    assert ranker.rank([Query(user_id="u1", k=5)])[0].items


def test_moves_between_crowds_are_no_items_and_concern_nobody() -> None:
    ranker = FusionRanker(SMALL)
    ranker.observe(routines(2))
    known = len(ranker.catalogue)
    move = TransitionUpdate(
        state_kind="cluster", from_state="0-1", version=1, event_time_ms=START_MS, next_states=[NamedShare("0-2", 1.0)], total=9.0
    )  # fmt: skip
    assert ranker.apply_patterns([move, msgspec.structs.replace(move, version=2, next_states=[])]) == set()
    assert len(ranker.catalogue) == known


def test_unknown_experts_and_impossible_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="astrology"):
        FusionSettings(without=("astrology",))
    with pytest.raises(ValueError, match="modes"):
        FusionSettings(modes=())
