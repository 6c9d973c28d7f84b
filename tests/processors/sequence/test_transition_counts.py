"""Decayed transition counts against the definition, and the input that they refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from exact_counts import HALF_LIFE_S, chain, feed, oracle_of, stream
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.sequence import NO_STATE, TransitionCounts


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


@pytest.mark.parametrize(
    ("error", "named", "arguments"),
    [
        (ValueError, "time_s", ([1], [2], [np.nan])),
        (ValueError, "time_s", ([1], [2], [np.inf])),
        (ValueError, "time_s", ([1], [2], [1e300])),
        (ValueError, "time_s", ([1], [2], [0.0, 1.0])),
        (TypeError, "time_s", ([1], [2], np.array(["2025-01-01"], "datetime64[us]"))),
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


def test_empty_batch_changes_nothing() -> None:
    counts = TransitionCounts()
    changes = counts.update([], [], [])
    assert len(changes.touched) == 0 and counts.n_states == 0


def test_chain_of_the_oracle_is_the_documented_one() -> None:
    assert chain(NO_STATE, 1, 2)[1:] == [(NO_STATE, NO_STATE, 2), (NO_STATE, 1, 2)]
