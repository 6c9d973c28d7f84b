"""Compiling ahead of the first event."""

from __future__ import annotations

import numpy as np

from processors.growing import roomy_zeros
from processors.sequence.contexts import spread_contexts
from processors.sequence.frequent import FrequentSequences
from processors.sequence.graph import BehaviourGraph
from processors.sequence.moves import moves_between
from processors.sequence.sessions import Sessions
from processors.sequence.sketches import UserSketches
from processors.sequence.tables import CONTEXT
from processors.sequence.transition_counts import TransitionCounts


def warm_up() -> None:
    """Compile (or read from numba's cache) every kernel of this package, so that no user's batch waits for it."""
    codes, times = np.arange(2000) % 13, np.arange(2000.0)
    counts = TransitionCounts(
        half_life_s=1.0, max_states_per_context=2, max_transitions=8, max_contexts=8, max_states=8
    )
    counts.update(np.stack([codes, codes // 2], 1), codes // 3, times, owners=codes % 2)
    counts.predict((1, 2), 2000.0, owner=1)
    counts.predict_recent([1, 2], 2000.0)
    counts.probabilities(1, codes[:2], 2000.0)
    counts.count(1, 2, 2000.0)
    counts.heaviest(codes[:2], 2000.0, k=2)
    counts.counts_anywhere(codes[:2], 2000.0)
    counts.counts_of_owners(codes[:2], codes[:2], 2000.0)
    TransitionCounts.from_bytes(counts.to_bytes())
    spread_contexts(roomy_zeros(4, CONTEXT), 2)  # which only large tables need
    frequent = FrequentSequences(min_support=1.0, half_life_s=1.0, max_sequences=64)
    frequent.update(*Sessions(gap_s=1e9, max_users=8).update(codes, codes, times))
    FrequentSequences.from_bytes(frequent.to_bytes())
    graph = BehaviourGraph()
    graph.update(codes // 3, codes, times)
    graph.similar([1])
    sketches = UserSketches(hashes=4)
    sketches.update(codes // 3, codes, times)
    sketches.similar_users(1)
    moves_between(codes, codes // 2, codes, codes, gap_ms=1)
