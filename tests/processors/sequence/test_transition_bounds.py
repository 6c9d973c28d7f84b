"""What transition counts promise at their bounds: the truth is within them, and memory stays within the setting."""

from __future__ import annotations

import itertools

import numpy as np
from exact_counts import HALF_LIFE_S, feed, oracle_of, stream
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.sequence import NO_STATE, TransitionCounts, TransitionSettings


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(50, 600), cuts=st.lists(st.integers(0, 600)), whole=st.booleans())
def test_bounds_hold_and_contain_the_truth(seed: int, n: int, cuts: list[int], whole: bool) -> None:
    columns = stream(seed, n, states=60, absent=0.0 if whole else 0.3)
    bounds = TransitionSettings(
        half_life_s=HALF_LIFE_S, max_states_per_context=4, max_contexts=24, max_transitions=40, max_states=16
    )
    counts, oracle = TransitionCounts(bounds), oracle_of(columns)
    feed(counts, columns, cuts)
    assert counts.n_contexts <= 24 and counts.n_transitions <= 40 and counts.n_states <= 16
    for key in oracle.events:
        owner, previous, last = key
        context, asked = (None if last == NO_STATE else (previous, last)), (None if owner == NO_STATE else owner)
        for state, exact in oracle.counts(key, 1000.0).items():
            low, high = counts.count_bounds(context, state, 1000.0, owner=asked)
            assert low * (1 - 1e-9) <= exact <= high * (1 + 1e-9)


def test_space_saving_error_is_at_most_the_total_over_the_bound() -> None:
    rng = np.random.default_rng(3)
    states = rng.zipf(1.3, 20_000) % 500
    counts = TransitionCounts(half_life_s=1e12, max_states_per_context=50)
    counts.update(np.zeros(20_000, np.int64), states, np.zeros(20_000))
    for state in range(500):
        low, high = counts.count_bounds(0, state, 0.0)
        assert low <= (states == state).sum() <= high
        assert high - low <= 20_000 / 50
    heavy, _ = counts.counts_of(0, 0.0)
    assert {s for s in range(500) if (states == s).sum() > 20_000 / 50} <= set(heavy.tolist())


def test_eviction_error_is_at_most_eight_sevenths_of_the_total_over_the_bound() -> None:
    rng = np.random.default_rng(4)
    contexts = np.where(rng.random(30_000) < 0.4, rng.integers(0, 20, 30_000), rng.integers(100, 10**9, 30_000))
    counts = TransitionCounts(half_life_s=1e12, max_contexts=200)
    changes = counts.update(contexts, np.ones(30_000, np.int64), np.zeros(30_000))
    low, high = counts.count_bounds(-1, 1, 0.0)
    assert (low, counts.n_contexts <= 200) == (0.0, True) and high <= 8 / 7 * 30_000 / 200
    assert all(counts.count(c, 1, 0.0) > 0 for c in range(20))
    assert counts.evicted_contexts == len(changes.evicted) > 10_000


def test_memory_stays_within_the_bound_when_everything_is_new() -> None:
    counts = TransitionCounts(max_contexts=4096, max_transitions=8192, max_states=4096, max_states_per_context=64)
    sizes = []
    for start in range(0, 400_000, 20_000):
        codes = np.arange(start, start + 20_000)
        counts.update(codes, codes + 10**9, codes.astype(float))
        sizes.append(counts.nbytes)
    assert max(sizes) < 8192 * 100 + 4096 * (2 * 64 + 2 * 32)


def test_full_bank_seldom_needs_other_memory_than_it_has() -> None:
    rng = np.random.default_rng(5)
    counts = TransitionCounts(half_life_s=1e12, max_contexts=2048, max_transitions=8192)
    arenas = []
    for _ in range(60):
        counts.update(rng.zipf(1.2, 5_000) % 10_000, rng.integers(0, 50, 5_000), np.zeros(5_000))
        arenas.append(counts.tables.entries)
    moved = sum(one is not before for before, one in itertools.pairwise(arenas[10:]))
    assert counts.evicted_contexts > 10_000 and moved <= 2


def test_ties_are_broken_by_code_whatever_the_history() -> None:
    orders = [np.random.default_rng(seed).permutation(24) for seed in range(40)]
    for order in orders:
        counts = TransitionCounts(max_states_per_context=24, max_states=64)
        counts.update(np.zeros(24, np.int64), order, np.zeros(24))
        counts.update([0], [99], [0.0])
        held, _ = counts.counts_of(0, 0.0)
        assert set(held.tolist()) == {*range(1, 24), 99}
