"""The behaviour graph, its walks and the users' sketches against dense linear algebra and exact sets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.sequence import (
    NO_STATE,
    BehaviourGraph,
    TransitionCounts,
    UserSketches,
    item_based,
    user_based,
)


def events(seed: int, n: int, users: int = 5, states: int = 12) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, users, n), rng.integers(0, states, n), np.sort(rng.uniform(0, 50.0 * n, n))


def exact_edges(users: Any, states: Any, times: Any, gap_s: float, depth: int, half_life_s: float, now: float) -> Any:
    """The adjacency matrix by definition."""
    edges = np.zeros((12, 12))
    past: dict[int, list[tuple[float, int]]] = {}
    for user, state, time in zip(users.tolist(), states.tolist(), times.tolist(), strict=True):
        mine = past.setdefault(user, [])
        if mine and time - mine[-1][0] > gap_s:
            mine.clear()
        seen = {state}
        for step, (_, other) in enumerate(reversed(mine[-depth:]), 1):
            if other not in seen:
                seen.add(other)
                edges[state, other] += 0.5 ** ((now - time) / half_life_s) / step
                edges[other, state] += 0.5 ** ((now - time) / half_life_s) / step
        mine.append((time, state))
    return edges


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(2, 150), cuts=st.lists(st.integers(0, 150), max_size=6))
def test_edges_and_walks_equal_the_dense_ones(seed: int, n: int, cuts: list[int]) -> None:
    users, states, times = events(seed, n)
    graph = BehaviourGraph(gap_s=300.0, depth=3, half_life_s=2000.0)
    for part in np.split(np.arange(n), sorted(cuts)):
        graph.update(users[part], states[part], times[part])
        graph = BehaviourGraph.from_bytes(graph.to_bytes())
    now = float(times[-1])
    edges = exact_edges(users, states, times, 300.0, 3, 2000.0, now)
    for state in range(12):
        near, weights = graph.neighbours(state, now, k=12)
        np.testing.assert_allclose(weights, edges[state, near])
        assert set(near.tolist()) == set(np.flatnonzero(edges[state]).tolist())
    total = edges.sum(1, keepdims=True)
    step = np.divide(edges, total, where=total > 0, out=np.zeros_like(edges))
    here, ended = np.eye(12)[3], np.zeros(12)
    for _ in range(4):
        stays = np.where(total[:, 0] > 0, 0.3, 1.0) * here
        ended += stays
        here = (here - stays) @ step
    ended += here
    found, mass = graph.similar([3], k=12)
    np.testing.assert_allclose(mass, ended[found])
    assert set(found.tolist()) == set(np.flatnonzero(ended).tolist()) - {3}


def test_walk_is_bounded_and_the_same_every_time() -> None:
    users, states, times = events(0, 3000, users=30, states=400)
    graph = BehaviourGraph(gap_s=1e9, max_neighbours=16)
    graph.update(users, states, times)
    whole, narrow = graph.similar([1, 2], k=400), graph.similar([1, 2], k=400, width=8)
    assert narrow[1].sum() < whole[1].sum() <= 1 and len(narrow[0]) <= 2 + 4 * 8
    again = graph.similar([1, 2], k=400)
    assert whole[0].tolist() == again[0].tolist() and whole[1].tolist() == again[1].tolist()


def test_graph_stays_bounded_when_everything_is_new() -> None:
    graph = BehaviourGraph(max_nodes=512, max_edges=2048, max_neighbours=32, max_users=256)
    for start in range(0, 20_000, 1000):
        graph.update(np.arange(1000) // 4 + start, np.arange(start, start + 1000), np.full(1000, float(start)))
    assert graph.nbytes < 400_000 and graph.edges.n_contexts <= 512


def test_estimated_similarity_is_the_jaccard_similarity() -> None:
    rng = np.random.default_rng(1)
    sketches, sets = UserSketches(hashes=1024), {}
    for user in range(20):
        sets[user] = set(rng.integers(0, 60, 40).tolist())
        items = np.array(sorted(sets[user]))
        sketches.update(np.full(len(items), user), items, np.zeros(len(items)))
    for user in range(1, 20):
        exact = len(sets[0] & sets[user]) / len(sets[0] | sets[user])
        assert sketches.similarity(0, user) == pytest.approx(exact, abs=4 * np.sqrt(0.25 / 1024))
    like, similarity = sketches.similar_users(0, k=19)
    assert similarity.tolist() == sorted(similarity.tolist(), reverse=True) and 0 not in like


def test_sketch_forgets_after_two_spans() -> None:
    sketches = UserSketches(span_s=100.0)
    sketches.update([1, 2], [5, 5], [0.0, 0.0])
    sketches.update([1, 2], [6, 7], [150.0, 150.0])
    assert 0 < sketches.similarity(1, 2) < 1
    sketches.update([1, 2], [6, 7], [250.0, 250.0])
    assert sketches.similarity(1, 2) == 0.0
    sketches.update([3], [6], [900.0])
    assert sketches.similarity(1, 1) == 0.0 and len(sketches.similar_users(1)[0]) == 0


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), cuts=st.lists(st.integers(0, 200), max_size=6))
def test_sketches_do_not_depend_on_batches_nor_on_a_restart(seed: int, cuts: list[int]) -> None:
    users, items, times = events(seed, 200)
    at_once, in_parts = UserSketches(hashes=16, span_s=3000.0), UserSketches(hashes=16, span_s=3000.0)
    at_once.update(users, items, times)
    for part in np.split(np.arange(200), sorted(cuts)):
        in_parts.update(users[part], items[part], times[part])
        in_parts = UserSketches.from_bytes(in_parts.to_bytes())
    for user in range(5):
        for one, other in zip(at_once.similar_users(user), in_parts.similar_users(user), strict=True):
            assert one.tolist() == other.tolist()


def test_longest_unseen_users_make_room() -> None:
    sketches = UserSketches(hashes=4, span_s=10.0, max_users=64)
    sketches.update(np.arange(500), np.arange(500), np.arange(500.0))
    assert len(sketches) <= 64 and sketches.forgotten_users == 500 - len(sketches)
    assert sketches.similarity(499, 499) == 1.0 and sketches.similarity(0, 0) == 0.0


def test_collaborative_filters_find_what_the_like_minded_like() -> None:
    rng = np.random.default_rng(2)
    users = np.repeat(np.arange(60), 12)
    items = np.where(users < 30, 0, 100) + rng.integers(0, 20, len(users))  # two circles of taste
    times = np.arange(len(users), dtype=float)
    sketches, tastes, graph = UserSketches(), TransitionCounts(), BehaviourGraph()
    sketches.update(users, items, times)
    graph.update(users, items, times)
    tastes.update(np.full(len(users), NO_STATE), items, times, owners=users)
    for user, circle in ((3, range(20)), (45, range(100, 120))):
        known = set(items[users == user].tolist())
        for found, scores in (
            user_based(sketches, tastes, user, times[-1], k=5),
            item_based(graph, tastes, user, times[-1], k=5),
        ):
            assert len(found) == 5 and set(found.tolist()) <= set(circle) - known
            assert scores.tolist() == sorted(scores.tolist(), reverse=True)
    assert len(user_based(sketches, tastes, 999, 0.0)[0]) == len(item_based(graph, tastes, 999, 0.0)[0]) == 0


@pytest.mark.parametrize(
    ("named", "wrong"),
    [
        ("restart", {"restart": 1.0}),
        ("steps", {"steps": 0}),
        ("weights", {"weights": [0.0]}),
        ("weights", {"weights": [1, 2]}),
    ],
)
def test_bad_walks_are_named(named: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=named):
        BehaviourGraph().similar([1], **wrong)


def test_bad_sketches_are_named() -> None:
    for fields in ({"hashes": 0}, {"span_s": 0.0}, {"max_users": 1}):
        with pytest.raises(ValueError, match=next(iter(fields))):
            UserSketches(**fields)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="items"):
        UserSketches().update([1], [1, 2], [0.0])
