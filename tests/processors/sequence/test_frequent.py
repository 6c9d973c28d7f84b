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


def test_planted_sequence_is_told_when_it_is_frequent_and_when_it_has_grown_by_half() -> None:
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
    assert sorted(s.states for s in told) == [(1, 2), (1, 2), (1, 2, 3), (1, 2, 3), (2, 3), (2, 3)]
    assert [s.support >= 75 for s in told if s.states == (1, 2, 3)] == [False, True]
    best = frequent.frequent(times[-1], length=3)[0]
    share = 100 / 2400
    assert (best.states, best.support, best.error) == ((1, 2, 3), 100.0, 0.0)
    assert best.share == pytest.approx(100 / (400 * 4))
    assert best.lift == pytest.approx(100 / 1600 / share**2 / (100 / 2000))  # 2 begins 100 of 2000 pairs
    assert best.significance > 100


def test_sequence_that_fades_is_told_again_when_it_returns() -> None:
    frequent = FrequentSequences(min_support=3.0, half_life_s=10.0)
    states, contexts = np.tile([2, 3], 4), np.tile([[NO_STATE, 9], [NO_STATE, 2]], (4, 1))
    for start in (0.0, 1000.0):
        told = frequent.update(contexts, states, start + np.arange(8) / 8)
        assert (2, 3) in [s.states for s in told]
    assert frequent.frequent(2000.0) == []


def test_sequence_that_faded_or_came_to_be_chance_is_withdrawn() -> None:
    frequent = FrequentSequences(min_support=10.0, min_lift=2.0, half_life_s=100.0)
    others = np.arange(100, 200)
    noise = np.stack([np.full(100, NO_STATE), others], 1), others + 1
    frequent.update(*noise, np.zeros(100))
    told = frequent.update(np.tile([[NO_STATE, 1]], (30, 1)), [2] * 30, np.full(30, 1.0))
    assert [(s.states, s.lift > 2) for s in told] == [((1, 2), True)]
    assert frequent.update(*noise, np.full(100, 5.0)) == []
    told = frequent.update([[5, 6]], [7], [100.0])
    assert [(s.states, 10 < s.support < 20) for s in told] == [((1, 2), True)]  # a good half is left
    told = frequent.update([[5, 6]], [7], [300.0])
    assert [(s.states, s.support, s.lift) for s in told] == [((1, 2), 0.0, 0.0)] and frequent.watched == 0
    assert frequent.update([[5, 6]], [7], [400.0]) == []
    frequent.update(*noise, np.full(100, 405.0))
    told = frequent.update(np.tile([[NO_STATE, 1]], (30, 1)), [2] * 30, np.full(30, 410.0))
    assert [(s.states, 30 < s.support < 33) for s in told] == [((1, 2), True)]
    frequent.update(np.tile([[NO_STATE, 9]], (300, 1)), [2] * 300, np.full(300, 420.0))
    told = frequent.update([[5, 6]], [7], [430.0])
    assert [(s.states, s.support) for s in told] == [((1, 2), 0.0)] and frequent.watched == 2  # 2 follows anything


def test_sequence_of_too_few_people_is_not_told_until_there_are_enough() -> None:
    frequent = FrequentSequences(min_support=5.0, half_life_s=np.inf, min_owners=3)
    for at in range(200):
        assert frequent.update([[NO_STATE, 1], [NO_STATE, 7]], [2, 8], [at, at], [at % 2, 50 + at % 2]) == []
    assert [s.states for s in frequent.update([[NO_STATE, 1]], [2], [300.0], [3])] == [(1, 2)]


def test_lift_is_the_same_wherever_the_sequences_through_some_states_are_counted() -> None:
    rng = np.random.default_rng(5)
    chain = [rng.integers(0, 400, 40_000)]
    chain[0][::40], chain[0][1::40], chain[0][2::40] = 1000, 1001, 1002
    states = np.concatenate(chain)
    contexts, following, times = np.stack([states[:-2], states[1:-1]], 1), states[2:], np.arange(len(states) - 2.0)
    whole, part = (FrequentSequences(half_life_s=np.inf, parts=parts) for parts in (1, 4))
    whole.update(contexts, following, times)
    mine = contexts[:, 1] % 4 == 1001 % 4
    part.update(contexts[mine], following[mine], times[mine])
    for planted in ((1001, 1002), (1000, 1001, 1002)):
        one, other = whole.describe(planted, 1e6), part.describe(planted, 1e6)
        assert one.support == other.support and other.lift == pytest.approx(one.lift, rel=0.15) and one.lift > 30


def test_restart_changes_nothing() -> None:
    rng = np.random.default_rng(2)
    contexts, states, times = rng.integers(0, 4, (600, 2)), rng.integers(0, 4, 600), np.arange(600.0)
    one, other = FrequentSequences(min_support=5.0), FrequentSequences(min_support=5.0)
    owners = rng.integers(0, 9, 600)
    one.update(contexts[:300], states[:300], times[:300], owners[:300])
    other.update(contexts[:300], states[:300], times[:300], owners[:300])
    other = FrequentSequences.from_bytes(other.to_bytes())
    for step in range(300, 600, 50):
        part = slice(step, step + 50)
        columns = contexts[part], states[part], times[part] * 1e4, owners[part]
        assert one.update(*columns) == other.update(*columns)
    assert one.frequent(6e6) == other.frequent(6e6) != []


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    cuts=st.lists(st.integers(0, 400), max_size=6),
    max_sequences=st.sampled_from([56, 1000]),
)
def test_counts_of_sequences_do_not_depend_on_batches(seed: int, cuts: list[int], max_sequences: int) -> None:
    rng = np.random.default_rng(seed)
    users, states, times = rng.integers(0, 9, 400), rng.zipf(1.5, 400) % 30, np.sort(rng.uniform(0, 1e3, 400))
    columns = Sessions(gap_s=40.0).update(users, states, times)
    at_once, in_parts = (
        FrequentSequences(min_support=3.0, half_life_s=100.0, max_sequences=max_sequences) for _ in range(2)
    )
    at_once.update(*columns)
    for part in np.split(np.arange(400), sorted(cuts)):
        in_parts.update(*(column[part] for column in columns))
    assert at_once.counts.to_bytes() == in_parts.counts.to_bytes()
    exact = Counter[tuple[int, ...]]()
    for (previous, last), state, weight in zip(
        columns.contexts.tolist(), states.tolist(), (0.5 ** ((1e3 - times) / 100)).tolist(), strict=True
    ):
        if last != NO_STATE:
            exact[last, state] += weight
        if previous != NO_STATE:
            exact[previous, last, state] += weight
    for sequence, count in exact.items():
        one = at_once.describe(sequence, 1e3)
        assert one.support * (1 - 1e-9) <= count <= (one.support + one.error) * (1 + 1e-9) + 1e-12


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
    with pytest.raises(ValueError, match="growth"):
        FrequentSequences(growth=0.0)
    with pytest.raises(ValueError, match="min_owners"):
        FrequentSequences(min_owners=0)
    with pytest.raises(ValueError, match="max_keys"):
        FrequentSequences(max_sequences=55)
    with pytest.raises(ValueError, match="max_keys"):
        HeavyKeys(1.0, max_keys=1)
