"""Heavy keys and frequent sequences against exact counts and planted sequences."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.sequence import NO_STATE, FrequentSequences, HeavyKeys, Sessions


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    max_keys=st.integers(8, 400),
    cuts=st.lists(st.integers(0, 500), max_size=8),
    half_life_s=st.sampled_from([1.0, 50.0, np.inf]),
)
def test_heavy_keys_hold_the_truth_and_do_not_depend_on_batches(
    seed: int, max_keys: int, cuts: list[int], half_life_s: float
) -> None:
    rng = np.random.default_rng(seed)
    keys = np.minimum(rng.zipf(1.4, (500, 3)), 8)
    times, weights = np.sort(rng.uniform(0, 1000, 500)), rng.choice([1.0, 3.0], 500)
    at_once, in_parts = HeavyKeys(half_life_s, max_keys), HeavyKeys(half_life_s, max_keys)
    after = at_once.add(keys, times, weights)
    parts = []
    for part in np.split(np.arange(500), sorted(cuts)):
        parts.append(in_parts.add(keys[part], times[part], weights[part]))
        in_parts = HeavyKeys.from_bytes(in_parts.to_bytes())
    np.testing.assert_array_equal(after, np.concatenate(parts))
    assert at_once.to_bytes() != b"" and len(at_once) == len(in_parts) <= max_keys
    for one, other in zip(at_once.heaviest(1000.0), in_parts.heaviest(1000.0), strict=True):
        np.testing.assert_array_equal(one, other)
    decay = 0.5 ** ((1000.0 - times) / half_life_s)
    exact = Counter[tuple[int, ...]]()
    for key, weight in zip(map(tuple, keys.tolist()), decay * weights, strict=True):
        exact[key] += weight
    for (a, b, c), count in exact.items():
        low, high = at_once.bounds((a, b, c), 1000.0)
        assert low * (1 - 1e-9) <= count <= high * (1 + 1e-9) + 1e-12
        if at_once.dropped_keys == 0:
            assert count == pytest.approx(low)
            assert at_once.counts([(a, b, c)], 1000.0)[0] == low


def test_error_of_heavy_keys_is_at_most_eight_sevenths_of_the_total_over_the_bound() -> None:
    heavy = HeavyKeys(np.inf, max_keys=100)
    heavy.add(np.arange(90_000).reshape(-1, 3), np.zeros(30_000))
    assert heavy.bounds((-1, 0, 0), 0.0)[1] <= 8 / 7 * 30_000 / 100 and len(heavy) <= 100


def test_planted_sequence_is_told_once_with_its_support_and_lift() -> None:
    rng = np.random.default_rng(1)
    shop = [rng.integers(10, 60, 6).tolist() for _ in range(400)]
    for session in shop[::4]:
        session[1:4] = [1, 2, 3]  # view, cart, purchase
    users = np.repeat(np.arange(400), 6)
    times = np.repeat(np.arange(400) * 100.0, 6) + np.tile(np.arange(6.0), 400)
    columns = Sessions().update(users, np.concatenate(shop), times)
    frequent, told = FrequentSequences(min_support=50.0, min_lift=2.0, half_life_s=np.inf), []
    for part in np.array_split(np.arange(len(times)), 37):
        told += frequent.update(*(column[part] for column in columns[:3]))
    assert sorted(s.states for s in told) == [(1, 2), (1, 2, 3), (2, 3)]
    best = frequent.frequent(times[-1], length=3)[0]
    share = 100 / 2400
    assert (best.states, best.support, best.error) == ((1, 2, 3), 100.0, 0.0)
    assert best.share == pytest.approx(100 / (400 * 4)) and best.lift == pytest.approx(100 / 1600 / share**3)
    assert best.significance > 100


def test_sequence_that_fades_is_told_again_when_it_returns() -> None:
    frequent = FrequentSequences(min_support=3.0, half_life_s=10.0)
    states, contexts = np.tile([2, 3], 4), np.tile([[NO_STATE, 9], [NO_STATE, 2]], (4, 1))
    for start in (0.0, 1000.0):
        told = frequent.update(contexts, states, start + np.arange(8) / 8)
        assert (2, 3) in [s.states for s in told]
    assert frequent.frequent(2000.0) == []


def test_restart_changes_nothing() -> None:
    rng = np.random.default_rng(2)
    contexts, states, times = rng.integers(0, 4, (600, 2)), rng.integers(0, 4, 600), np.arange(600.0)
    one, other = FrequentSequences(min_support=5.0), FrequentSequences(min_support=5.0)
    one.update(contexts, states, times)
    other.update(contexts[:300], states[:300], times[:300])
    other = FrequentSequences.from_bytes(other.to_bytes())
    other.update(contexts[300:], states[300:], times[300:])
    assert one.frequent(600.0) == other.frequent(600.0) != []


def test_bad_input_is_named() -> None:
    frequent = FrequentSequences()
    with pytest.raises(ValueError, match="time_s"):
        frequent.update([[1, 2]], [3], [np.nan])
    with pytest.raises(ValueError, match="next_states"):
        frequent.update([[1, 2]], [3, 4], [0.0])
    with pytest.raises(ValueError, match="states"):
        frequent.describe((1,), 0.0)
    with pytest.raises(ValueError, match="min_support"):
        FrequentSequences(min_support=0.0)
    with pytest.raises(ValueError, match="max_keys"):
        HeavyKeys(1.0, max_keys=1)
