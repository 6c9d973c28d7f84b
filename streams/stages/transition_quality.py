"""How sure it is that a state says something of what comes next."""

import numpy as np

from processors.quality import best_of, binomial_significance, binomial_significances
from processors.sequence import HeaviestStates, TransitionCounts


def best_follower(
    counts: TransitionCounts,
    context: int,
    time_s: float,
    states: np.ndarray,
    weights: np.ndarray,
    owner: int | None = None,
) -> float:
    """-log10 p of the heaviest of the ``states`` that follow ``context``, against its share of all that its ``owner`` does.

    ``states`` and ``weights`` are what ``counts.counts_of`` gives for the context. The best of m states is taken for the
    best of m tries.
    """
    every = counts.total(None, time_s, owner=owner)
    if not len(states) or every <= 0:
        return 0.0
    # What follows the context is part of all, also where the counts of all have reached a bound.
    anywhere = max(counts.count(None, int(states[0]), time_s, owner=owner), float(weights[0]))
    share = min(anywhere / every, 1.0)
    total = max(counts.total(context, time_s, owner=owner), float(weights[0]))
    return best_of(binomial_significance(float(weights[0]), total, share), len(states))


def best_followers(counts: TransitionCounts, listed: HeaviestStates, time_s: float) -> list[float]:
    """:func:`best_follower` of many contexts of everybody at once, from what ``counts.heaviest`` lists for them."""
    first, weight = listed.states[:, 0], listed.counts[:, 0]
    every = counts.total(None, time_s)
    if every <= 0:
        return [0.0] * len(first)
    share = np.minimum(np.maximum(counts.counts_anywhere(first, time_s), weight) / every, 1.0)
    raw = binomial_significances(weight, np.maximum(listed.total, weight), share)
    return [best_of(one, tried) for one, tried in zip(raw.tolist(), listed.held.tolist(), strict=True)]
