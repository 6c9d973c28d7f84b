"""How sure it is that a state says something of what comes next."""

import numpy as np

from processors.quality import best_of, binomial_significances
from processors.sequence import HeaviestStates, TransitionCounts


def best_followers(
    counts: TransitionCounts, listed: HeaviestStates, time_s: float, owners: np.ndarray | None = None
) -> list[float]:
    """-log10 p of the heaviest state of each listed context, against its share of all that everybody does, or its owner does.

    ``listed`` is what ``counts.heaviest`` gives for the contexts (and ``owners``). The best of m states is taken for the best of
    m tries; 0 where nothing is known to follow.
    """
    first, weight = listed.states[:, 0], listed.counts[:, 0]
    if owners is None:
        anywhere, every = counts.counts_anywhere(first, time_s), np.full(len(first), counts.total(None, time_s))
    else:
        anywhere, every = counts.counts_of_owners(owners, first, time_s)
    # What follows the context is part of all, also where the counts of all have reached a bound.
    share = np.minimum(np.maximum(anywhere, weight) / np.where(every > 0, every, 1.0), 1.0)
    raw = binomial_significances(weight, np.maximum(listed.total, weight), share)
    raw = np.where(every > 0, raw, 0.0)
    return [best_of(one, tried) for one, tried in zip(raw.tolist(), listed.held.tolist(), strict=True)]
