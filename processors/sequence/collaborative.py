"""Collaborative filtering on a stream: what those like you, or items like yours, lead to."""

from __future__ import annotations

from typing import Any

import numpy as np

from processors.sequence.columns import Floats, Ints
from processors.sequence.graph import BehaviourGraph
from processors.sequence.sketches import UserSketches
from processors.sequence.transition_counts import TransitionCounts


def user_based(
    sketches: UserSketches, tastes: TransitionCounts, user: int, time_s: float, k: int = 10, neighbours: int = 50
) -> tuple[Ints, Floats]:
    """The ``k`` items that are new to ``user`` and liked by the users most like them, with their scores.

    An item's score is the sum, over the ``neighbours`` most similar users, of similarity times the item's share among that
    user's decayed counts. ``tastes`` holds them as each owner's own order 0.

    Example:
        >>> sketches, tastes = UserSketches(), TransitionCounts()
        >>> users, items, times = np.array([1, 1, 2, 2, 2]), np.array([10, 11, 10, 11, 12]), np.zeros(5)
        >>> sketches.update(users, items, times)
        >>> from processors.sequence import NO_STATE
        >>> _ = tastes.update(np.full(5, NO_STATE), items, times, owners=users)
        >>> user_based(sketches, tastes, user=1, time_s=0.0)[0].tolist()
        [12]
    """
    like, similarity = sketches.similar_users(user, neighbours)
    items, scores = [np.empty(0, np.int64)], [np.empty(0, np.float64)]
    for other, weight in zip(like.tolist(), similarity.tolist(), strict=True):
        theirs, counts = tastes.counts_of(None, time_s, owner=other)
        items.append(theirs)
        scores.append(weight * counts / max(float(counts.sum()), np.finfo(np.float64).tiny))
    mine, _ = tastes.counts_of(None, time_s, owner=user)
    return _best_new(np.concatenate(items), np.concatenate(scores), mine, k)


def item_based(
    graph: BehaviourGraph, tastes: TransitionCounts, user: int, time_s: float, k: int = 10, latest: int = 50
) -> tuple[Ints, Floats]:
    """The ``k`` items that are new to ``user`` and nearest, by random walks, to the ``latest`` heaviest items of theirs."""
    mine, counts = tastes.counts_of(None, time_s, owner=user)
    alive = counts[:latest] > 0
    starts, weights = mine[:latest][alive], counts[:latest][alive]
    if not len(starts):
        return np.empty(0, np.int64), np.empty(0, np.float64)
    found, scores = graph.similar(starts, k + len(mine), weights=weights)
    return _best_new(found, scores, mine, k)


def _best_new(items: Any, scores: Any, known: Any, k: int) -> tuple[Ints, Floats]:
    unique, place = np.unique(items, return_inverse=True)
    total = np.bincount(place, scores, len(unique)).astype(np.float64)
    new = ~np.isin(unique, known)
    unique, total = unique[new], total[new]
    order = np.lexsort((unique, -total))[:k]
    return unique[order], total[order]
