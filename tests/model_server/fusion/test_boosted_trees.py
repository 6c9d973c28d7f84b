"""Trees find what a sum of features cannot say, and what they hold can be stored."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from model_server.fusion import boosting, trees
from model_server.fusion.boosting import Asked, Boosting

PAIRS, FEATURES, EARLY = 8, 6, 200
Array = npt.NDArray[Any]


def said_by(found: Boosting, features: Array) -> Array:
    return found.of(len(features), Asked(lambda: features))


def choices(groups: int, seed: int) -> tuple[Array, Array, Array, Array]:
    """What is chosen is where two signs agree, which no single feature tells: features, base, group and hit of each pair."""
    random = np.random.default_rng(seed)
    features = random.normal(size=(groups * PAIRS, FEATURES)).astype(np.float32)
    wish = 3.0 * (features[:, 0] * features[:, 1] > 0) + random.gumbel(size=len(features))
    group = np.repeat(np.arange(groups), PAIRS)
    hit = wish == wish.reshape(groups, PAIRS).max(1)[group]
    return features, np.full(len(group), -np.log(PAIRS), np.float32), group, hit


def taught(events: int, seed: int = 0) -> Boosting:
    found = Boosting(FEATURES, seed, EARLY)
    for block in range(events // 50):
        features, base, group, hit = choices(50, 1000 + block)
        found.learn(features, base, said_by(found, features), group, hit)
        while found.grow():
            pass
    return found


def loss(found: Boosting) -> float:
    """The log loss on choices that were not learned from."""
    features, base, _, hit = choices(500, 1)
    p = np.exp((base + said_by(found, features)).reshape(-1, PAIRS))
    return float(-np.log((p / p.sum(1, keepdims=True)).reshape(-1)[hit]).mean())


def test_what_two_features_say_together_is_learned() -> None:
    assert loss(taught(6000)) < loss(Boosting(FEATURES)) - 0.3


def test_nothing_is_said_before_enough_was_seen() -> None:
    early = taught(EARLY - 50)
    assert early.grown == 0 and not said_by(early, choices(5, 0)[0]).any()
    assert taught(EARLY).grown == 1


def test_a_tree_is_grown_per_so_many_events_however_they_come() -> None:
    at_once, one_by_one = taught(EARLY), taught(EARLY)
    features, base, group, hit = choices(2 * boosting.EVENTS_PER_TREE, 5)
    at_once.learn(features, base, said_by(at_once, features), group, hit)
    while at_once.grow():
        pass
    for n in range(2 * boosting.EVENTS_PER_TREE):
        mine = group == n
        one_by_one.learn(features[mine], base[mine], said_by(one_by_one, features[mine]), group[mine] - n, hit[mine])
        while one_by_one.grow():
            pass
    assert at_once.grown == one_by_one.grown == 3


def test_a_tree_is_grown_on_every_pair() -> None:
    """Where one pair of many is chosen, to leave out some would be to leave out half of what there is to learn."""
    groups, likely = EARLY, np.tile(np.arange(PAIRS) < 2, EARLY)
    hit = np.tile(np.arange(PAIRS) == 0, groups)
    found = Boosting(1, 0, groups)
    features, base = likely[:, None].astype(np.float32), np.full(len(hit), -np.log(PAIRS), np.float32)
    found.learn(features, base, np.zeros(len(hit), np.float32), np.repeat(np.arange(groups), PAIRS), hit)
    assert found.grow() and not found.grow()
    said, p = said_by(found, np.array([[0.0], [1.0]], np.float32)), 1 / PAIRS
    hits, pairs = np.array([0, groups]), np.array([PAIRS - 2, 2]) * groups
    wish = (hits - p * pairs) / (p * (1 - p) * pairs + trees.SMOOTHING)
    np.testing.assert_allclose(said, boosting.RATE * wish, rtol=1e-4)


def test_a_group_whose_choice_was_hardly_possible_is_left_out() -> None:
    found = taught(EARLY)
    features, base, group, hit = choices(1, 7)
    found.learn(features, np.where(hit, boosting.LIKELY - 1, base), said_by(found, features), group, hit)
    while found.grow():
        pass
    assert found.groups == EARLY


def test_the_oldest_pairs_and_trees_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boosting, "HELD", 501)
    monkeypatch.setattr(boosting, "TREES", 3)
    found = taught(600)
    held = found.state()
    assert found.grown > len(held["value"]) == 3
    assert len(held["seen"]) == 62 * PAIRS, "whole groups are kept"
    said = said_by(found, choices(600, 0)[0])
    assert np.isfinite(said).all() and said.any()


def test_what_is_held_says_of_the_pairs_what_the_trees_say_now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boosting, "TREES", 3)
    held = taught(600).state()
    trees_now = (held["column"].numpy(), held["bound"].numpy(), held["value"].numpy())
    np.testing.assert_allclose(held["said"].numpy(), trees.answers(held["seen"].numpy().T, *trees_now), atol=1e-5)


def test_state_goes_on_as_if_nothing_had_happened() -> None:
    found, again = taught(1000), Boosting(FEATURES, 0, EARLY)
    again.load_state(found.state())
    features, base, group, hit = choices(100, 9)
    for each in (found, again):
        each.learn(features, base, said_by(each, features), group, hit)
        while each.grow():
            pass
    np.testing.assert_array_equal(said_by(found, features), said_by(again, features))


def test_state_from_before_the_first_tree_goes_on_too() -> None:
    found, again = taught(EARLY - 50), Boosting(FEATURES, 0, EARLY)
    again.load_state(found.state())
    features, base, group, hit = choices(100, 9)
    for each in (found, again):
        each.learn(features, base, said_by(each, features), group, hit)
        while each.grow():
            pass
    assert again.grown == 1
    np.testing.assert_array_equal(said_by(found, features), said_by(again, features))


def test_state_of_other_features_is_refused() -> None:
    with pytest.raises(ValueError, match="another shape"):
        Boosting(FEATURES + 1).load_state(taught(EARLY).state())


def test_a_tree_asks_what_separates_and_says_the_newton_step() -> None:
    features = np.array([[0.0, 1.0], [0.0, 2.0]] * 200 + [[1.0, 1.0], [1.0, 2.0]] * 200, np.float32)
    gradient = np.where(features[:, 0] > 0, 0.5, -0.5)
    bins = trees.binned(features, trees.edges_of(features))
    tree = trees.grown(bins, gradient, np.ones(800), np.arange(2))
    said = trees.answers(bins.T, tree.column[None], tree.bound[None], tree.value[None])
    wish = 200 / (400 + trees.SMOOTHING)
    assert tree.column[0] == 0
    np.testing.assert_allclose(said, np.where(features[:, 0] > 0, wish, -wish), rtol=1e-5)
