"""A/B by hash, fair interleaving, and diversity."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_server.experiments import Assignment, team_draft
from model_server.items import ItemTable
from model_server.ranking import RankedItem
from model_server.rules.diversity import diversify
from model_server.settings import ServerSettings
from model_server.strategies import build_strategy
from schemas.events import Item


def ranked(names: str) -> list[RankedItem]:
    return [RankedItem(item_id=name, row=0, probability=1 / (n + 2)) for n, name in enumerate(names)]


def test_assignment_is_stable_and_follows_the_shares() -> None:
    users = [f"user-{n}" for n in range(20_000)]
    first, again = Assignment({"a": 9, "b": 1}), Assignment({"a": 9, "b": 1})
    served = [first.of(user) for user in users]
    assert served == [again.of(user) for user in users]
    assert 0.09 < served.count("b") / len(users) < 0.11


def test_a_larger_share_moves_users_one_way_only() -> None:
    users = [f"user-{n}" for n in range(2_000)]
    before, after = Assignment({"a": 0.9, "b": 0.1}), Assignment({"a": 0.8, "b": 0.2})
    assert all(after.of(user) == "b" for user in users if before.of(user) == "b")


@settings(deadline=None)
@given(st.permutations("abcdef"), st.permutations("abcdxy"), st.integers(1, 12), st.integers(0, 2**63 - 1))
def test_interleaving_keeps_each_teams_order_and_repeats_nothing(a: list[str], b: list[str], k: int, seed: int) -> None:
    items, teams = team_draft(ranked("".join(a)), ranked("".join(b)), k, seed)
    names = [item.item_id for item in items]
    assert len(names) == len(set(names)) == min(k, len(set(a) | set(b)))
    for team, ranking in enumerate((a, b)):
        mine = [ranking.index(name) for name, chosen_by in zip(names, teams) if chosen_by == team]
        assert mine == sorted(mine)


def test_equal_strategies_share_the_first_places_evenly() -> None:
    first = sum(team_draft(ranked("abc"), ranked("abc"), 3, seed)[1][0] for seed in range(2_000))
    assert 900 < first < 1100


def test_diversity_breaks_up_a_run_of_one_kind_but_keeps_the_best_first() -> None:
    items = ItemTable()
    items.upsert([Item(item_id=name, categories=["x" if name in "abc" else name]) for name in "abcde"])
    assert [item.item_id for item in diversify(items, ranked("abcde"), 3, weight=0.7)] == ["a", "d", "e"]
    assert [item.item_id for item in diversify(items, ranked("abcde"), 3, weight=0.0)] == ["a", "b", "c"]


def test_an_unknown_strategy_is_named() -> None:
    with pytest.raises(ValueError, match="unknown strategy 'best'; known are fused"):
        build_strategy("best", ServerSettings())


@pytest.mark.parametrize("shares", [{}, {"a": -1.0, "b": 2.0}, {"a": 0.0}])
def test_shares_that_cannot_serve_are_refused(shares: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="strategies needs"):
        ServerSettings(strategies=shares)
