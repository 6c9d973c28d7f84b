"""Many contexts, states and owners are read at once as each would be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.sequence import NO_STATE, TransitionCounts


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), k=st.integers(1, 6))
def test_heaviest_states_of_many_contexts_are_those_of_each(seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    counts = TransitionCounts(half_life_s=50.0, max_states_per_context=5)
    owners, contexts, states = rng.integers(0, 3, 200), rng.integers(0, 4, 200), rng.integers(0, 9, 200)
    counts.update(contexts, states, rng.integers(0, 4, 200) * 10.0, owners=owners)
    asked = np.arange(5)  # the last one is not held
    times = 40.0 + asked
    listed = counts.heaviest(asked, times, k, owners=asked % 3)
    for row in range(5):
        expected, weights = counts.counts_of(row, times[row], owner=row % 3)
        held = min(k, len(expected))
        assert listed.states[row].tolist() == expected[:k].tolist() + [NO_STATE] * (k - held)
        np.testing.assert_allclose(listed.counts[row, :held], weights[:k], rtol=1e-12)
        assert listed.total[row] == pytest.approx(counts.total(row, times[row], owner=row % 3))
        assert listed.held[row] == len(expected)


def test_heaviest_refuses_what_it_cannot_answer() -> None:
    counts = TransitionCounts()
    with pytest.raises(ValueError, match="k must be"):
        counts.heaviest(np.arange(2), 0.0, 0)
    counts.update(np.array([1]), np.array([2]), np.zeros(1))
    with pytest.raises(ValueError, match="finite"):
        counts.heaviest(np.array([1]), np.nan, 1)


def test_counts_anywhere_are_those_of_order_zero() -> None:
    counts = TransitionCounts(half_life_s=50.0)
    counts.update(np.array([1, 2, 1]), np.array([5, 5, 6]), np.array([0.0, 10.0, 20.0]))
    assert counts.counts_anywhere([5, 6, 7], 30.0) == pytest.approx([counts.count(None, s, 30.0) for s in (5, 6, 7)])


def test_counts_of_many_owners_are_those_of_each() -> None:
    rng = np.random.default_rng(3)
    counts = TransitionCounts(half_life_s=50.0, max_states_per_context=4)
    owners, states = rng.integers(0, 5, 300), rng.integers(0, 8, 300)
    counts.update(rng.integers(0, 4, 300), states, rng.uniform(0, 40, 300), owners=owners)
    asked, wanted = (
        np.repeat(np.arange(6), 9),
        np.tile(np.arange(9), 6),
    )  # an owner and a state that are not held among them
    found, total = counts.counts_of_owners(asked, wanted, 40.0)
    pairs = list(zip(asked.tolist(), wanted.tolist(), strict=True))
    assert found == pytest.approx([counts.count(None, state, 40.0, owner=owner) for owner, state in pairs])
    assert total == pytest.approx([counts.total(None, 40.0, owner=owner) for owner, _ in pairs])
    assert 0 < np.count_nonzero(found) < len(found)
    with pytest.raises(ValueError, match="shape"):
        counts.counts_of_owners([1], [1, 2], 40.0)
