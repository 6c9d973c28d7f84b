"""Decayed transition counts against the definition, and what they promise at their bounds."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.sequence import NO_STATE, TransitionCounts, TransitionSettings

HALF_LIFE_S = 100.0
Key = tuple[int, int, int]


def chain(owner: int, previous: int, last: int) -> list[Key]:
    """The contexts of an event from general to special, order 0 first."""
    keys = [(NO_STATE, NO_STATE, NO_STATE)]
    if owner != NO_STATE:
        keys.append((owner, NO_STATE, NO_STATE))
    if last != NO_STATE:
        keys.append((owner, NO_STATE, last))
        if previous != NO_STATE:
            keys.append((owner, previous, last))
    return keys


class ExactCounts:
    """The oracle: every transition kept, every count and probability computed from its definition."""

    def __init__(self, half_life_s: float) -> None:
        self.half_life_s = half_life_s
        self.events: dict[Key, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))

    def add(self, owner: int, previous: int, last: int, state: int, time_s: float) -> None:
        for key in chain(owner, previous, last):
            self.events[key][state].append(time_s)

    def counts(self, key: Key, time_s: float) -> dict[int, float]:
        return {
            state: sum(2.0 ** (-(time_s - t) / self.half_life_s) for t in times)
            for state, times in self.events.get(key, {}).items()
        }

    def probabilities(self, owner: int, previous: int, last: int, time_s: float) -> dict[int, float]:
        zero, *contexts = chain(owner, previous, last)
        popular = self.counts(zero, time_s)
        mixed = {state: count / sum(popular.values()) for state, count in popular.items()}
        for key in contexts:
            escape = 10.0 if key[1] != NO_STATE else 1.0
            counts = self.counts(key, time_s)
            if counts:
                total, types = sum(counts.values()), escape * sum(min(1.0, count) for count in counts.values())
                mixed = {s: (counts.get(s, 0.0) + types * p) / (total + types) for s, p in mixed.items()}
        return mixed


def stream(
    seed: int, n: int, states: int, span_s: float = 1000.0, absent: float = 0.15
) -> dict[str, np.ndarray[Any, Any]]:
    rng = np.random.default_rng(seed)
    columns = {name: rng.integers(-3, states - 3, n) for name in ("owner", "previous", "last", "state")}
    for name in ("owner", "previous", "last"):
        columns[name][rng.random(n) < absent] = NO_STATE
    columns["time_s"] = rng.uniform(0, span_s, n)
    return columns


def feed(counts: TransitionCounts, columns: dict[str, np.ndarray[Any, Any]], cuts: list[int]) -> None:
    contexts = np.stack([columns["previous"], columns["last"]], 1)
    for part in np.split(np.arange(len(contexts)), sorted(cuts)):
        counts.update(contexts[part], columns["state"][part], columns["time_s"][part], owners=columns["owner"][part])


def oracle_of(columns: dict[str, np.ndarray[Any, Any]], half_life_s: float = HALF_LIFE_S) -> ExactCounts:
    oracle = ExactCounts(half_life_s)
    for row in zip(*(columns[name].tolist() for name in ("owner", "previous", "last", "state", "time_s")), strict=True):
        oracle.add(*row)
    return oracle


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 300), states=st.integers(1, 30), cuts=st.lists(st.integers(0, 300)))
def test_unbounded_counts_and_probabilities_equal_the_definition(
    seed: int, n: int, states: int, cuts: list[int]
) -> None:
    columns = stream(seed, n, states)
    counts, oracle = TransitionCounts(half_life_s=HALF_LIFE_S), oracle_of(columns)
    feed(counts, columns, cuts)
    now = 1200.0
    for key in oracle.events:
        owner, previous, last = key
        context = None if last == NO_STATE else (previous, last)
        asked = None if owner == NO_STATE else owner
        held, weights = counts.counts_of(context, now, owner=asked)
        expected = oracle.counts(key, now)
        assert set(held.tolist()) == set(expected)
        np.testing.assert_allclose(weights, [expected[s] for s in held.tolist()], rtol=1e-9)
        assert counts.total(context, now, owner=asked) == pytest.approx(sum(expected.values()), rel=1e-9)
        mixed = oracle.probabilities(*key, now)
        predicted, shares = counts.predict(context, now, k=len(mixed) + 5, owner=asked)
        assert len(predicted) == len(mixed) and sum(shares) == pytest.approx(1.0)
        np.testing.assert_allclose(shares, [mixed[s] for s in predicted.tolist()], rtol=1e-9)
        np.testing.assert_allclose(shares, sorted(mixed.values(), reverse=True), rtol=1e-9)
        np.testing.assert_array_equal(counts.probabilities(context, predicted, now, owner=asked), shares)


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


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), cuts=st.lists(st.integers(0, 400), max_size=20), bounded=st.booleans())
def test_result_does_not_depend_on_the_batches_nor_on_a_restart(seed: int, cuts: list[int], bounded: bool) -> None:
    columns = stream(seed, 400, states=40, span_s=HALF_LIFE_S * 900)
    columns["time_s"].sort()
    bounds = (
        TransitionSettings(
            half_life_s=HALF_LIFE_S, max_states_per_context=3, max_contexts=20, max_states=8, max_transitions=40
        )
        if bounded
        else TransitionSettings(half_life_s=HALF_LIFE_S)
    )
    at_once, in_parts = TransitionCounts(bounds), TransitionCounts(bounds)
    feed(at_once, columns, [])
    contexts = np.stack([columns["previous"], columns["last"]], 1)
    for part in np.split(np.arange(400), sorted(cuts)):
        in_parts.update(contexts[part], columns["state"][part], columns["time_s"][part], owners=columns["owner"][part])
        in_parts = TransitionCounts.from_bytes(in_parts.to_bytes())
    assert at_once.contexts().tolist() == in_parts.contexts().tolist()
    assert at_once.evicted_contexts == in_parts.evicted_contexts
    now = float(columns["time_s"][-1])
    for owner, previous, last in at_once.contexts().tolist():
        context, asked = (None if last == NO_STATE else (previous, last)), (None if owner == NO_STATE else owner)
        for one, other in zip(
            at_once.predict(context, now, 30, asked), in_parts.predict(context, now, 30, asked), strict=True
        ):
            np.testing.assert_array_equal(one, other)
        for one, other in zip(
            at_once.counts_of(context, now, asked), in_parts.counts_of(context, now, asked), strict=True
        ):
            np.testing.assert_array_equal(one, other)


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


def test_one_context_before_all_its_states_are_followed_by_others_predicts_plain_shares() -> None:
    counts = TransitionCounts(half_life_s=10.0)
    counts.update([7] * 4, [1, 1, 2, 3], [0.0, 10.0, 10.0, 0.0])
    states, probabilities = counts.predict(7, 10.0)
    assert states.tolist() == [1, 2, 3]
    np.testing.assert_allclose(probabilities, [0.5, 1 / 3, 1 / 6])


def test_unknown_context_falls_back_to_what_is_popular() -> None:
    counts = TransitionCounts()
    counts.update([1, 1, 2], [5, 5, 6], [0.0, 0.0, 0.0])
    for context in (99, (1, 99), (NO_STATE, NO_STATE), None):
        states, probabilities = counts.predict(context, 0.0, k=1)
        assert states.tolist() == [5] and probabilities.tolist() == [pytest.approx(2 / 3)]


def test_recent_states_speak_each_through_its_own_context() -> None:
    columns = stream(5, 400, states=12)
    counts = TransitionCounts(half_life_s=HALF_LIFE_S)
    feed(counts, columns | {"owner": np.full(400, NO_STATE)}, [])
    recent, states = [3, 99, 5], np.arange(-3, 9)
    each = [counts.probabilities(state, states, 900.0) for state in recent]
    expected = (each[0] + 0.5 * each[1] + 0.25 * each[2]) / 1.75
    predicted, shares = counts.predict_recent(recent, 900.0, k=12)
    np.testing.assert_allclose(shares, expected[predicted + 3])
    np.testing.assert_allclose(shares, np.sort(expected)[::-1])
    assert counts.predict_recent([3], 900.0)[0].tolist() == counts.predict(3, 900.0)[0].tolist()
    for named, arguments in (("fade", ([1], 0.0, 1, 1.0)), ("recent", ([], 0.0)), ("k must", ([1], 0.0, 0))):
        with pytest.raises(ValueError, match=named):
            counts.predict_recent(*arguments)


def test_nothing_known_predicts_nothing() -> None:
    states, probabilities = TransitionCounts().predict(1, 0.0)
    assert len(states) == len(probabilities) == 0


def test_popular_states_beyond_the_ready_list_are_found_too() -> None:
    counts = TransitionCounts(half_life_s=1e9)
    states = np.repeat(np.arange(3000), np.arange(3000) % 7 + 1)
    counts.update(np.full(len(states), NO_STATE), states, np.zeros(len(states)))
    predicted, probabilities = counts.predict(None, 0.0, k=3000)
    expected = sorted(range(3000), key=lambda s: (-(s % 7 + 1), s))
    assert predicted.tolist() == expected and probabilities.sum() == pytest.approx(1.0)


@pytest.mark.parametrize("k", [1, 290, 400, 700, 1000])
def test_popular_states_outrank_what_has_faded_in_a_row_whether_listed_or_not(k: int) -> None:
    counts = TransitionCounts(half_life_s=1.0)
    counts.update(np.ones(300, np.int64), np.arange(10_000, 10_300), np.zeros(300))
    popular = np.repeat(np.arange(3000), np.arange(3000) % 7 + 1)
    counts.update(np.full(len(popular), NO_STATE), popular, np.full(len(popular), 40.0))
    counts.update([1], [5], [40.0])
    known = np.r_[np.arange(3000), np.arange(10_000, 10_300)]
    share = counts.probabilities(1, known, 40.0)
    expected = known[np.lexsort((known, -share))][:k]
    assert counts.predict(1, 40.0, k=k)[0].tolist() == expected.tolist()


def test_ties_are_broken_by_code_whatever_the_history() -> None:
    orders = [np.random.default_rng(seed).permutation(24) for seed in range(40)]
    for order in orders:
        counts = TransitionCounts(max_states_per_context=24, max_states=64)
        counts.update(np.zeros(24, np.int64), order, np.zeros(24))
        counts.update([0], [99], [0.0])
        held, _ = counts.counts_of(0, 0.0)
        assert set(held.tolist()) == {*range(1, 24), 99}


def test_late_event_counts_as_if_it_had_come_in_order() -> None:
    late, ordered = TransitionCounts(half_life_s=50.0), TransitionCounts(half_life_s=50.0)
    late.update([1, 1], [2, 3], [500.0, 100.0])
    ordered.update([1, 1], [3, 2], [100.0, 500.0])
    assert late.count(1, 3, 500.0) == pytest.approx(2.0**-8) == pytest.approx(ordered.count(1, 3, 500.0))


def test_counts_survive_thousands_of_half_lives() -> None:
    counts = TransitionCounts(half_life_s=1.0)
    counts.update([1] * 5, [2] * 5, [0.0, 3000.0, 9000.0, 9001.0, 1e9])
    assert counts.count(1, 2, 1e9) == 1.0
    counts.update([4], [5], [2e9])
    assert counts.n_contexts == 1 and counts.predict(4, 2e9)[0].tolist() == [5]
    assert counts.predict(4, 2e9)[1].tolist() == [1.0] and counts.total(None, 2e9) == 1.0


def test_infinite_half_life_gives_plain_counts() -> None:
    counts = TransitionCounts(half_life_s=float("inf"))
    counts.update([1, 1, 1], [2, 2, 3], [-5.0, 0.0, 1e9])
    counts = TransitionCounts.from_bytes(counts.to_bytes())
    assert counts.counts_of(1, 2e9)[1].tolist() == [2.0, 1.0]


def test_touched_names_each_context_of_the_batch_once() -> None:
    counts = TransitionCounts()
    counts.update([9], [1], [0.0])
    changes = counts.update([[1, 2], [1, 2], [NO_STATE, 3]], [5, 6, 7], [0.0, 0.0, 0.0])
    assert changes.touched.tolist() == [[NO_STATE, NO_STATE, 2], [NO_STATE, 1, 2], [NO_STATE, NO_STATE, 3]]
    assert changes.evicted.shape == (0, 3)


def test_novel_says_what_an_owner_or_a_context_had_never_met() -> None:
    counts = TransitionCounts()
    assert counts.update([1, 1, 1, 2], [5, 5, 6, 5], np.zeros(4)).novel.tolist() == [True, False, True, True]
    owned = counts.update([NO_STATE, 1, 2], [5, 5, 6], np.zeros(3), owners=[8, 8, 8]).novel
    assert owned.tolist() == [True, False, True]


def test_weights_count_as_that_many_events() -> None:
    weighted, repeated = TransitionCounts(), TransitionCounts()
    weighted.update([1, 1], [2, 3], [0.0, 0.0], weights=[3.0, 1.0])
    repeated.update([1] * 4, [2, 2, 2, 3], np.zeros(4))
    assert weighted.predict(1, 0.0)[1].tolist() == repeated.predict(1, 0.0)[1].tolist()


def test_rows_restore_a_bank() -> None:
    columns = stream(1, 500, states=20)
    counts, restored = TransitionCounts(half_life_s=HALF_LIFE_S), TransitionCounts(half_life_s=HALF_LIFE_S)
    feed(counts, columns, [])
    for _ in range(2):
        for owner, previous, last in counts.contexts().tolist():
            context, asked = (None if last == NO_STATE else (previous, last)), (None if owner == NO_STATE else owner)
            payload = counts.context_to_bytes(context, owner=asked)
            assert payload is not None
            restored.load_context(payload)
        popularity = counts.context_to_bytes(None)
        assert popularity is not None
        restored.load_context(popularity)
    assert restored.n_contexts == counts.n_contexts and restored.n_transitions == counts.n_transitions
    more = stream(2, 200, states=20)
    feed(counts, more, []), feed(restored, more, [])
    for owner, previous, last in counts.contexts().tolist():
        context, asked = (None if last == NO_STATE else (previous, last)), (None if owner == NO_STATE else owner)
        for one, other in zip(
            counts.predict(context, 1e3, 9, asked), restored.predict(context, 1e3, 9, asked), strict=True
        ):
            np.testing.assert_array_equal(one, other)


def test_row_of_an_unknown_context_is_a_tombstone() -> None:
    assert TransitionCounts().context_to_bytes(3) is None


def test_row_is_scaled_to_the_bank_it_is_put_in() -> None:
    old, new = TransitionCounts(half_life_s=1.0), TransitionCounts(half_life_s=1.0)
    old.update([1], [2], [10.0])
    new.update([3], [4], [15.0])
    payload = old.context_to_bytes(1)
    assert payload is not None
    new.load_context(payload)
    assert new.count(1, 2, 15.0) == 2.0**-5 and new.count(3, 4, 15.0) == 1.0


@pytest.mark.parametrize(
    ("error", "named", "arguments"),
    [
        (ValueError, "time_s", ([1], [2], [np.nan])),
        (ValueError, "time_s", ([1], [2], [np.inf])),
        (ValueError, "time_s", ([1], [2], [1e300])),
        (ValueError, "time_s", ([1], [2], [0.0, 1.0])),
        (ValueError, "contexts", ([1, 2], [2], [0.0])),
        (ValueError, "contexts", ([[1, 2, 3]], [2], [0.0])),
        (ValueError, "next_states", ([1], [NO_STATE], [0.0])),
        (ValueError, "next_states", ([1], [[2]], [0.0])),
        (TypeError, "contexts", ([1.5], [2], [0.0])),
        (TypeError, "next_states", ([1], ["a"], [0.0])),
        (TypeError, "owners", ([1], [2], [0.0], [0.5])),
        (ValueError, "owners", ([1], [2], [0.0], [1, 2])),
        (ValueError, "weights", ([1], [2], [0.0], None, [0.0])),
        (ValueError, "weights", ([1], [2], [0.0], None, [np.nan])),
    ],
)
def test_bad_input_is_named_and_changes_nothing(error: type[Exception], named: str, arguments: tuple[Any, ...]) -> None:
    counts = TransitionCounts()
    counts.update([1], [2], [0.0])
    before = counts.to_bytes()
    with pytest.raises(error, match=named):
        counts.update(*arguments)
    assert counts.to_bytes() == before


@pytest.mark.parametrize(
    "fields",
    [
        {"half_life_s": 0.0},
        {"half_life_s": float("nan")},
        {"max_states_per_context": 1},
        {"max_contexts": 0},
        {"max_transitions": 10},
        {"max_states": 1},
        {"escape_by_order": (1.0, 0.0, 1.0)},
    ],
)
def test_settings_out_of_range_are_named(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(fields))):
        TransitionCounts(**fields)


def test_damaged_payload_is_refused() -> None:
    counts = TransitionCounts()
    for payload in (b"", b"\x00\x01", b"\x93\x01\x02\x03"):
        with pytest.raises(ValueError, match="payload"):
            TransitionCounts.from_bytes(payload)
        with pytest.raises(ValueError, match="payload"):
            counts.load_context(payload)


def test_empty_batch_changes_nothing() -> None:
    counts = TransitionCounts()
    changes = counts.update([], [], [])
    assert len(changes.touched) == 0 and counts.n_states == 0


def test_chain_of_the_oracle_is_the_documented_one() -> None:
    assert chain(NO_STATE, 1, 2)[1:] == [(NO_STATE, NO_STATE, 2), (NO_STATE, 1, 2)]


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


def test_heaviest_refuses_what_it_cannot_answer() -> None:
    counts = TransitionCounts()
    with pytest.raises(ValueError, match="k must be"):
        counts.heaviest(np.arange(2), 0.0, 0)
    counts.update(np.array([1]), np.array([2]), np.zeros(1))
    with pytest.raises(ValueError, match="finite"):
        counts.heaviest(np.array([1]), np.nan, 1)
