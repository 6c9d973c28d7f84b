"""Maximal marginal relevance: a little probability given up for items that are not all alike."""

import math
from collections.abc import Sequence

import numpy as np

from model_server.items import ItemTable
from model_server.ranking import RankedItem


def diversify(items: ItemTable, ranked: Sequence[RankedItem], k: int, weight: float) -> list[RankedItem]:
    """The ``k`` items that maximise, one after the other, (1 - weight) relevance - weight similarity to those chosen before.

    Relevance is log-probability scaled to [0, 1] over the candidates; the similarity of two items is the Jaccard index of
    their categories (MMR: Carbonell and Goldstein, SIGIR 1998). The most probable item always comes first; with weight 0
    the order is the given one. O(candidates * k).

    >>> from schemas.events import Item
    >>> items = ItemTable()
    >>> items.upsert([Item(item_id=name, categories=[kind]) for name, kind in ("ax", "bx", "cy")])
    >>> ranked = [RankedItem(item_id=name, row=0, probability=p) for name, p in zip("abc", (0.5, 0.3, 0.2))]
    >>> [item.item_id for item in diversify(items, ranked, k=2, weight=0.5)]
    ['a', 'c']
    """
    if weight == 0.0 or len(ranked) <= 1:
        return list(ranked[:k])
    logs = np.array([math.log(max(item.probability, 1e-12)) for item in ranked])
    spread = logs.max() - logs.min()
    relevance = (logs - logs.min()) / spread if spread > 0 else np.ones(len(ranked))
    categories = [frozenset(items.categories_of(item.item_id)) for item in ranked]
    alike = np.zeros(len(ranked))
    open_ = np.ones(len(ranked), np.bool_)
    chosen: list[RankedItem] = []
    while len(chosen) < min(k, len(ranked)):
        value = np.where(open_, (1 - weight) * relevance - weight * alike, -np.inf)
        best = int(np.argmax(value))
        chosen.append(ranked[best])
        open_[best] = False
        alike = np.maximum(alike, [jaccard(categories[best], other) for other in categories])
    return chosen


def jaccard(a: frozenset[str], b: frozenset[str]) -> float:
    """|a & b| / |a | b|, 0 for two empty sets.

    >>> jaccard(frozenset("ab"), frozenset("bc"))
    0.3333333333333333
    """
    return len(a & b) / len(a | b) if a and b else 0.0
